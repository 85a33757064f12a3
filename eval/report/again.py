"""Section on how a folder was made: commands, judges, versions and hardware."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from elpa_env.catalogue import ELPASOLITE_NAME
from eval.judge import load_judge
from eval.report.blocks import Block, Section, Table, Words
from eval.study.plan import DEFAULT_PRESET, Plan, is_agent_file
from eval.study.registry import REFERENCES
from eval.study.reproduce import RECIPES
from eval.study.store import Store
from eval.study.study import COMPARE, Part, Study

_DEFAULTS: Final = Plan(models=(), seeds=(0,), preset=DEFAULT_PRESET)


def again_section(study: Study, store: Store) -> Section:
    """What made the runs that a study shows."""
    commands = "\n".join(
        command(recipe, [*parts]) for recipe, parts in groupby(study.parts, lambda p: p.recipe)
    )
    note = (
        "Each command makes the runs that the folder of its --out lacks, and shows them; what is there stays."
    )
    blocks: list[Block] = [Words(commands, code=True), Words(note), _judges(study), *_made_with(study, store)]
    return Section("How to make it again", blocks)


def command(recipe: str, parts: Sequence[Part]) -> str:
    """The command line that makes the runs of a recipe, or of a comparison."""
    if recipe == COMPARE:
        return shlex.join(["elpa", "compare", *_compared(parts[0].plan)])
    plan = parts[0].plan
    words = ["elpa", "reproduce", recipe, *_option("--data", plan.data, "dft")]
    counts = [len(part.plan.seeds) for part in parts]
    usual = [batch.number(0) for batch in RECIPES[recipe].batches]
    if usual and not set(counts) <= set(usual):
        words += ["--seeds", str(max(counts))]
    if RECIPES[recipe].n_samples:
        words += _option("--n-samples", plan.n_samples, RECIPES[recipe].n_samples)
    return shlex.join([*words, *_judged(plan), *_option("--device", plan.device, "cpu")])


def _compared(plan: Plan) -> Iterator[str]:
    """The options of `elpa compare`."""
    yield from _option("--space", plan.space, ELPASOLITE_NAME)
    for name in plan.models:
        if name not in REFERENCES:
            yield from ("--agent" if is_agent_file(name) else "--model", name)
    if not any(name in REFERENCES for name in plan.models):
        yield "--no-reference"
    yield from _option("--data", plan.data, "")
    yield from _option("--target-class", plan.target_class, 1)
    yield from ("--n-samples", str(plan.n_samples), "--preset", plan.preset)
    yield from _option("--seed", plan.seeds[0], 0)
    yield from _option("--seeds", len(plan.seeds), 1)
    yield from _option("--masking", plan.masking, None)
    yield from _judged(plan)
    yield from _option("--device", plan.device, "cpu")
    yield from () if plan.augment else ("--no-augment",)
    yield from ("--trust",) if plan.trust else ()


def _option(name: str, value: object, usual: object) -> tuple[str, ...]:
    """An option, unless it has its usual value."""
    return () if value == usual else (name, str(value))


def _judged(plan: Plan) -> Iterator[str]:
    for judge in plan.judges if plan.judges != _DEFAULTS.named_judges() else ():
        yield from ("--judge", judge)


def _judges(study: Study) -> Table:
    """Who scored, and by which energies."""
    named = {(name, part.plan.space): None for part in study.parts for name in part.plan.named_judges()}
    judges = [load_judge(name, space) for name, space in named]
    rows = [(judge.name, judge.space.name, judge.what, judge.sha256[:16]) for judge in judges]
    return Table("Judges", ["judge", "space", "energies", "SHA-256 begins"], rows)


def _made_with(study: Study, store: Store) -> Iterator[Table]:
    """Versions and hardware that runs were made with, and how many runs each made."""
    keys = {key for part in study.parts for key in part.keys}
    records = [record for record in store.records() if record["key"] in keys]
    if records:
        yield _counted("Versions", [record["versions"] for record in records])
        yield _counted("Hardware", [record["hardware"] for record in records])
        sets = [record["training_set"] for record in records]
        yield _counted("Training sets", [{**one, "sha256": str(one["sha256"])[:16]} for one in sets])


def _counted(title: str, found: Sequence[Mapping[str, Any]]) -> Table:
    """Different entries, a row each, with the number of runs that have it."""
    counts: dict[str, int] = {}
    for one in found:
        text = json.dumps(one, sort_keys=False)
        counts[text] = counts.get(text, 0) + 1
    columns = list(dict.fromkeys(key for one in found for key in one))
    rows = [
        (f"{number} runs" if number > 1 else "1 run", *(_cell(json.loads(text).get(key)) for key in columns))
        for text, number in counts.items()
    ]
    return Table(title, ["", *(column.replace("_", " ") for column in columns)], rows)


def _cell(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
