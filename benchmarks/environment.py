"""Speed and memory of the environment beside Gymnasium's CartPole and SB3's DummyVecEnv, in one run.

Every figure is the best of several repetitions, its partner measured in turn with it. Actions are random
and legal, drawn beforehand.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence

import gymnasium as gym
import numpy as np
from stable_baselines3.common.env_util import make_vec_env as sb3_make_vec_env

import elpa_env
from agents import make_vec_env

N_VECTOR = 4096
N_SB3 = 256
REPEATS = 7


def legal_actions(env_steps: int, n: int, seed: int = 0) -> np.ndarray:
    """(env_steps, n) rows and groups in range, in the order that an episode asks for them."""
    rng = np.random.default_rng(seed)
    return rng.integers(6, size=(env_steps, n))


def single(make: Callable[[], gym.Env], limit: int, steps: int = 20_000) -> Callable[[], float]:
    """Steps per second of one environment."""
    env = make()
    actions = np.random.default_rng(0).integers(limit, size=steps).tolist()

    def run() -> float:
        env.reset(seed=0)
        started = time.perf_counter()
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return steps / (time.perf_counter() - started)

    return run


def vector(env: gym.vector.VectorEnv, actions: np.ndarray) -> Callable[[], float]:
    """Environment steps per second of a vector environment."""

    def run() -> float:
        env.reset(seed=0)
        started = time.perf_counter()
        for action in actions:
            env.step(action)
        return actions.size / (time.perf_counter() - started)

    return run


def sb3(env: object, steps: int) -> Callable[[], float]:
    """Environment steps per second of an SB3 VecEnv."""
    actions = legal_actions(steps, env.num_envs)

    def run() -> float:
        env.reset()
        started = time.perf_counter()
        for action in actions:
            env.step(action)
        return actions.size / (time.perf_counter() - started)

    return run


def in_turn(*runs: Callable[[], float]) -> list[list[float]]:
    """Figures of each run, one repetition of all before the next."""
    table = [[run() for run in runs] for _ in range(REPEATS)]
    return [list(column) for column in zip(*table, strict=True)]


def report(title: str, ours: Sequence[float], theirs: Sequence[float], target: float, unit: float) -> None:
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    ratio = ratios[len(ratios) // 2]
    verdict = "reached" if ratio >= target else "missed"
    print(
        f"| {title} | {np.median(ours) / unit:.2f} | {np.median(theirs) / unit:.2f} | "
        f"{ratio:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) | >= {target:g} | {verdict} |"
    )


def make_times() -> tuple[float, float]:
    """Seconds of the first `gym.make` after import, and the median of later ones."""
    code = (
        "import time, gymnasium as gym, elpa_env, numpy as np\n"
        "def make():\n"
        "    t = time.perf_counter(); gym.make('Elpasolite-v0').reset(); return time.perf_counter() - t\n"
        "first = make(); print(first, np.median([make() for _ in range(100)]))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    first, later = np.median([[float(x) for x in run.split()] for run in runs], axis=0)
    return first, later


def import_seconds() -> float:
    """Seconds that `import elpa_env` takes once numpy, pandas and gymnasium are there."""
    code = (
        "import numpy, pandas, gymnasium, time; t = time.perf_counter(); import elpa_env;"
        "print(time.perf_counter() - t)"
    )
    run = [sys.executable, "-c", code]
    return float(
        np.median(
            [float(subprocess.run(run, capture_output=True, text=True, check=True).stdout) for _ in range(3)]
        )
    )


def memory_per_environment() -> float:
    """Bytes that one more environment costs a vector environment, after a step."""

    def size(n: int) -> int:
        tracemalloc.start()
        env = elpa_env.ElpasoliteVectorEnv(n, target_class=None, masking="composition")
        env.reset(seed=0)
        env.step(np.zeros(n, dtype=np.int64))
        used = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return used

    size(1)
    return (size(20_000) - size(10_000)) / 10_000


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, numpy {np.__version__}, ")
    print(f"gymnasium {gym.__version__}; medians of {REPEATS}, ratios pair by pair (min-max)\n")
    print("| what | ours | theirs | ratio | target | verdict |")
    print("| --- | --- | --- | --- | --- | --- |")
    steps = 360
    cartpole = gym.make_vec("CartPole-v1", N_VECTOR, vectorization_mode="vector_entry_point")
    ours = gym.make_vec("Elpasolite-v0", N_VECTOR, vectorization_mode="vector_entry_point")
    unmasked = np.random.default_rng(0).integers(8, size=(steps, N_VECTOR))
    figures = in_turn(
        vector(ours, legal_actions(steps, N_VECTOR)),
        vector(cartpole, legal_actions(steps, N_VECTOR) % 2),
        vector(ours, unmasked),
    )
    report(f"vector, {N_VECTOR:,} environments, million steps/s", figures[0], figures[1], 2, 1e6)
    report("the same, actions out of range included", figures[2], figures[1], 1, 1e6)
    figures = in_turn(
        single(lambda: gym.make("Elpasolite-v0"), 6), single(lambda: gym.make("CartPole-v1"), 2)
    )
    report("single, gym.make, thousand steps/s", figures[0], figures[1], 0.8, 1e3)
    figures = in_turn(
        sb3(make_vec_env(N_SB3, seed=0), 180),
        sb3(sb3_make_vec_env("Elpasolite-v0", n_envs=N_SB3, seed=0), 18),
    )
    report(f"SB3 adapter against DummyVecEnv, {N_SB3}, thousand steps/s", figures[0], figures[1], 10, 1e3)
    first, later = make_times()
    print(f"\nfirst gym.make and reset after import: {first:.3f} s (target 0.3 s)")
    print(f"later ones: {later * 1e3:.2f} ms (target 5 ms)")
    print(f"import of elpa_env beyond its dependencies: {import_seconds():.3f} s (target 0.5 s)")
    print(f"memory of one more environment in a vector: {memory_per_environment():.0f} bytes (target 1,024)")


if __name__ == "__main__":
    main()
