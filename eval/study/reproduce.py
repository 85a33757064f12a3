"""The tables and figures of the paper, and our agents beside them: what each needs, and how it is shown.

A recipe names the runs that a table or figure is made of. `plans_of` turns it into plans for
`eval.study.runner`, `show` into files, pictures and a table; neither trains anything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from elpa_env.errors import InputError
from elpa_env.files import read_json, write_json, write_text
from elpa_env.landscape import held_out_predictions
from elpa_env.training import TrainingSet, load_training_set
from eval.figures import draw_elements, draw_search
from eval.judge import Judge
from eval.metrics import METRICS, element_distribution, energy_bins, js_distance
from eval.paper_figures import draw_curves, draw_distances, draw_energy_landscape
from eval.study import sizes, targets
from eval.study.paper import TABLE_SAMPLES
from eval.study.plan import Plan
from eval.study.registry import AGENT, MODELS
from eval.study.scores import stored_curve
from eval.study.store import Store
from eval.study.study import Study, View, summarise
from eval.study.tables import comparison, markdown
from eval.study.targets import COLUMNS, Target, verdict_rows
from eval.study.views import draw_class_elements, draw_class_energies, record_of, write_table

PAPER_MODELS: Final = ("vae", "gan", "dqn")
FOUR: Final = (*PAPER_MODELS, AGENT)
"""The paper's three models and our agent."""
MANY_AGENTS: Final = 10
"""Seeds of our agent at most, unless more are asked for by its own name."""
WIDTH: Final = 140
"""Characters of a line in the files of text."""


@dataclass(frozen=True)
class Batch:
    """Runs that a recipe needs.

    Attributes:
        models: names in the registry.
        seeds: of each, unless another number is asked for.
        most: seeds at most; 0 = any number.
    """

    models: tuple[str, ...]
    seeds: int = 5
    most: int = 0

    def number(self, asked: int) -> int:
        """Seeds, if so many are asked for; 0 leaves it to the batch."""
        found = asked or self.seeds
        return min(found, self.most) if self.most else found


Shown = Callable[[str, "Material"], RenderableType]


@dataclass(frozen=True)
class Recipe:
    """A table or figure.

    Attributes:
        title: what it is.
        show: writes its files and returns what the terminal shows.
        target_class: 1..10.
        n_samples: valid samples; 0 of one that needs no samples.
        batches: runs that it needs.
        targets: what to reach.
        grows: whether it needs the runs on training sets of growing size.
    """

    title: str
    show: Shown
    target_class: int = 1
    n_samples: int = 0
    batches: tuple[Batch, ...] = ()
    targets: tuple[Target, ...] = ()
    grows: bool = False


@dataclass(frozen=True, eq=False)
class Material:
    """What a recipe is shown from.

    Attributes:
        recipe: what is shown.
        views: its runs, one view a batch, or one a size and batch.
        training_set: the whole training set.
        judges: who scores.
        store: where the runs are; files go into its folder.
        width: characters of a line of the terminal.
    """

    recipe: Recipe
    views: Sequence[View]
    training_set: TrainingSet
    judges: tuple[Judge, ...]
    store: Store
    width: int

    @property
    def folder(self) -> Path:
        """Where files go."""
        return self.store.folder

    @property
    def trained_on(self) -> str:
        """The training set in words."""
        return f"{self.training_set.name} ({len(self.training_set):,} rows)"


def merged(views: Sequence[View]) -> View:
    """Views of one class, number of samples and training set as one, with the runs of all."""
    first = views[0]
    models = tuple(dict.fromkeys(name for view in views for name in view.plan.models))
    seeds = max((view.plan.seeds for view in views), key=len)
    groups = {
        judge.name: {name: runs for view in views for name, runs in view.groups[judge.name].items()}
        for judge in first.judges
    }
    return replace(first, plan=replace(first.plan, models=models, seeds=seeds), groups=groups)


def _table(name: str, material: Material) -> RenderableType:
    """A table of the paper: the figures of every model, then target, measured and verdict."""
    view = merged(material.views)
    write_json(material.folder / f"{name}.json", record_of(view))
    write_table(material.folder / f"{name}.txt", comparison(view, width=WIDTH), WIDTH)
    shown: list[RenderableType] = [comparison(view, width=material.width)]
    recipe, lines = material.recipe, []
    for number, judge in enumerate(view.judges):
        rows = verdict_rows(recipe.targets, view, judge.name)
        if name == "table1" and number == 0:
            rows = [*targets.data_rows(view), *rows]
        if rows:
            heading = f"{recipe.title}: {_how(view)}, judge {judge.name}"
            shown.append(_verdict_table(f"{heading}\ntrained on: {material.trained_on}", rows))
            lines += [f"{heading}; trained on {material.trained_on}.", "", *markdown(COLUMNS, rows), ""]
    if not recipe.targets:
        lines += _plain_table(view, material)
    write_text(material.folder / f"{name}.md", "\n".join(lines))
    return Group(*shown)


