"""Which stored runs a page shows together: those of one class, number of samples and training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eval.judge import Judge
from eval.study.reproduce import RECIPES
from eval.study.scores import Scored, can_be_scored, score_runs
from eval.study.store import Store
from eval.study.study import Part, Study, View, view, without_versions


@dataclass(frozen=True, eq=False)
class Chapter:
    """Runs that can be compared.

    Attributes:
        view: their figures under every judge.
        recipes: tables and figures of the paper that they were made for.
        parts: of the study.
        further: titles of models that the study does not name and the store holds all the same.
    """

    view: View
    recipes: tuple[str, ...]
    parts: tuple[Part, ...]
    further: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Target and number of samples."""
        plan = self.view.plan
        target = plan.target[:1].upper() + plan.target[1:]
        return f"{target}, {plan.n_samples:,} samples"


def grows(part: Part) -> bool:
    """Whether runs belong to training sets of growing size."""
    return part.recipe in RECIPES and RECIPES[part.recipe].grows


def chapters(study: Study, store: Store) -> list[Chapter]:
    """The runs of a study on whole training sets, those that can be compared together.

    Raises:
        InputError: a run is missing.
    """
    together: dict[tuple[Any, ...], list[Part]] = {}
    for part in study.parts:
        plan = part.plan
        whole = plan.subset is None and plan.augment
        if plan.models and (whole or not grows(part)):
            key = plan.space, plan.target_class, plan.n_samples, part.training_set, plan.named_judges()
            together.setdefault(key, []).append(part)
    return [_chapter(parts, store) for parts in together.values()]


def _chapter(parts: Sequence[Part], store: Store) -> Chapter:
    found = _merged([view(part, store) for part in parts])
    groups, further = _with_further(found, parts[0], store)
    recipes = tuple(dict.fromkeys(part.recipe for part in parts))
    return Chapter(replace(found, groups=groups), recipes, tuple(parts), further)


def _merged(views: Sequence[View]) -> View:
    """Views as one; of a model in several of them the most seeds."""
    groups: dict[str, dict[str, Sequence[Scored]]] = {judge.name: {} for judge in views[0].judges}
    for judge, found in groups.items():
        for one in views:
            for name, group in one.groups[judge].items():
                if len(group) > len(found.get(name, ())):
                    found[name] = group
    seeds = max((one.plan.seeds for one in views), key=len)
    models = tuple(dict.fromkeys(name for one in views for name in one.plan.models))
    return replace(views[0], plan=replace(views[0].plan, models=models, seeds=seeds), groups=groups)


def _with_further(
    found: View, part: Part, store: Store
) -> tuple[dict[str, dict[str, Sequence[Scored]]], tuple[str, ...]]:
    """The runs by judge and model with those of further models, and the titles of these."""
    groups: dict[str, dict[str, Sequence[Scored]]] = {
        judge: dict(models) for judge, models in found.groups.items()
    }
    known = {name for models in groups.values() for name in models}
    titles = []
    for name, records in _further(found, part, store, known).items():
        titles.append(str(records[0]["title"]))
        for judge in found.judges:
            groups[judge.name][name] = score_runs(store, records, judge, found.plan.request)
    return groups, tuple(titles)


def _further(found: View, part: Part, store: Store, known: set[str]) -> dict[str, list[Mapping[str, Any]]]:
    """Records of models that a view lacks, by name: those of the settings with the most seeds, by seed."""
    newest = {
        without_versions(record["identity"]): record
        for record in store.records()
        if record["name"] not in known and _fits(record, found, part, store, found.judges)
    }
    settings: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for record in newest.values():
        config = without_versions({**record["identity"], "seed": None})
        settings.setdefault(record["name"], {}).setdefault(config, []).append(record)
    best = {name: max(lists.values(), key=_number) for name, lists in settings.items()}
    return {name: sorted(records, key=lambda record: int(record["seed"])) for name, records in best.items()}


def _number(records: Sequence[Mapping[str, Any]]) -> int:
    return len(records)


def _fits(record: Mapping[str, Any], found: View, part: Part, store: Store, judges: Sequence[Judge]) -> bool:
    """Whether a stored run can be held against those of a view."""
    return (
        not record["judge"]
        and record["identity"]["training_set"] == part.training_set
        and record["target_class"] in (None, found.plan.target_class)
        and can_be_scored(store, record["key"], judges, found.plan.request)
    )
