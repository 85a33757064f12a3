"""How few labels campaigns need: many of them on energies that are known, and their curves side by side."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table as Shown

from agents.discovery.acquisition import Goal
from agents.discovery.campaign import Campaign, Settings
from agents.discovery.energies import ModelEnergy, RowsEnergy
from agents.discovery.proposers import PROPOSERS, Proposer, SamplerProposer
from agents.discovery.run import run_campaign
from elpa_env import dft
from elpa_env.catalogue import ABO3_NAME, ELPASOLITE_NAME, load_space
from elpa_env.errors import InputError
from elpa_env.files import read_json, write_json
from elpa_env.sampler import Progress, Sampler
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.training import TrainingSet
from eval.judge import SYMMETRIC, load_judge
from eval.provenance import hardware, versions
from eval.study.registry import Task, model_spec

DFT_POOL: Final = "dft-pool"
"""The compounds of the elpasolite DFT table, as a space of campaigns."""
SCHEMA_VERSION: Final = 1
"""Of the files of a benchmark."""
FRACTIONS: Final = (0.5, 0.8, 0.9, 0.95, 1.0)
"""Of the targets, whose cost in labels tables show."""


@dataclass(frozen=True, eq=False)
class Field:
    """A space with known energies, on which campaigns are tried.

    Attributes:
        name: by which it is chosen.
        what: the energies in words.
        space: of the compositions.
        target: that is looked for.
        energy: of all compounds of the pool.
        settings: labels at random and the size of rounds.
        budget: labels of a campaign.
    """

    name: str
    what: str
    space: Space
    target: str
    energy: RowsEnergy
    settings: Settings
    budget: int

    @property
    def pool(self) -> NDArray[np.int64]:
        """(n,) compounds."""
        return self.energy.compound

    @property
    def n_targets(self) -> int:
        """Compounds that are looked for."""
        goal = Goal.of(self.space, self.target)
        return int(goal.reached(self.energy.energy).sum())


def dft_pool() -> RowsEnergy:
    """The compounds of the elpasolite DFT table with their energies.

    Raises:
        InputError: the table is not there.
    """
    rows = dft.read_dft()
    return RowsEnergy.of(ELPASOLITE_SPACE, rows.numbers, rows.energy)


def load_field(name: str) -> Field:
    """The field of that name: dft-pool, elpasolite, or abo3.

    Raises:
        InputError: there is no such field, or its energies are missing.
    """
    if name == DFT_POOL:
        what = "DFT energies of Faber et al. 2016"
        return Field(name, what, ELPASOLITE_SPACE, "1", dft_pool(), Settings(initial=100), 400)
    if name == ELPASOLITE_NAME:
        judge = load_judge(SYMMETRIC)
        index = np.flatnonzero(ELPASOLITE_SPACE.compound_mask)
        energy = RowsEnergy(ELPASOLITE_SPACE, index, judge.energy(index).astype(np.float64))
        settings = Settings(initial=200, batch_size=150)
        return Field(name, judge.what, ELPASOLITE_SPACE, "1", energy, settings, 2_450)
    if name == ABO3_NAME:
        benchmark = load_space(ABO3_NAME)
        assert benchmark.energies is not None
        table = benchmark.energies()
        known = table.known()
        energy = RowsEnergy(benchmark.space, known, table.columns["energy_above_hull"][known])
        settings = Settings(initial=100, batch_size=50)
        return Field(name, benchmark.what, benchmark.space, "stable", energy, settings, 1_000)
    raise InputError(f"campaigns are tried on {DFT_POOL}, {ELPASOLITE_NAME} or {ABO3_NAME}, got {name!r}")


def proposers(name: str, space_name: str = ELPASOLITE_NAME) -> dict[str, Callable[[], Proposer]]:
    """What `Campaign` needs to know of a proposer: nothing of its own ones, else how a model is trained.

    Args:
        name: of a proposer or a model of the registry, or ``module:Class``.
        space_name: by which `elpa_env.load_space` finds the space.

    Raises:
        InputError: there is no such model.
    """
    if name in PROPOSERS:
        return {}
    try:
        spec = model_spec(name)
    except InputError as error:
        raise InputError(
            f"the proposer must be one of {', '.join(PROPOSERS)}, a model that can be trained, or "
            f"module:Class, got {name!r}"
        ) from error

    def make(labels: TrainingSet, target: int, seed: int, progress: Progress | None) -> Sampler:
        preset = spec.presets.get("small") or spec.presets.get("default")
        config = None if preset is None else preset.config
        return spec.train(Task(config, labels, target, seed, "cpu", progress, space=space_name))

    return {name: lambda: SamplerProposer(name, make)}


@dataclass(frozen=True)
class Way:
    """How a campaign of a benchmark chooses.

    Attributes:
        proposer: see `Settings`.
        surrogate: see there.
        acquisition: see there.
    """

    proposer: str = "rank"
    surrogate: str = "ensemble"
    acquisition: str = "probability"

    @property
    def title(self) -> str:
        """What tables call it."""
        named = (self.proposer, self.surrogate, self.acquisition)
        default = ("rank", "ensemble", "probability")
        if self.proposer in ("random", "genetic"):
            return self.proposer
        more = [word for word, usual in zip(named[1:], default[1:], strict=True) if word != usual]
        return ", ".join([self.proposer, *more])


def run_benchmark(
    field: Field,
    ways: Sequence[Way],
    seeds: Sequence[int],
    folder: Path,
    *,
    budget: int = 0,
    report: Callable[[str], None] | None = None,
) -> None:
    """Run the campaigns that a folder lacks; the curve of each is a file of its own.

    Args:
        field: where.
        ways: to choose.
        seeds: a campaign each.
        folder: for the curves.
        budget: labels of a campaign; the field's own by default.
        report: called with a line after every campaign.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for way in ways:
            path = folder / curve_name(field, way, seed)
            if path.exists():
                continue
            record = _campaign(field, way, seed, budget or field.budget)
            write_json(path, record)
            if report:
                report(
                    f"{way.title}, seed {seed}: {record['found'][-1]:,} of {field.n_targets:,} found with "
                    f"{len(record['found']):,} labels, {record['seconds']:.0f} s"
                )


