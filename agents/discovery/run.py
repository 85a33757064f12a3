"""A campaign that runs by itself: ask, calculate, tell, until a budget is spent.

An energy is stored the moment it arrives. A process that is killed leaves its calculations in flight; the
next one on the same machine takes them over at once, and asks for nothing new before they are told.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from agents.discovery.campaign import Asked, Campaign, NothingLeft, Told
from agents.discovery.energies import EnergySource
from agents.discovery.labelling import label_all
from elpa_env.errors import InputError
from elpa_env.sampler import Progress

Report = Callable[[str], None]
"""Called with a line of text when something has been done."""


def run_campaign(
    campaign: Campaign,
    source: EnergySource,
    *,
    budget: int,
    batch_size: int | None = None,
    jobs: int = 1,
    cluster: str = "",
    report: Report | None = None,
    progress: Progress | None = None,
) -> None:
    """Go on with a campaign until it has as many labels as the budget says, or nothing is left to ask for.

    Args:
        campaign: open.
        source: of energies.
        budget: labels in all, those given at the start and the random ones included.
        batch_size: compounds of a round; the campaign's own by default.
        jobs: calculations side by side on this machine.
        cluster: address of a Dask scheduler whose workers calculate instead.
        report: called with a line after every round.
        progress: called with labels there are and the budget.

    Raises:
        InputError: a budget or number that is not positive, or a round in which every calculation failed.
    """
    if budget < 1:
        raise InputError(f"--budget must be at least 1 label, got {budget}")
    asker = this_process()
    batch = campaign.take_over(asker, is_gone)
    if batch and report:
        report(f"{len(batch)} calculations of a process that ended are taken over")
    while True:
        n_labels = len(campaign.labels())
        wanted = min(batch_size or campaign.settings.batch_size, budget - n_labels)
        if not batch:
            if wanted < 1:
                return
            try:
                batch = campaign.ask(wanted, asker=asker)
            except NothingLeft:
                if report:
                    report("nothing is left to ask for")
                return
        _calculate(campaign, source, batch, n_labels, budget, jobs, cluster, progress)
        if report:
            found = int(campaign.curve()[-1]) if len(campaign.labels()) else 0
            report(f"round {batch[-1].round}: {len(campaign.labels()):,} labels, {found:,} found")
        batch = []


def _calculate(
    campaign: Campaign,
    source: EnergySource,
    batch: Sequence[Asked],
    n_labels: int,
    budget: int,
    jobs: int,
    cluster: str,
    progress: Progress | None,
) -> None:
    """Calculate a batch; every outcome is stored as it arrives."""
    numbers = np.array([one.numbers for one in batch], dtype=np.int16)
    told, error = 0, ""
    outcomes = label_all(source, numbers, jobs=jobs, cluster=cluster)
    with contextlib.closing(outcomes):  # type: ignore[type-var]
        for place, outcome in outcomes:
            result = Told(batch[place].index, outcome.energy, outcome.error, source.name, outcome.parameters)
            try:
                campaign.tell([result])
            except InputError as problem:
                # an energy that cannot be believed is a calculation that failed
                campaign.tell([Told(result.index, float("nan"), str(problem), source.name)])
                result = Told(result.index, float("nan"), str(problem))
            told += not result.error
            error = result.error or error
            if progress:
                progress(min(n_labels + told, budget), budget)
    if not told:
        raise InputError(f"all {len(batch)} calculations of a round failed, the last one: {error}")


def this_process() -> str:
    """Who asks: machine, process, and when that began, so that it is told from a later one of its number."""
    return f"run:{platform.node()}:{os.getpid()}:{_began(os.getpid())}"


def is_gone(asker: str) -> bool:
    """Whether an asker is a process of this machine that has ended."""
    kind, _, rest = asker.partition(":")
    node, _, rest = rest.rpartition(":")[0].rpartition(":") if rest.count(":") > 1 else ("", "", "")
    if kind != "run" or node != platform.node() or not rest.isdigit():
        return False
    return _began(int(rest)) != asker.rpartition(":")[2]


def _began(process: int) -> str:
    """When a process began, in the system's own clock ticks; "-" where there is none or it cannot be said."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return _alive(process)
    return text.rpartition(")")[2].split()[19]


def _alive(process: int) -> str:
    """Without ``/proc`` all that can be said: "0" of a process that lives, else "-"."""
    if Path("/proc/self").exists():
        return "-"
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return "-"
    except OSError:
        return "0"
    return "0"
