"""A space too large for tables: speed beside Gymnasium's CartPole in one run, and memory.

Five sites of 60 elements, 7.8e8 entries of a table, masking "composition", an energy model that costs next to
nothing. Actions are drawn beforehand, evenly from those that the masks leave open. Both are measured in turn,
several times: median of each, and of their ratios pair by pair. Times are of the processor.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import gymnasium as gym
import numpy as np

from elpa_env import CompositionVectorEnv, Prototype, Site, periodic

N = 4096
EPISODES = 6
REPEATS = 9


def prototype() -> Prototype:
    elements = tuple(periodic.SYMBOLS[z] for z in range(1, 61))
    return Prototype("large", tuple(Site(label, elements) for label in "ABCDE"), equivalent=(("A", "B"),))


def energies(numbers: np.ndarray) -> np.ndarray:
    return numbers.sum(axis=1) / 100 - 2


def make() -> CompositionVectorEnv:
    how = {"masking": "composition", "autoreset_mode": "SameStep"}
    return CompositionVectorEnv(N, prototype=prototype(), energy_model=energies, target=(-3, -1), **how)


def open_actions(env: CompositionVectorEnv) -> np.ndarray:
    """(steps, N) actions that the masks leave open, one episode after the other."""
    rng = np.random.default_rng(0)
    _, infos = env.reset(seed=0)
    actions = []
    for _ in range(EPISODES * env.space.n_steps):
        masks = infos["action_mask"]
        actions.append(np.where(masks, rng.random(masks.shape), -1).argmax(axis=1))
        *_, infos = env.step(actions[-1])
    return np.stack(actions)


def steps_per_second(env: gym.vector.VectorEnv, actions: np.ndarray) -> Callable[[], float]:
    def run() -> float:
        env.reset(seed=0)
        started = time.process_time()
        for action in actions:
            env.step(action)
        return actions.size / (time.process_time() - started)

    return run


def main() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours = make()
    actions = open_actions(ours)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cart = gym.make_vec("CartPole-v1", N, vectorization_mode="vector_entry_point")
    pushes = np.random.default_rng(0).integers(2, size=(len(actions), N))
    runs = [steps_per_second(ours, actions), steps_per_second(cart, pushes)]
    for run in runs:
        run()
    pairs = np.array([[run() for run in runs] for _ in range(REPEATS)])
    mine, theirs = np.median(pairs, axis=0) / 1e6
    ratio = np.median(pairs[:, 0] / pairs[:, 1])
    size = ours.space.n_compositions
    print(f"{size:.3g} compositions, {N:,} environments, masking composition, {REPEATS} repeats")
    print(f"million steps/s: ours {mine:.1f}, CartPole {theirs:.1f}, ratio {ratio:.2f}")
    print(f"peak memory of the process: {peak / 1024:.0f} MiB, {before / 1024:.0f} before the environment")


if __name__ == "__main__":
    main()
