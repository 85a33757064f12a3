"""Speed and memory of the environment beside Gymnasium's CartPole and SB3's DummyVecEnv, in one run.

Two things are compared by measuring them in turn, several times. A row gives the median of each, and median
and range of their ratios pair by pair. Times are of the processor, so that other work on the machine disturbs
them little. Actions are drawn beforehand: legal ones evenly from all that are in range, groups 7 and 8
included, or any, as `action_space.sample()` draws them, most of which end an episode early.
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
from stable_baselines3.common.vec_env import VecEnv

import elpa_env
from agents import make_vec_env
from elpa_env.space import ELPASOLITE_SPACE as space

N_VECTOR = 4096
N_SB3 = 256
REPEATS = 15
WIDTHS, N_ACTIONS = space.states.widths, space.n_actions
N_STEPS = len(WIDTHS)


def legal_actions(env_steps: int, n: int, cycle: int = N_STEPS, seed: int = 0) -> np.ndarray:
    """(env_steps, n) actions in range, in the order that an episode asks for them.

    Args:
        env_steps: steps.
        n: environments.
        cycle: steps from one start to the next: one more where a step is a reset, its action ignored.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    widths = [*WIDTHS, N_ACTIONS][:cycle]
    return np.stack([rng.integers(widths[step % cycle], size=n) for step in range(env_steps)])


def any_actions(env_steps: int, n: int, seed: int = 0) -> np.ndarray:
    """(env_steps, n) actions as the action space draws them."""
    return np.random.default_rng(seed).integers(N_ACTIONS, size=(env_steps, n))


def bare(actions: np.ndarray, rewards: np.ndarray) -> Callable[[], float]:
    """Steps per second of the same game without observations, masks and infos: what no environment can beat.

    The state is one integer, the reward is looked up by it.
    """
    widths = np.array(WIDTHS)
    together = bool((actions == legal_actions(*actions.shape)).all())

    def run_together() -> None:
        for step, action in enumerate(actions):
            if step % N_STEPS == 0:
                code = np.zeros(len(action), dtype=np.int64)
            code = code * WIDTHS[step % N_STEPS] + action
            if step % N_STEPS == N_STEPS - 1:
                rewards.take(code)

    def run_apart() -> None:
        code, step = np.zeros((2, actions.shape[1]), dtype=np.int64)
        for action in actions:
            width = widths.take(step)
            code, legal = code * width + action, action < width
            step = step + 1
            complete = np.flatnonzero((step == N_STEPS) & legal)
            ended = np.flatnonzero((step == N_STEPS) | ~legal)
            earned = np.zeros(len(action))
            earned[ended] = -1
            earned[complete] = rewards.take(code.take(complete))
            code[ended] = step[ended] = 0

    def run() -> float:
        started = time.process_time()
        run_together() if together else run_apart()
        return actions.size / (time.process_time() - started)

    return run


def single(name: str, actions: list[int]) -> Callable[[], float]:
    """Steps per second of one environment."""
    env = gym.make(name)

    def run() -> float:
        env.reset(seed=0)
        started = time.process_time()
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return len(actions) / (time.process_time() - started)

    return run


def vector(env: gym.vector.VectorEnv, actions: np.ndarray, *, look: bool = False) -> Callable[[], float]:
    """Environment steps per second of a vector environment, whose infos someone looks at or no one does."""

    def run() -> float:
        env.reset(seed=0)
        started = time.process_time()
        for action in actions:
            *_, infos = env.step(action)
            if look:
                dict(infos)
        return actions.size / (time.process_time() - started)

    return run


def sb3(env: VecEnv, steps: int) -> Callable[[], float]:
    """Environment steps per second of an SB3 VecEnv."""
    actions = legal_actions(steps, env.num_envs)

    def run() -> float:
        env.reset()
        started = time.process_time()
        for action in actions:
            env.step(action)
        return actions.size / (time.process_time() - started)

    return run


