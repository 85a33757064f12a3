"""The frontier of trained agents: precision against coverage as the inverse temperature beta varies.

Beta is chosen after training: it draws a policy from the Q-values and takes no part in them. Every
figure is exact, from the policy followed down the tree of all compositions.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from agents.sb3_sampler import AgentSampler
from elpa_env.backups import ExactBackup
from elpa_env.errors import InputError
from elpa_env.files import write_text
from elpa_env.sampler import Progress
from elpa_env.solve import BETA_MAX, BETA_MIN, NAMES, solve
from eval.exact import exact_score
from eval.figures import draw_frontier
from eval.judge import Judge
from eval.metrics import METRICS, coverage_ceiling
from eval.provenance import versions
from eval.study.views import write_table

SCHEMA_VERSION: Final = 1
"""Of ``frontier.json``; raised whenever a key changes its meaning or goes."""
_SHOWN: Final = ("precision", "coverage", "compounds", "js_distance")
_FURTHER: Final = {
    "entropy_bits": "{:.2f}",
    "effective_compositions": "{:,.0f}",
}
_WIDTH: Final = 120


def check_betas(text: str) -> tuple[float, ...]:
    """Read values of beta, parted by commas; inf is the greedy policy.

    Raises:
        InputError: there are none, or one is no number of at least 0, or stands twice.
    """
    try:
        betas = tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--betas must be numbers parted by commas such as 0,2,5,inf, got {text!r}"
        ) from error
    if not all(beta >= 0 for beta in betas) or len(set(betas)) < len(betas):
        raise InputError(f"--betas must be different numbers of at least 0, got {text!r}")
    return betas


def sweep_agents(
    samplers: Sequence[AgentSampler],
    betas: Sequence[float],
    *,
    judge: Judge,
    target_class: int,
    n_samples: int,
    reference: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score agents exactly at every beta, at the price of one pass through each network.

    Args:
        samplers: agents with Q-values, of different names.
        betas: inverse temperatures, each at least 0.
        judge: decides the classes, in the scores and of the environment that the references solve.
        target_class: 1..k.
        n_samples: valid samples on which the coverages depend.
        reference: score the exact solutions, too; they exist for 1e-6..1e6. The one with the soft
            backup is solved anew at each beta, which is part of that backup.
        progress: called with the policies followed so far.

    Returns:
        What ``frontier.json`` holds: the settings, the ceiling of the coverage, and under "curves" the
        name of each agent and solution, its masking, whether it is a reference, and its points: beta
        ("inf" for the greedy policy) and what `eval.exact.ExactScore.as_dict` gives.

    Raises:
        InputError: an agent without Q-values or for another class, or agents of one name.
    """
    started = time.perf_counter()
    names = [sampler.name for sampler in samplers]
    if len(set(names)) < len(names):
        raise InputError(f"agents must differ in name, got {', '.join(names)}")
    for sampler in samplers:
        judge.space.check_same(sampler.space, sampler.name)
        sampler.check_sweep(target_class)
    solvable = [beta for beta in betas if BETA_MIN <= beta <= BETA_MAX]
    jobs: list[tuple[str, str, bool, Sequence[float], Iterator[NDArray[np.float64]]]] = [
        (one.name, one.masking or "none", False, betas, one.sweep(target_class, betas)) for one in samplers
    ]
    for backup, name in NAMES.items() if reference and solvable else ():
        solutions = _solutions(backup, target_class, solvable, judge)
        jobs.append((name, "composition", True, solvable, solutions))
    total, done = sum(len(job[3]) for job in jobs), 0
    curves = []
    for name, masking, is_reference, values, distributions in jobs:
        points = []
        for beta, distribution in zip(values, distributions, strict=True):
            score = exact_score(distribution, judge=judge, target_class=target_class, n_samples=n_samples)
            points.append({"beta": beta if math.isfinite(beta) else "inf", **score.as_dict()})
            done += 1
            if progress:
                progress(done, total)
        curves.append({"name": name, "masking": masking, "reference": is_reference, "points": points})
    members = int(judge.class_counts[target_class])
    return {
        "schema_version": SCHEMA_VERSION,
        "target": judge.space.targets.title(target_class),
        "target_class": target_class,
        "n_samples": n_samples,
        "judge": judge.record(),
        "class_members": members,
        "coverage_ceiling": coverage_ceiling(members, n_samples),
        "curves": curves,
        "versions": versions(),
        "seconds": round(time.perf_counter() - started, 2),
    }


def _solutions(
    backup: ExactBackup, target_class: int, betas: Sequence[float], judge: Judge
) -> Iterator[NDArray[np.float64]]:
    """Distributions of the exact solution; the hard one has the same Q-values at every beta."""
    solution = solve(target_class, backup=backup, beta=betas[0], landscape=judge)
    for beta in betas:
        if backup == "soft":
            solution = solve(target_class, backup=backup, beta=beta, landscape=judge)
        yield replace(solution, beta=beta).distribution()


def frontier_table(record: Mapping[str, Any]) -> Table:
    """What `sweep_agents` found: a row a beta, the curves one below the other."""
    ceiling = METRICS["coverage"].show(record["coverage_ceiling"])
    judge = escape(record["judge"]["name"])
    table = Table(
        title=f"{record['target'].capitalize()}: exact figures by beta",
        caption=f"coverage: expected after {record['n_samples']:,} valid samples, {ceiling} at best if they "
        f"are independent\njudge: {judge}; optimal: exact solutions that see it, masking composition",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("", no_wrap=True)
    shown = [METRICS[key] for key in _SHOWN]
    for title in ("beta", *(metric.short for metric in shown), "valid", "entropy / bits", "effective"):
        table.add_column(title, justify="right", no_wrap=True)
    for curve in record["curves"]:
        table.add_section()
        for number, point in enumerate(curve["points"]):
            table.add_row(
                "" if number else curve["name"],
                str(point["beta"]) if point["beta"] == "inf" else f"{point['beta']:g}",
                *(metric.show(point[metric.key]) for metric in shown),
                f"{point['valid_fraction'] * 100:.2f} %",
                *("-" if point[key] is None else form.format(point[key]) for key, form in _FURTHER.items()),
            )
    return table


def write_frontier(record: Mapping[str, Any], folder: Path) -> None:
    """Write ``frontier.json``, ``table.txt`` and ``figure_frontier.png`` into `folder`."""
    write_text(folder / "frontier.json", json.dumps(record, indent=1, allow_nan=False))
    write_table(folder / "table.txt", frontier_table(record), _WIDTH)
    lines: dict[bool, dict[str, list[tuple[float, float, float]]]] = {False: {}, True: {}}
    for curve in record["curves"]:
        lines[curve["reference"]][curve["name"]] = [
            (float(point["beta"]), _number(point["coverage"]), _number(point["precision"]))
            for point in curve["points"]
        ]
    draw_frontier(
        folder / "figure_frontier.png",
        lines[False],
        lines[True],
        ceiling=record["coverage_ceiling"],
        title=f"Precision against coverage as beta varies, {record['target']}",
        caption=f"exact; coverage expected after {record['n_samples']:,} valid samples; numbers: beta; "
        f"judge: {record['judge']['name']}",
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value
