"""Time and memory of exact evaluation: the pass down the tree, and 25 million samples drawn from it.

The networks have random weights, which take the same time as trained ones and reach every state that a
composition can follow.

    python benchmarks/tree.py
"""

from __future__ import annotations

import argparse
import platform
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from stable_baselines3 import PPO

from agents import AgentSampler, BoltzmannDQN, BoundedQPolicy, make_vec_env
from elpa_env.space import ELPASOLITE_SPACE as space
from eval.exact import count_distribution, exact_score
from eval.judge import load_judge
from eval.scoring import score_tally

TARGET_CLASS = 1
N_DRAWS = 25_000_000
N_KEPT = 1_000_000
BETAS = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, np.inf)


def q_agent(policy: Any, layers: list[int]) -> AgentSampler:
    """An agent that has learned nothing."""
    network = {"net_arch": layers}
    model = BoltzmannDQN(
        policy, None, target_class=TARGET_CLASS, policy_kwargs=network, seed=0, buffer_size=1, device="cpu"
    )
    return AgentSampler(model)


def actor_critic(layers: list[int]) -> AgentSampler:
    """A PPO that has learned nothing."""
    env = make_vec_env(1, seed=0, target_class=TARGET_CLASS)
    network = {"net_arch": layers}
    return AgentSampler(
        PPO("MlpPolicy", env, policy_kwargs=network, seed=0, device="cpu"), target_class=TARGET_CLASS
    )


def timed(call: Callable[[], Any], repeats: int = 1) -> tuple[Any, float, float]:
    """What the call gives, its seconds, and those of all processors together; the fastest of several."""
    runs = []
    for _ in range(repeats):
        started, spent = time.perf_counter(), time.process_time()
        result = call()
        runs.append((time.perf_counter() - started, time.process_time() - spent))
    return result, *min(runs)


def peak() -> float:
    """GiB that the process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def row(what: str, seconds: float, processors: float, target: float | None = None) -> None:
    verdict = "" if target is None else "reached" if seconds <= target else "missed"
    limit = "" if target is None else f"<= {target:g}"
    print(f"| {what} | {seconds:.2f} | {processors:.2f} | {limit} | {verdict} | {peak():.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    th.set_num_threads(arguments.threads)
    judge = load_judge()
    _ = space.tree.leaf_index  # made once
    print("| what | seconds | processor seconds | target | verdict | peak memory / GiB |")
    print("| --- | --- | --- | --- | --- | --- |")
    small = q_agent(BoundedQPolicy, [256] * 3)
    for what, sampler, target in (
        ("tree pass, 3 x 256, layer normalisation", small, 5.0),
        ("tree pass, 3 x 256", q_agent("MlpPolicy", [256] * 3), 5.0),
        ("tree pass, 5 x 512", q_agent("MlpPolicy", [512] * 5), 30.0),
        ("tree pass, actor and critic 2 x 64 each", actor_critic([64, 64]), None),
    ):
        run = lambda sampler=sampler: sampler.distribution(TARGET_CLASS)  # noqa: E731
        distribution, *seconds = timed(run, arguments.repeats)
        row(what, *seconds, target=target)
    _, *seconds = timed(lambda: [None for _ in small.sweep(TARGET_CLASS, BETAS)])
    row(f"frontier of {len(BETAS)} betas, 3 x 256, layer normalisation", *seconds)

    def draw() -> None:
        tally, _ = count_distribution(space, distribution, N_DRAWS, seed=0, keep=N_KEPT)
        score_tally(tally, judge=judge, target_class=TARGET_CLASS)

    _, *seconds = timed(draw, arguments.repeats)
    row(f"{N_DRAWS:,} samples drawn, counted and scored, {N_KEPT:,} kept in order", *seconds, target=10.0)
    _, *seconds = timed(
        lambda: exact_score(distribution, judge=judge, target_class=TARGET_CLASS, n_samples=N_DRAWS),
        arguments.repeats,
    )
    row("exact score", *seconds)
    print(
        f"\nFastest of {arguments.repeats}, random weights; torch threads: {arguments.threads}, "
        f"{platform.machine()}, torch {th.__version__}, numpy {np.__version__}. "
        f"Peak memory, target <= 2 GiB: {'reached' if peak() <= 2 else 'missed'}."
    )


if __name__ == "__main__":
    main()
