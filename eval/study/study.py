"""A study: stored runs that belong together, with their figures under every judge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from elpa_env.errors import InputError
from elpa_env.files import read_json, write_text
from elpa_env.training import TrainingSet
from eval.judge import Judge, load_judge
from eval.metrics import METRICS
from eval.study.paper import Figure
from eval.study.plan import Plan, Run
from eval.study.registry import REFERENCES
from eval.study.runner import Workers, run_plan
from eval.study.scores import Scored, can_be_scored, score_runs
from eval.study.store import Store

COMPARE: Final = "compare"
"""Recipe of what a comparison made; others bear the name of what they reproduce."""
SCHEMA_VERSION: Final = 2
"""Of ``study.json``."""
_FILE: Final = "study.json"


@dataclass(frozen=True)
class Part:
    """Runs of one plan.

    Attributes:
        plan: what was run; without models where only the training set is shown.
        keys: of its runs, in the plan's order.
        training_set: hash of the rows that the first seed was trained on.
        recipe: "compare", or the table or figure that it belongs to.
    """

    plan: Plan
    keys: tuple[str, ...]
    training_set: str
    recipe: str = COMPARE


@dataclass(frozen=True)
class Study:
    """What a command made, and what `elpa show` shows again.

    Attributes:
        parts: one plan or several.
    """

    parts: tuple[Part, ...]

    def save(self, store: Store) -> None:
        """Make this the study that the store's folder shows."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "parts": [asdict(p) for p in self.parts],
        }
        write_text(store.folder / _FILE, json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Study:
        """The study that a folder shows.

        Raises:
            InputError: there is none, or it is damaged.
        """
        path = folder / _FILE
        try:
            content = read_json(path)
            parts = tuple(
                Part(
                    _plan(part["plan"]),
                    tuple(map(str, part["keys"])),
                    str(part["training_set"]),
                    str(part["recipe"]),
                )
                for part in content["parts"]
            )
            if content["schema_version"] != SCHEMA_VERSION or not parts:
                raise InputError(f"{path} is of another version: run the comparison again")
            return cls(parts)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is missing or damaged: run the comparison again") from error

    def judged_by(self, judges: Sequence[str]) -> Study:
        """The same runs under other judges."""
        parts = tuple(replace(part, plan=replace(part.plan, judges=tuple(judges))) for part in self.parts)
        return replace(self, parts=parts)


def _plan(content: Mapping[str, Any]) -> Plan:
    """A plan as JSON gives it back."""
    lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
    return Plan(**{**content, **lists})


def make_part(
    plan: Plan,
    store: Store,
    workers: Workers,
    *,
    console: Console,
    retrain: bool = False,
    made: set[str] | None = None,
    recipe: str = COMPARE,
) -> Part:
    """Make what a plan lacks in a store; see `eval.study.runner.run_plan`."""
    training_sets = plan.training_sets()
    runs = run_plan(plan, training_sets, store, workers, console=console, retrain=retrain, made=made)
    if not plan.models:
        store.put_training_set(training_sets[plan.seeds[0]])
    return Part(plan, tuple(run.key for run in runs), training_sets[plan.seeds[0]].sha256, recipe)


def stored_part(plan: Plan, store: Store, *, recipe: str) -> Part | None:
    """What a store holds of a plan, whichever version of the package made it; None if it holds nothing.

    Of runs of several versions the newest counts. Seeds and models that it lacks are left out.
    """
    training_sets = plan.training_sets()
    judges = [load_judge(name, plan.space) for name in plan.named_judges()]
    newest = {
        without_versions(record["identity"]): record["key"]
        for record in store.records()
        if can_be_scored(store, record["key"], judges, plan.request)
    }
    found = [
        (run, newest[what])
        for run in plan.runs(training_sets)
        if (what := without_versions(run.identity)) in newest
    ]
    if plan.models and not found:
        return None
    models = tuple(name for name in plan.models if any(run.model == name for run, _ in found))
    seeds = tuple(seed for seed in plan.seeds if any(run.seed == seed for run, _ in found))
    plan = replace(plan, models=models, seeds=seeds or plan.seeds)
    keys = tuple(key for _, key in found)
    return Part(plan, keys, training_sets[plan.seeds[0]].sha256, recipe)


def without_versions(identity: Mapping[str, Any]) -> str:
    """What a run depends on but the versions, as text."""
    return json.dumps({key: value for key, value in identity.items() if key != "versions"}, sort_keys=True)


@dataclass(frozen=True, eq=False)
class View:
    """The runs of one plan with their figures, ready to be shown.

    Attributes:
        plan: what was run.
        training_set: rows that the first seed was trained on.
        judges: in the order of the plan.
        groups: by judge's name, then by model's name, its runs in the order of the seeds. Exact solutions
            stand under the judge that they solve.
    """

    plan: Plan
    training_set: TrainingSet
    judges: tuple[Judge, ...]
    groups: Mapping[str, Mapping[str, Sequence[Scored]]] = field(repr=False)

    @property
    def first(self) -> Mapping[str, Sequence[Scored]]:
        """Runs by model under the first judge."""
        return self.groups[self.judges[0].name]

    def titles(self) -> dict[str, str]:
        """Heading of every model, in the order of the plan."""
        found: dict[str, str] = {}
        for groups in self.groups.values():
            found |= {name: group[0].title for name, group in groups.items() if name not in found}
        return found


def view(part: Part, store: Store) -> View:
    """Score the runs of a part under the judges of its plan; in seconds, without training or drawing.

    Raises:
        InputError: a run is missing.
    """
    records = []
    for key in part.keys:
        record = store.record(key)
        if record is None:
            raise InputError(f"{store.folder} lacks the run {key}: run the comparison again")
        records.append(record)
    judges = tuple(load_judge(name, part.plan.space) for name in part.plan.named_judges())
    training_set = _training_set(part, store)
    if judges[0].space != training_set.space:
        raise InputError(
            f"{part.plan.space} is not the space that {store.folder} holds runs of: bring back its sites and "
            "targets, or run the comparison again"
        )
    groups: dict[str, dict[str, list[Scored]]] = {}
    by_model = [record for record in records if not record["judge"]]
    for judge in judges:
        shown = [record for record in records if not record["judge"] or _solves(record, judge)]
        if len(shown) == len(by_model) and any(record["judge"] == judge.name for record in records):
            raise InputError(
                f"the energies of the judge {judge.name} have changed since {store.folder} was filled: "
                f"solve them again with --judge {judge.name}"
            )
        group: dict[str, list[Scored]] = {}
        for scored in score_runs(store, shown, judge, part.plan.request):
            group.setdefault(scored.name, []).append(scored)
        groups[judge.name] = group
    return View(part.plan, training_set, judges, groups)


def _training_set(part: Part, store: Store) -> TrainingSet:
    """The rows of the first seed, from the store or from where the plan found them."""
    try:
        return store.training_set(part.training_set)
    except InputError:
        rows = part.plan.training_set(part.plan.seeds[0])
        if rows.sha256 != part.training_set:
            raise
        return rows


def _solves(record: Mapping[str, Any], judge: Judge) -> bool:
    """Whether a stored run is an exact solution of the very energies of a judge."""
    return bool(record["judge"] == judge.name and record["identity"].get("judge") == judge.sha256)


def with_references(part: Part, store: Store, *, console: Console) -> Part:
    """The part with the exact solutions of its judges, which are solved where the store lacks them."""
    names = tuple(name for name in part.plan.models if name in REFERENCES)
    if not names:
        return part
    training_sets = dict.fromkeys(part.plan.seeds, store.training_set(part.training_set))
    plan = replace(part.plan, models=names)
    runs: list[Run] = run_plan(plan, training_sets, store, Workers(), console=console)
    keys = dict.fromkeys((*part.keys, *(run.key for run in runs)))
    return replace(part, keys=tuple(keys))


def summarise(group: Sequence[Scored]) -> dict[str, Figure]:
    """Mean and standard deviation of every metric over the seeds; no deviation of a single one."""
    values = {key: [_number(run.score[key]) for run in group] for key in METRICS}
    return {
        key: Figure(float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else float("nan"))
        for key, v in values.items()
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