def _how(view: View) -> str:
    """Class, samples and seeds of a view in words."""
    counts: dict[int, list[str]] = {}
    for name, group in view.first.items():
        counts.setdefault(len(group), []).append(view.titles()[name])
    of = len(counts) > 1
    seeds = ", ".join(f"{n} seeds" + (f" of {', '.join(who)}" if of else "") for n, who in counts.items())
    return f"class {view.plan.target_class}, {view.plan.n_samples:,} valid samples, {seeds}"


def _verdict_table(title: str, rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(title=escape(title))
    for column in COLUMNS:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    return table


def _plain_table(view: View, material: Material) -> list[str]:
    """The figures of every model under every judge, in Markdown."""
    titles = view.titles()
    lines = []
    for judge in view.judges:
        groups = view.groups[judge.name]
        rows = [
            (metric.heading, *(metric.show_mean(*summarise(groups[name])[key]) for name in titles))
            for key, metric in METRICS.items()
        ]
        heading = f"{material.recipe.title}: {_how(view)}, judge {judge.name}"
        lines += [f"{heading}; trained on {material.trained_on}.", ""]
        lines += [*markdown(("", *titles.values()), rows), ""]
    return lines


def _wrote(material: Material, *files: str) -> RenderableType:
    """One line that says where pictures are."""
    return Text(f"{material.recipe.title}: {', '.join(str(material.folder / file) for file in files)}")


def _figure1(name: str, material: Material) -> RenderableType:
    """Elements and energies of training set and space, and the regression."""
    judge, rows = material.judges[0], material.training_set
    raw = load_training_set(_data(material), augment=False)
    held_out = held_out_predictions(raw, min(2_000, len(raw) // 2), np.random.default_rng(0))
    real = judge.table_energy[judge.space.composition_mask]
    draw_energy_landscape(
        material.folder / f"{name}.png",
        rows.energy,
        real,
        held_out,
        bins=energy_bins(judge.space, judge.table_energy),
        space=judge.space,
        caption=f"training set: {material.trained_on}; space: judge {judge.name}",
    )
    counts = np.bincount(rows.index, minlength=judge.space.n_table)
    draw_elements(
        material.folder / f"{name}_elements.png",
        {
            "training set": element_distribution(judge.space, counts),
            "space": element_distribution(judge.space, judge.space.composition_mask.astype(np.int64)),
        },
        space=judge.space,
        target_class=1,
        caption=f"training set: {material.trained_on}",
        title="Elements on the sites, all classes",
    )
    return _wrote(material, f"{name}.png", f"{name}_elements.png")


def _data(material: Material) -> str:
    """The training set as `load_training_set` takes it."""
    return material.views[0].plan.data


def class_distances(training_set: TrainingSet, judge: Judge) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(k, k) JS distance of every class of a training set, a row each, to every class of the space."""
    space = judge.space
    found = np.full((space.targets.n, space.targets.n), np.nan)
    whole = [
        element_distribution(space, judge.table_class == c + 1) if judge.class_counts[c + 1] else None
        for c in range(space.targets.n)
    ]
    for c in range(space.targets.n):
        index = training_set.index[training_set.energy_class == c + 1]
        if not len(index):
            continue
        known = element_distribution(space, np.bincount(index, minlength=space.n_table))
        for other, distribution in enumerate(whole):
            if distribution is not None:
                found[c, other] = js_distance(known, distribution)
    return found


def _figure2(name: str, material: Material) -> RenderableType:
    """JS distances between the classes of training set and space."""
    judge = material.judges[0]
    distances = class_distances(material.training_set, judge)
    caption = f"training set: {material.trained_on}; space: judge {judge.name}"
    draw_distances(material.folder / f"{name}.png", distances, caption=caption)
    k = len(distances)
    titles = tuple(map(str, range(1, k + 1)))
    rows = [(titles[c], *("-" if np.isnan(v) else f"{v:.3f}" for v in distances[c])) for c in range(k)]
    columns = ("training set / space", *titles)
    lines = [f"{material.recipe.title}; {caption}.", "", *markdown(columns, rows), ""]
    write_text(material.folder / f"{name}.md", "\n".join(lines))
    matrix = [[None if np.isnan(v) else round(float(v), 6) for v in row] for row in distances]
    write_json(material.folder / f"{name}.json", {"judge": judge.record(), "js_distance": matrix})
    return _wrote(material, f"{name}.png")


def _curves(name: str, material: Material) -> RenderableType:
    """Generation curves of the first seed of every model."""
    view, judge = merged(material.views), material.judges[0]
    curves = {
        group[0].title: stored_curve(
            material.store, group[0].record, judge, view.plan.request, material.training_set
        )
        for group in view.first.values()
    }
    caption = f"seed {view.plan.seeds[0]}; trained on: {material.trained_on}; judge: {judge.name}"
    draw_curves(
        material.folder / f"{name}.png",
        curves,
        space=judge.space,
        target_class=view.plan.target_class,
        caption=caption,
    )
    content = {"judge": judge.record(), "curves": {title: curve.as_dict() for title, curve in curves.items()}}
    write_json(material.folder / f"{name}.json", content)
    return _wrote(material, f"{name}.png")


def _energies(name: str, material: Material) -> RenderableType:
    view = merged(material.views)
    draw_class_energies(view, view.judges[0], material.folder / f"{name}.png")
    return _wrote(material, f"{name}.png")


def _elements(name: str, material: Material) -> RenderableType:
    view = merged(material.views)
    draw_class_elements(view, view.judges[0], material.folder / f"{name}.png")
    return _wrote(material, f"{name}.png")


def _both(name: str, material: Material) -> RenderableType:
    """Elements and energies."""
    view = merged(material.views)
    draw_class_energies(view, view.judges[0], material.folder / f"{name}_energies.png")
    return Group(_elements(name, material), _wrote(material, f"{name}_energies.png"))


def _sizes(name: str, material: Material) -> RenderableType:
    return sizes.write_sizes(material.views, material.folder, name)


def _costs(name: str, material: Material) -> RenderableType:
    return sizes.write_costs(material.views, material.folder, name)


SEARCHES: Final = (*PAPER_MODELS, "dqn-soft", "reward-model", AGENT)
"""Models whose searches the table and the figure of searches show."""
SEARCH_DATA: Final = Path(__file__).parents[1] / "data" / "searches"
"""Where the records of searches are, those too that are no part of the paper's tables."""


@functools.lru_cache(maxsize=16)
def search_of(model: str) -> Mapping[str, Any]:
    """The record of the search that chose the hyperparameters of a model, see `eval.search.search_record`.

    Raises:
        InputError: none ships.
    """
    path = SEARCH_DATA / f"{model}.json"
    if not path.is_file():
        raise InputError(f"no search of {model} ships: make one with `elpa search {model}`")
    content: Mapping[str, Any] = read_json(path)
    return content


def _front(name: str, material: Material) -> RenderableType:
    """The searches that chose the hyperparameters: trials, fronts, picks."""
    from eval.search import search_points

    panels = {_search_title(model): search_points(search_of(model)) for model in SEARCHES}
    draw_search(material.folder / f"{name}.png", panels, title=material.recipe.title)
    return _wrote(material, f"{name}.png")


def _search_title(model: str) -> str:
    return MODELS[model].title if model in MODELS else model.replace("-", " ")


def _trials(*models: str) -> Shown:
    """Every trial of the searches of some models as tables."""

    def show(name: str, material: Material) -> RenderableType:
        from eval.search import trial_rows

        shown: list[RenderableType] = []
        lines: list[str] = []
        for model in models:
            record = search_of(model)
            columns, rows = trial_rows(record)
            heading = f"{_search_title(model)}: {len(rows)} trials"
            table = Table(title=escape(heading), caption=f"* the pick: {record['rule']}; + on the front")
            for column in columns:
                table.add_column(column, justify="right")
            for row in rows:
                table.add_row(*row)
            shown.append(table)
            ranges = "; ".join(f"{key}: {where}" for key, where in record["ranges"].items())
            lines += [
                f"{heading}; ranges: {ranges}.",
                "",
                f"* the pick: {record['rule']}; + on the front.",
                "",
            ]
            lines += [*markdown(columns, rows), ""]
        write_text(material.folder / f"{name}.md", "\n".join(lines))
        return Group(*shown)

    return show


_BOTH: Final = (Batch(PAPER_MODELS), Batch((AGENT, "plan"), most=MANY_AGENTS))
_ONE: Final = (Batch(FOUR, seeds=1, most=1),)

RECIPES: Final[Mapping[str, Recipe]] = {
    "table1": Recipe("Table 1", _table, 1, TABLE_SAMPLES[1], _BOTH, (*targets.of_paper(1), *targets.AGENT_1)),
    "table2": Recipe("Table 2", _table, 5, TABLE_SAMPLES[5], _BOTH, (*targets.of_paper(5), *targets.AGENT_5)),
    "tableS2": Recipe("Table S2", _table, 1, 3_500, _BOTH),
    "tableS3": Recipe("Table S3", _table, 5, 2_500_000, _BOTH),
    "figure1": Recipe("Figure 1: training set and space", _figure1),
    "figure2": Recipe("Figure 2: JS distances between the classes of training set and space", _figure2),
    "figure4": Recipe("Figure 4: generation curves, class 1", _curves, 1, 250_000, _ONE),
    "figure5": Recipe("Figure 5: energies of what is generated for class 1", _energies, 1, 10_000, _ONE),
    "figure6": Recipe("Figure 6: elements of what is generated for class 1", _elements, 1, 10_000, _ONE),
    "figureS3": Recipe("Figure S3: what is generated for class 5", _both, 5, TABLE_SAMPLES[5], _ONE),
    "figure7": Recipe("Figure 7: generation curves, class 5", _curves, 5, TABLE_SAMPLES[5], _ONE),
    "figure8": Recipe(
        "Figure 8: training sets of growing size", _sizes, 1, 10_000, (Batch(FOUR, 3),), grows=True
    ),
    "section33": Recipe(
        "Section 3.3: what a discovery costs", _costs, 1, 10_000, (Batch(FOUR, 3),), grows=True
    ),
    "figureS4": Recipe("Figure S4: searches of hyperparameters", _front),
    "tableS5": Recipe("Table S5: search of the VAE", _trials("vae")),
    "tableS6": Recipe("Table S6: search of the GAN", _trials("gan")),
    "tableS7": Recipe("Table S7: searches of the agents", _trials("dqn", "dqn-soft", "reward-model", AGENT)),
    "agent1": Recipe(
        "Our agent, class 1", _table, 1, 10_000, (Batch((AGENT,)),), (*targets.AGENT_1, *targets.IN_TIME)
    ),
    "agent5": Recipe(
        "Our agent, class 5",
        _table,
        5,
        TABLE_SAMPLES[5],
        (Batch((AGENT,)),),
        (*targets.AGENT_5, *targets.IN_TIME),
    ),
    "offline1": Recipe(
        "The soft DQN that sees the data alone", _table, 1, 10_000, (Batch(("dqn-soft",)),), targets.OFFLINE_1
    ),
}
"""By name, in the order in which `elpa reproduce all` goes through them."""
ALL: Final = "all"


def names_of(name: str) -> list[str]:
    """The recipes that a name stands for."""
    return list(RECIPES) if name == ALL else [name]


def plans_of(
    name: str, *, data: str, n_seeds: int, n_samples: int, device: str, judges: tuple[str, ...]
) -> list[Plan]:
    """The runs that a recipe needs; 0 seeds or samples are the numbers that it names itself.

    A recipe that needs no runs has one plan without models, which names training set and judges.
    """
    recipe = RECIPES[name]
    base = Plan(
        models=(),
        seeds=(0,),
        data=data,
        target_class=recipe.target_class,
        n_samples=(n_samples or recipe.n_samples) if recipe.n_samples else 1,
        device=device,
        judges=judges,
    )
    plans = [
        replace(base, models=batch.models, seeds=tuple(range(batch.number(n_seeds))))
        for batch in recipe.batches
    ]
    if recipe.grows:
        whole = load_training_set(data or None)
        return [grown for plan in plans for grown in sizes.plans(plan, whole)]
    return plans or [base]


def show(name: str, views: Sequence[View], store: Store, *, width: int) -> RenderableType:
    """Write the files of a recipe into the store's folder, and return what the terminal shows."""
    whole = next((v for v in views if v.plan.subset is None and v.plan.augment), views[-1])
    material = Material(RECIPES[name], views, whole.training_set, whole.judges, store, width)
    return RECIPES[name].show(name, material)


def write_report(study: Study, store: Store) -> Path:
    """Put what the recipes of a study wrote into one page, ``reproduction.md``; its path."""
    lines = ["# The paper, table by table and figure by figure", ""]
    for name in dict.fromkeys(part.recipe for part in study.parts):
        recipe, text = RECIPES[name], store.folder / f"{name}.md"
        lines += [f"## {recipe.title}", ""]
        if text.is_file():
            lines += [text.read_text(encoding="utf-8").strip(), ""]
        lines += [
            f"![{path.stem}]({path.name})\n"
            for suffix in ("", "_elements", "_energies")
            if (path := store.folder / f"{name}{suffix}.png").is_file()
        ]
    path = store.folder / "reproduction.md"
    write_text(path, "\n".join(lines))
    return path
