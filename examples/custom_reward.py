"""A reward of your own: the same agent taught by eq. 12, by the distance to the class, and by energy.

    python examples/custom_reward.py --timesteps 50000

A reward is any callable from the atomic numbers (n, 4), energies (n,) in eV/atom, energy classes (n,) and
target classes (n,) of finished episodes to (n,) numbers. What does not exist earns -1 whatever the reward.
"""

import argparse

import numpy as np
import torch as th
from sb3_contrib import MaskablePPO

from agents import AgentSampler, make_vec_env
from eval.exact import exact_score
from eval.judge import load_judge

TARGET_CLASS = 1


def closeness(
    numbers: np.ndarray, energy: np.ndarray, energy_class: np.ndarray, target_class: np.ndarray
) -> np.ndarray:
    """1 in the class, and less with every class away from it: a hint where eq. 12 gives none."""
    return 1 - np.abs(energy_class - target_class) / 4.5


def stability(
    numbers: np.ndarray, energy: np.ndarray, energy_class: np.ndarray, target_class: np.ndarray
) -> np.ndarray:
    """The lower the energy the better, in units of 1 eV/atom; no class has an end."""
    return -energy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timesteps", type=int, default=50_000, help="for each of the three agents")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    judge = load_judge()

    print(f"{'reward':12}{'precision':>12}{'coverage':>12}{'mean eV/atom':>14}")
    for reward in (None, closeness, stability):
        game = {"target_class": TARGET_CLASS, "masking": "composition"}
        env = make_vec_env(32, seed=0, reward=reward, **game)
        agent = MaskablePPO("MlpPolicy", env, n_steps=64, batch_size=256, ent_coef=0.01, seed=0, device="cpu")
        agent.learn(arguments.timesteps)
        distribution = AgentSampler(agent, **game).distribution(TARGET_CLASS)
        score = exact_score(distribution, judge=judge, target_class=TARGET_CLASS, n_samples=10_000)
        energy = np.nansum(distribution * judge.table_energy) / distribution.sum()
        name = reward.__name__ if reward else "eq. 12"
        print(f"{name:12}{score.metrics['precision']:12.2%}{score.metrics['coverage']:12.2%}{energy:14.3f}")
    print("precision by chance: 0.19%; coverage: of the class, by 10,000 samples")


if __name__ == "__main__":
    main()