def in_turn(*runs: Callable[[], float]) -> list[list[float]]:
    """Figures of each run, one repetition of all before the next."""
    table = [[run() for run in runs] for _ in range(REPEATS)]
    return [list(column) for column in zip(*table, strict=True)]


def report(
    title: str, ours: Sequence[float], theirs: Sequence[float], unit: float, target: float | None = None
) -> None:
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    ratio = float(np.median(ratios))
    verdict = "-" if target is None else f">= {target:g}: {'reached' if ratio >= target else 'missed'}"
    print(
        f"| {title} | {np.median(ours) / unit:.2f} | {np.median(theirs) / unit:.2f} | "
        f"{ratio:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) | {verdict} |"
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


def vector_rows() -> None:
    """Beside CartPole: legal actions, any, and the bare loop of both."""
    steps = 20 * (N_STEPS + 1)
    with_resets = legal_actions(steps, N_VECTOR, cycle=N_STEPS + 1)
    same_step = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
    rewards = space.tree.leaf_rewards(1, elpa_env.load_landscape()).astype(np.int8)
    legal, anything = legal_actions(steps, N_VECTOR), any_actions(steps, N_VECTOR)
    cartpole, *ours = in_turn(
        vector(gym.make_vec("CartPole-v1", N_VECTOR, vectorization_mode="vector_entry_point"), anything % 2),
        vector(gym.make_vec("Elpasolite-v0", N_VECTOR), with_resets),
        vector(gym.make_vec("Elpasolite-v0", N_VECTOR), anything),
        vector(gym.make_vec("Elpasolite-v0", N_VECTOR, **same_step), legal),
        vector(gym.make_vec("Elpasolite-v0", N_VECTOR, **same_step), anything),
        vector(gym.make_vec("Elpasolite-v0", N_VECTOR), with_resets, look=True),
        vector(gym.make_vec("Elpasolite-v0", N_VECTOR), anything, look=True),
        bare(legal, rewards),
        bare(anything, rewards),
    )
    titles = (
        ("legal actions", 3),
        ("`action_space.sample()`", 1.5),
        ("legal actions, reset in the same step", None),
        ("`action_space.sample()`, reset in the same step", None),
        ("legal actions, every info looked at", None),
        ("`action_space.sample()`, every info looked at", None),
        ("bare NumPy loop, legal actions", None),
        ("bare NumPy loop, `action_space.sample()`", None),
    )
    for (title, target), figures in zip(titles, ours, strict=True):
        report(f"vector of {N_VECTOR:,}, million steps/s: {title}", figures, cartpole, 1e6, target)


def main() -> None:
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, numpy {np.__version__},")
    print(f"gymnasium {gym.__version__}; medians of {REPEATS}, ratios pair by pair (range)\n")
    print("| what | ours | theirs | ratio | target |")
    print("| --- | --- | --- | --- | --- |")
    vector_rows()
    steps = 20_000
    figures = in_turn(
        single("Elpasolite-v0", legal_actions(steps, 1).ravel().tolist()),
        single("CartPole-v1", (any_actions(steps, 1).ravel() % 2).tolist()),
    )
    report("single, gym.make, thousand steps/s: legal actions", figures[0], figures[1], 1e3, 0.8)
    figures = in_turn(
        sb3(make_vec_env(N_SB3, seed=0), 160),
        sb3(sb3_make_vec_env("Elpasolite-v0", n_envs=N_SB3, seed=0), 16),
    )
    report(f"SB3 adapter against DummyVecEnv, {N_SB3}, thousand steps/s", figures[0], figures[1], 1e3, 10)
    first, later = make_times()
    print(f"\nfirst gym.make and reset after import: {first:.3f} s (target 0.3 s)")
    print(f"later ones: {later * 1e3:.2f} ms (target 5 ms)")
    print(f"import of elpa_env beyond its dependencies: {import_seconds():.3f} s (target 0.5 s)")
    print(f"memory of one more environment in a vector: {memory_per_environment():.0f} bytes (target 1,024)")


if __name__ == "__main__":
    main()
