"""How near learning to act comes to the exact policy on the same reward model, and whether that is exact.

For every seed and class the acting agent and the flow network are trained against one and the same reward
model. Their distributions are held against `plan`, and `plan` against a backward induction over all digits,
which shares no code with it.

Usage: python benchmarks/approaching.py [--data dft] [--seeds N] [--classes 1 5] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from scipy.special import logsumexp

from agents.gflownet import PRESETS as FLOWS
from agents.gflownet import GFlowNetSampler
from agents.plan import PlanSampler
from agents.reward_model import RewardModel
from agents.sb3_sampler import AgentSampler
from agents.train import VARIANTS, train_dqn
from elpa_env import load_training_set
from elpa_env.space import Space
from eval.exact import exact_score
from eval.judge import load_judge
from eval.metrics import element_distribution, js_distance

N_SAMPLES = 10_000
SHOWN = ("precision", "coverage", "js_distance")


def backward_induction(space: Space, model: RewardModel, beta: float, target_class: int) -> np.ndarray:
    """(n_table,) what the soft policy draws: values of every state from the last digit to the first."""
    index = np.flatnonzero(space.composition_mask)
    digits = space.index_to_digits(index).astype(np.int64)
    value = beta * model.reward(space.index_to_numbers(index), None, None, target_class).astype(np.float64)
    log_p = np.zeros(len(index))
    row = np.arange(len(index))  # of each composition, the state that it passes
    states = digits
    for step in reversed(range(space.n_steps)):
        states, parent = (
            np.unique(states[:, :step], axis=0, return_inverse=True)
            if step
            else (
                states[:1, :0],
                np.zeros(len(states), dtype=np.int64),
            )
        )
        parent = parent.reshape(-1)
        order = np.argsort(parent, kind="stable")
        starts = np.searchsorted(parent[order], np.arange(len(states)))
        high = np.maximum.reduceat(value[order], starts)
        total = high + np.log(np.add.reduceat(np.exp(value[order] - high[parent[order]]), starts))
        log_p += (value - total[parent])[row]
        row, value = parent[row], total
    assert np.isclose(logsumexp(log_p), 0)
    table = np.zeros(space.n_table)
    table[index] = np.exp(log_p)
    return table


def distance(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon distance in bits of two distributions over all compositions."""
    return js_distance(p[None], q[None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="landscape")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    th.set_num_threads(1)
    rows = load_training_set(arguments.data)
    space, judge = rows.space, load_judge("paper")
    config = VARIANTS["dqn-soft-model"].presets["default"].config
    flow = replace(FLOWS["default"].config, reward_model=config.reward_model)
    found: list[dict[str, Any]] = []

    def note(name: str, seed: int, target: int, p: np.ndarray, exact: np.ndarray, **more: float) -> None:
        score = exact_score(p, judge=judge, target_class=target, n_samples=N_SAMPLES).metrics
        sites = [element_distribution(space, one) for one in (p, exact)]
        record = {"model": name, "seed": seed, "class": target, **{key: score[key] for key in SHOWN}}
        record |= {"to_plan_sites": js_distance(*sites), "to_plan": distance(p, exact), **more}
        found.append(record)
        print(json.dumps(record), flush=True)
        if arguments.out:
            arguments.out.write_text(json.dumps(found, indent=1) + "\n")

    for seed in range(arguments.seeds):
        plan = PlanSampler(config, seed=seed).fit(rows)
        for target in arguments.classes:
            exact = plan.distribution(target)
            note("plan", seed, target, exact, exact)
            induced = backward_induction(space, plan.reward_model, config.beta, target)
            note("backward induction", seed, target, induced, exact)
            for name, train in learners(plan.reward_model, rows, target, seed, config, flow):
                started = time.process_time()
                sampler, queries = train()
                seconds = time.process_time() - started
                note(
                    name, seed, target, sampler.distribution(target), exact, queries=queries, seconds=seconds
                )
    print(
        f"| class | model | {' | '.join(SHOWN)} | to plan, elements | to plan, compositions | queries | s |"
    )
    for target in arguments.classes:
        for name in dict.fromkeys(record["model"] for record in found):
            same = [r for r in found if (r["model"], r["class"]) == (name, target)]
            keys = (*SHOWN, "to_plan_sites", "to_plan", "queries", "seconds")
            means = {key: np.array([one.get(key, np.nan) for one in same]) for key in keys}
            cells = [f"{values.mean():.4f} ± {values.std(ddof=1):.4f}" for values in means.values()]
            print(f"| {target} | {name} | {' | '.join(cells)} |")


def learners(
    reward_model: RewardModel, rows: Any, target: int, seed: int, config: Any, flow: Any
) -> list[tuple[str, Callable[[], tuple[Any, int]]]]:
    """Both that learn against a fitted reward model, by name."""

    def agent() -> tuple[Any, int]:
        model = train_dqn(config, target, training_set=rows, source=reward_model, seed=seed)
        return AgentSampler(model), model.access.model_queries

    def network() -> tuple[Any, int]:
        sampler = GFlowNetSampler(target, flow, seed=seed)
        sampler.learn(reward_model)
        return sampler, flow.n_rounds * flow.n_episodes

    return [("dqn-soft-model", agent), ("gflownet", network)]


if __name__ == "__main__":
    main()
