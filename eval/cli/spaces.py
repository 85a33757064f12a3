"""Commands about spaces: prototypes, their elements, and what is known of their energies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from elpa_env.errors import InputError
from elpa_env.files import check_target, write_text
from eval.cli import common
from eval.cli.common import Overwrite

app = typer.Typer(help="The prototypes that can be generated, and what is known of their energies.")


@app.callback(invoke_without_command=True)
def spaces(context: typer.Context) -> None:
    """List the spaces that ship."""
    if context.invoked_subcommand is not None:
        return
    from elpa_env.catalogue import load_space
    from elpa_env.catalogue import spaces as names

    table = Table(box=SIMPLE_HEAD, caption="more of one: elpa spaces show NAME", caption_justify="left")
    for title in ("space", "formula", "sites", "elements"):
        table.add_column(title, no_wrap=True)
    table.add_column("compositions", justify="right", no_wrap=True)
    table.add_column("what is known of their energies")
    for name in names():
        benchmark = load_space(name)
        space = benchmark.space
        table.add_row(
            name,
            space.prototype.formula_template,
            ", ".join(space.sites),
            str(space.n_elements),
            f"{space.n_compositions:,}",
            escape(benchmark.what),
        )
    common.console.print(table)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name of a space, or a .toml file of your own.")],
) -> None:
    """Say what a space is: sites, elements, size, targets, and what is known of its energies."""
    from elpa_env.catalogue import load_space

    benchmark = load_space(name)
    space = benchmark.space
    table = Table(title=escape(f"{benchmark.title}: {space.prototype.formula_template}"), box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    table.add_column("")
    for title, text in _facts(benchmark):
        table.add_row(title, escape(text))
    common.console.print(table)


def _facts(benchmark: Any) -> list[tuple[str, str]]:
    """What there is to say, by title."""
    space, prototype = benchmark.space, benchmark.space.prototype
    rows = [
        (
            f"site {site.label}",
            f"{_times(site.multiplicity)} of {len(site.elements)}: {' '.join(site.elements)}",
        )
        for site in prototype.sites
    ]
    rows += [(f"fixed {one.label}", f"{_times(one.multiplicity)} {one.element}") for one in prototype.fixed]
    for group in prototype.equivalent:
        rows.append(("equivalent", f"{' and '.join(group)}: all orders of them are one compound"))
    rows.append(("an element on two sites", "allowed" if prototype.repeats else "not allowed"))
    if prototype.structure is not None:
        rows.append(("space group", str(prototype.structure.space_group)))
    size = f"{space.n_compositions:,}"
    if space.enumerable:
        size += f" ({space.n_compounds:,} compounds)"
    else:
        size += ", too many for tables of all: exact scores and coverage are not to be had"
    rows.append(("compositions", size))
    rows.append(("steps of an episode", f"{space.n_steps}: row 1-{space.n_rows}, column 1-{space.n_columns}"))
    rows.append(("energies", benchmark.what))
    table = None if benchmark.reference is None else benchmark.reference()
    for number, name in enumerate(space.targets.names, start=1):
        text = space.targets.interval(number)
        if table is not None:
            text += f": {int(table.class_counts[number]):,} compositions"
        rows.append((f"target {name}", text))
    if benchmark.data:
        rows.append(("training set", common.training_set("", False, benchmark).name))
    return rows


def _times(multiplicity: int) -> str:
    return "one" if multiplicity == 1 else str(multiplicity)


@app.command("cif")
def cif(
    name: Annotated[str, typer.Argument(help="Name of a space, or a .toml file of your own.")],
    formula: Annotated[str, typer.Argument(help="A composition, such as AlNaK2F6.")],
    out: Annotated[Path, typer.Option(help="CIF file to write.")],
    overwrite: Overwrite = False,
) -> None:
    """Write the crystal structure of a composition, with the prototype's start values."""
    from elpa_env.catalogue import load_space

    space = load_space(name).space
    index = space.formula_to_index([formula])
    if index[0] < 0:
        raise InputError(f"{formula} is no composition of {space.name}: {space.explain_formula(formula)}")
    target = check_target(out, overwrite=overwrite, kind="file")
    write_text(target, space.prototype.cif(space.index_to_numbers(index)[0]))
    common.say(f"{formula}: {out}")
