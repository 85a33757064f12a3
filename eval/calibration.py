"""What the reward model knows: its held-out error, and whether its probabilities come true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from elpa_env.classes import ENERGY_CLASSES, Targets

SCHEMA_VERSION: Final = 1
"""Of the file that ``elpa reward-model`` writes."""


def calibration_tables(report: Mapping[str, Any], title: str, targets: Targets = ENERGY_CLASSES) -> Group:
    """Error and calibration of `agents.RewardModel.report` as two tables."""
    errors = Table(title=escape(title), box=SIMPLE_HEAD)
    unit = f" / ({targets.unit})" if targets.unit else ""
    errors.add_column("")
    errors.add_column("held out", justify="right")
    errors.add_row("rows, each predicted by a network that never saw it", f"{report['rows']:,}")
    errors.add_row(f"mean absolute error{unit}", f"{report['mae']:.4f}")
    for number, error in enumerate(report["mae_class"], start=1):
        if error is not None:
            errors.add_row(f"  {targets.title(number)}", f"{error:.4f}")
    errors.add_row(f"root mean square error{unit}", f"{report['rmse']:.4f}")
    errors.add_row("likeliest class is right / %", f"{100 * report['accuracy']:.1f}")
    if report["log_loss"] is not None:
        errors.add_row("log loss of the class / nats", f"{report['log_loss']:.3f}")
    return Group(errors, *(_calibration(name, tenths) for name, tenths in report["calibration"].items()))


def _calibration(name: str, tenths: Sequence[Mapping[str, float]]) -> Table:
    table = Table(title=f"Stated probabilities and what came true, {name}", box=SIMPLE_HEAD)
    for heading in ("stated / %", "came true / %", "statements"):
        table.add_column(heading, justify="right")
    for tenth in tenths:
        table.add_row(f"{100 * tenth['stated']:.2f}", f"{100 * tenth['true']:.2f}", f"{tenth['n']:,}")
    return table