def curve_name(field: Field, way: Way, seed: int) -> str:
    """Name of the file of a campaign's curve."""
    words = [field.name, way.proposer, way.surrogate, way.acquisition, f"seed{seed}"]
    return "-".join(word.replace(":", "_").replace("/", "_") for word in words) + ".json"


def _campaign(field: Field, way: Way, seed: int, budget: int) -> dict[str, Any]:
    """Run one campaign; what its file holds."""
    began = time.perf_counter()
    settings = replace(field.settings, **asdict(way))
    known = proposers(way.proposer, ELPASOLITE_NAME if field.name == DFT_POOL else field.name)
    with (
        tempfile.TemporaryDirectory() as name,
        Campaign.new(
            Path(name) / "campaign.db",
            field.space,
            target=field.target,
            settings=settings,
            seed=seed,
            pool=field.pool,
            proposers=known,
            durable=False,
        ) as campaign,
    ):
        run_campaign(campaign, ModelEnergy(field.energy, field.space, field.name), budget=budget)
        seconds = time.perf_counter() - began
        rounds = campaign.rounds()
        return {
            "schema_version": SCHEMA_VERSION,
            "field": field.name,
            "what": field.what,
            "pool": len(field.pool),
            "targets": field.n_targets,
            "way": asdict(way),
            "seed": seed,
            "settings": asdict(settings),
            "found": campaign.curve().tolist(),
            "expected": [[row["labels"], row["found"], row["expected"]] for row in rounds],
            "round_seconds": [round(row["seconds"], 3) for row in rounds],
            "seconds": round(seconds, 1),
            "versions": versions(),
            "hardware": hardware("cpu"),
        }


def read_curves(folder: Path) -> list[dict[str, Any]]:
    """All campaigns of a folder.

    Raises:
        InputError: there are none.
    """
    found = [read_json(path) for path in sorted(folder.glob("*-seed*.json"))]
    if not found:
        raise InputError(f"{folder} holds no campaigns of a benchmark")
    return found


def labels_needed(found: Sequence[int], wanted: int) -> float:
    """Labels after which so many targets were found; infinite where they were not."""
    place = int(np.searchsorted(np.asarray(found), wanted))
    return place + 1 if place < len(found) else math.inf


def random_labels(pool: int, targets: int, wanted: int) -> float:
    """Labels that screening at random needs on average for so many targets: wanted (N + 1) / (K + 1)."""
    return wanted * (pool + 1) / (targets + 1)


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By way: medians over the seeds of what it cost, and the curves' quartiles."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault(Way(**record["way"]).title, []).append(record)
    summary = {}
    for title, group in groups.items():
        pool, targets = group[0]["pool"], group[0]["targets"]
        length = min(len(record["found"]) for record in group)
        curves = np.array([record["found"][:length] for record in group])
        cost = {}
        for fraction in FRACTIONS:
            wanted = math.ceil(fraction * targets)
            needed = [labels_needed(record["found"], wanted) for record in group]
            median = float(np.median(needed))
            cost[wanted] = {
                "fraction": fraction,
                "labels": median if math.isfinite(median) else None,
                "reached": sum(map(math.isfinite, needed)),
                "acceleration": random_labels(pool, targets, wanted) / median
                if math.isfinite(median)
                else None,
            }
        summary[title] = {
            "seeds": len(group),
            "pool": pool,
            "targets": targets,
            "labels": length,
            "found": [float(value) for value in np.percentile(curves[:, -1], (25, 50, 75))],
            "cost": cost,
            "quartiles": np.percentile(curves, (25, 50, 75), axis=0).tolist(),
            "round_seconds": float(np.median([s for record in group for s in record["round_seconds"]])),
        }
    return summary


def benchmark_rows(summary: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table of a benchmark."""
    first = next(iter(summary.values()))
    targets = first["targets"]
    columns = ["campaign", "seeds", f"found of {targets:,}", "with labels"]
    columns += [f"labels for {cost['fraction']:.0%}" for cost in first["cost"].values()]
    columns += ["faster than random", "round / s"]
    rows = []
    for title, one in summary.items():
        low, median, high = one["found"]
        needed = [
            "-" if cost["labels"] is None else f"{cost['labels']:,.0f}" for cost in one["cost"].values()
        ]
        best = [cost["acceleration"] for cost in one["cost"].values() if cost["acceleration"] is not None]
        rows.append(
            [
                title,
                str(one["seeds"]),
                f"{median:,.0f} ({low:,.0f}-{high:,.0f})",
                f"{one['labels']:,}",
                *needed,
                f"{best[-1]:.1f}" if best else "-",
                f"{one['round_seconds']:.1f}",
            ]
        )
    return columns, rows


def benchmark_table(summary: Mapping[str, Mapping[str, Any]], what: str) -> Shown:
    """The table of a benchmark for the terminal."""
    columns, rows = benchmark_rows(summary)
    table = Shown(
        title=escape(f"Campaigns on {what}: medians of the seeds"),
        caption="labels for: all that were needed, the random ones included; faster than random: at the last "
        "share that is reached",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    for number, column in enumerate(columns):
        table.add_column(escape(column), justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    return table
