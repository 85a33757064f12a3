"""An energy model of your own, here a regression fitted to the training set, in place of the landscape.

    python examples/own_energy_model.py --timesteps 50000

An energy model is any callable from atomic numbers (n, 4) to eV/atom (n,); the environment counts its
queries. The agent is judged by its own model, and by the landscape, of which that saw a sample.
"""

import argparse

import numpy as np
import torch as th
from sb3_contrib import MaskablePPO
from sklearn.ensemble import HistGradientBoostingRegressor

from agents import AgentSampler, make_vec_env
from elpa_env import ELPASOLITE_SPACE as space
from elpa_env import EnergyModel, load_training_set
from eval.exact import exact_score
from eval.judge import Judge, load_judge

TARGET_CLASS = 3


def fit_energy_model() -> EnergyModel:
    """Gradient boosting on the rows and groups of the four elements."""
    data = load_training_set("landscape")
    model = HistGradientBoostingRegressor(max_iter=40, learning_rate=0.3, random_state=0)
    model.fit(data.digits, data.energy)
    return lambda numbers: model.predict(space.index_to_digits(space.numbers_to_index(numbers)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timesteps", type=int, default=100_000)
    arguments = parser.parse_args()
    th.set_num_threads(1)

    energy_model = fit_energy_model()
    game = {"target_class": TARGET_CLASS, "masking": "composition"}
    env = make_vec_env(256, seed=0, energy_model=energy_model, **game)
    agent = MaskablePPO("MlpPolicy", env, n_steps=16, batch_size=256, ent_coef=0.02, seed=0, device="cpu")
    agent.learn(arguments.timesteps)
    print(f"compositions that the energy model was asked about: {env.env.n_queries:,}")

    distribution = AgentSampler(agent, **game).distribution(TARGET_CLASS)
    real = np.flatnonzero(space.composition_mask)
    energy = np.zeros(space.n_table)
    energy[real] = energy_model(space.index_to_numbers(real))
    own = Judge.from_energy("its own energy model", "a regression of the training set", energy)
    for judge, name in ((own, own.name), (load_judge("paper"), "the landscape")):
        score = exact_score(distribution, judge=judge, target_class=TARGET_CLASS, n_samples=10_000)
        chance = f"chance: {judge.class_counts[TARGET_CLASS] / len(real):.2%}"
        print(f"in class {TARGET_CLASS} by {name}: {score.metrics['precision']:.2%} ({chance})")


if __name__ == "__main__":
    main()
