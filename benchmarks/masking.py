"""What action masks are worth: MaskablePPO against PPO, judged exactly and by the reward of episodes.

All agents have the same budget, network, hyperparameters and seeds: Stable-Baselines3's defaults, with
the rollout of 2,048 steps spread over 32 environments and minibatches of 256. They differ in their masks
alone. Every policy is walked down the tree of all compositions, so that its figures carry no sampling
noise; its success rate is the probability that an episode ends in a composition of the class. The rate
is 1 at best and counts what is no composition as a failure, as the reward does.

    python benchmarks/masking.py
"""

from __future__ import annotations

import argparse
import platform
import time
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import sb3_contrib
import stable_baselines3
import torch as th
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_maskable
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

from agents import AgentSampler, make_vec_env
from elpa_env.rules import Masking
from eval.exact import exact_score
from eval.judge import load_judge

N_ENVS, N_STEPS, BATCH_SIZE = 32, 64, 256
N_SAMPLES = 10_000
N_EPISODES = 1_000
Agent = PPO | MaskablePPO
COLUMNS = (
    "success rate",
    "valid fraction",
    "precision",
    "coverage",
    "JS distance",
    "episode reward",
    "training s",
)


def new_agent(masking: Masking | None, target_class: int, seed: int) -> Agent:
    """Build a PPO, or with masks a MaskablePPO; the rest is the same."""
    kind = MaskablePPO if masking else PPO
    env = make_vec_env(N_ENVS, seed=seed, target_class=target_class, masking=masking or "digits")
    return kind("MlpPolicy", env, n_steps=N_STEPS, batch_size=BATCH_SIZE, seed=seed, device="cpu")


def exact_figures(agent: Agent, masking: Masking | None, target_class: int) -> dict[str, float]:
    """What a policy draws if it acts behind these masks."""
    distribution = AgentSampler(agent, target_class=target_class, masking=masking).distribution(target_class)
    score = exact_score(distribution, judge=load_judge(), target_class=target_class, n_samples=N_SAMPLES)
    return {
        "success rate": score.success_rate,
        "valid fraction": score.valid_fraction,
        "precision": score.metrics["precision"],
        "coverage": score.metrics["coverage"],
        "JS distance": score.metrics["js_distance"],
    }


def episode_reward(agent: Agent, masking: Masking | None, target_class: int) -> float:
    """Mean reward of an agent that plays on, drawing its actions, in environments of their own."""
    env = make_vec_env(N_ENVS, seed=10_000, target_class=target_class, masking=masking or "digits")
    evaluate = evaluate_maskable if masking else evaluate_policy
    return float(evaluate(agent, env, N_EPISODES, deterministic=False)[0])


def train(
    masking: Masking | None, target_class: int, seed: int, budgets: list[int]
) -> Iterator[tuple[Agent, int, float]]:
    """Train one agent and yield it, with its seconds so far, whenever it has spent a budget.

    Nothing in the hyperparameters depends on the timesteps still to come, so that an agent at a small
    budget is the one that a run of that budget alone would give.
    """
    agent, seconds = new_agent(masking, target_class, seed), 0.0
    for budget in sorted(budgets):
        started = time.perf_counter()
        agent.learn(budget - agent.num_timesteps, reset_num_timesteps=False)
        seconds += time.perf_counter() - started
        yield agent, agent.num_timesteps, seconds


def benchmark(classes: list[int], seeds: range, budgets: list[int]) -> dict[tuple, list[dict[str, float]]]:
    """Figures of every seed by class, timesteps and agent."""
    rows = defaultdict(list)
    for target_class in classes:
        for masking in (None, "digits", "composition"):
            name = f"MaskablePPO, {masking}" if masking else "PPO"
            for seed in seeds:
                for agent, steps, seconds in train(masking, target_class, seed, budgets):
                    rows[target_class, steps, name].append(
                        exact_figures(agent, masking, target_class)
                        | {"episode reward": episode_reward(agent, masking, target_class)}
                        | {"training s": seconds}
                    )
                    if masking is None:
                        late = exact_figures(agent, "composition", target_class) | {"training s": seconds}
                        rows[target_class, steps, "PPO, masked in sampling alone"].append(late)
    return dict(sorted(rows.items(), key=lambda row: row[0][:2]))


def markdown(rows: dict[tuple, list[dict[str, float]]]) -> str:
    """Mean ± standard deviation over the seeds."""
    lines = [f"| class | timesteps | agent | {' | '.join(COLUMNS)} |", "| --- " * (3 + len(COLUMNS)) + "|"]
    for (target_class, steps, name), runs in rows.items():
        cells = []
        for column in COLUMNS:
            values = [run[column] for run in runs if column in run]
            places = {"coverage": 4, "training s": 1}.get(column, 3)
            cells.append(
                f"{np.mean(values):.{places}f} ± {np.std(values, ddof=1):.{places}f}" if values else "-"
            )
        lines.append(f"| {target_class} | {steps:,} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--timesteps", type=int, nargs="+", default=[24_576, 98_304])
    parser.add_argument("--seeds", type=int, default=5, help="at least 2")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    started = time.perf_counter()
    rows = benchmark(arguments.classes, range(arguments.seeds), arguments.timesteps)
    share = load_judge().class_counts[1:] / load_judge().class_counts[1:].sum()
    chance = ", ".join(f"{share[c - 1]:.2%} of class {c}" for c in arguments.classes)
    print(markdown(rows))
    print(
        f"\nMean ± standard deviation over seeds 0-{arguments.seeds - 1}. Exact: success rate, valid "
        f"fraction, precision of what is valid, JS distance, and the expected coverage of {N_SAMPLES:,} "
        f"valid samples. Episode reward: mean of {N_EPISODES:,} episodes. Of all compositions {chance}.\n"
        f"{N_ENVS} environments x {N_STEPS} steps, minibatches of {BATCH_SIZE}, else the defaults of "
        f"stable-baselines3 {stable_baselines3.__version__} and sb3-contrib {sb3_contrib.__version__}; "
        f"torch {th.__version__}, one thread of {processor()}; "
        f"{(time.perf_counter() - started) / 60:.1f} minutes in all."
    )


if __name__ == "__main__":
    main()
