"""Exact figures: the solved environment, and the ceiling of any independent sampler, as a table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, get_args

from rich.box import SIMPLE_HEAD
from rich.table import Table

from elpa_env.dynamics import Masking, check_masking
from elpa_env.landscape import load_landscape
from elpa_env.solve import Backup, solve
from eval.metrics import METRICS, expected_metrics

CEILING: Final = "ceiling"
"""Uniform over the class: every sample right, the best expected coverage, no distance."""
SCHEMA_VERSION: Final = 1
"""Of the file that ``elpa solve`` writes."""


def solve_class(
    target_class: int, *, beta: float, gamma: float, n_samples: int, masking: str
) -> dict[str, Any]:
    """Solve one class with both backups and judge the Boltzmann policies.

    Args:
        target_class: 1..10.
        beta: inverse temperature of policy and soft backup.
        gamma: discount factor.
        n_samples: valid samples on which the coverages depend.
        masking: "digits" or "composition".

    Returns:
        The settings, and under "columns" for each backup and the ceiling: the five metrics, the share of
        real compositions, and (but for the ceiling) the value of the start state.

    Raises:
        InputError: a value that cannot be used.
    """
    started = time.perf_counter()
    landscape = load_landscape()
    mask: Masking = check_masking(masking)
    columns: dict[str, dict[str, float]] = {}
    for backup in get_args(Backup):
        solution = solve(target_class, backup=backup, beta=beta, gamma=gamma, masking=mask)
        p = solution.distribution()
        columns[f"optimal-{backup}"] = {
            **expected_metrics(p, landscape.table_class, target_class=target_class, n_samples=n_samples),
            "valid_fraction": float(p.sum()),
            "start_value": solution.start_value,
        }
    uniform = landscape.table_class == target_class
    columns[CEILING] = {
        **expected_metrics(
            uniform.astype(float), landscape.table_class, target_class=target_class, n_samples=n_samples
        ),
        "valid_fraction": 1.0,
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "target_class": target_class,
        "beta": beta,
        "gamma": gamma,
        "masking": masking,
        "n_samples": n_samples,
        "landscape": {
            "sha256": landscape.provenance["sha256"],
            "class_members": int(landscape.class_counts[target_class]),
        },
        "columns": columns,
        "seconds": round(time.perf_counter() - started, 2),
    }


def exact_table(record: Mapping[str, Any]) -> Table:
    """What `solve_class` found: rows as in the paper's tables, a column a sampler."""
    members = record["landscape"]["class_members"]
    table = Table(
        title=f"Class {record['target_class']} solved exactly: beta {record['beta']:g}, "
        f"gamma {record['gamma']:g}, masking {record['masking']}",
        caption=f"exact, in {record['seconds']:.1f} s; {members:,} compositions in the class\n"
        f"coverage: expected after {record['n_samples']:,} valid samples\n"
        "ceiling: uniform over the class, best of independent draws",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("", no_wrap=True)
    columns = record["columns"]
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for key, title in METRICS.items():
        table.add_row(title, *(format_metric(key, column[key]) for column in columns.values()))
    table.add_section()
    table.add_row("valid", *(f"{column['valid_fraction'] * 100:.2f} %" for column in columns.values()))
    values = [column.get("start_value") for column in columns.values()]
    table.add_row("value of the start", *("" if value is None else f"{value:.4f}" for value in values))
    return table


def format_metric(key: str, value: float) -> str:
    """``83.21 %``, or ``0.1634`` for a distance."""
    return f"{value:.4f}" if key == "js_distance" else f"{value * 100:.2f} %"
