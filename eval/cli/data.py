"""Commands about data: the DFT table, the energy landscape, training sets."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from elpa_env.files import check_target
from eval.cli import common
from eval.cli.common import Data, Overwrite, Seed, SpaceName, TargetClass
from eval.progress import progress_bar

app = typer.Typer(help="The DFT table and the energy landscape.", no_args_is_help=True)


class ExportFormat(StrEnum):
    """A form in which others read offline data."""

    MINARI = "minari"


@app.command("fetch")
def data_fetch(
    source: Annotated[
        str | None, typer.Option("--from", help="Folder, file or address; the published one by default.")
    ] = None,
) -> None:
    """Bring the DFT table into your cache, checked by its hash."""
    from elpa_env.dft import fetch

    common.say(f"DFT table: {fetch(source)}")


@app.command("build-landscape")
def data_build_landscape(
    out: Annotated[Path, typer.Option(help="Folder for landscape.npz and landscape.json.")] = Path(
        "landscape"
    ),
    data: Data = "dft",
    held_out: Annotated[int, typer.Option(help="Rows held out to measure the error.")] = 2000,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Fit the regression anew and hold it against the landscape that ships."""
    from elpa_env.landscape import fit_landscape, load_landscape
    from elpa_env.training import load_training_set

    target = check_target(out, overwrite=overwrite, kind="folder")
    common.at_least("--seed", seed, 0)
    training_set = load_training_set(data, augment=False)
    with common.console.status("fitting (about a minute)"):
        landscape, error = fit_landscape(training_set, held_out=held_out, seed=seed)
    landscape.save(target)
    shipped = load_landscape()
    table = Table(title=escape(f"Landscape fitted to {training_set.name}"))
    table.add_column("class", justify="right")
    table.add_column("compositions", justify="right")
    table.add_column("shipped", justify="right")
    for number, (new, old) in enumerate(
        zip(landscape.class_counts[1:], shipped.class_counts[1:], strict=True), start=1
    ):
        table.add_row(str(number), f"{new:,}", f"{old:,}")
    common.console.print(table)
    common.console.print(
        f"held-out error {error:.4f} eV/atom on {held_out:,} rows; "
        f"{int((landscape.table_class != shipped.table_class).sum()):,} compositions "
        f"are in another class than in the shipped landscape: {out}",
        highlight=False,
    )


@app.command("export")
def data_export(
    out: Annotated[
        Path, typer.Option(help="Folder of datasets, to be named by MINARI_DATASETS_PATH; new or not.")
    ],
    form: Annotated[
        ExportFormat, typer.Option("--format", help="Form of the dataset.")
    ] = ExportFormat.MINARI,
    space: SpaceName = "elpasolite",
    data: Data = "",
    target_class: TargetClass = "1",
    overwrite: Overwrite = False,
) -> None:
    """Write the training set, with the other orders of equivalent sites, as episodes for offline learning.

    Load them with MINARI_DATASETS_PATH set to the folder and minari.load_dataset of the id that is
    printed, or with minari.MinariDataset of the printed path.
    """
    from elpa_env.export import dataset_folder, dataset_id, export_minari
    from elpa_env.landscape import CITATION

    benchmark, target = common.benchmark(space, target_class)
    data = data or benchmark.data
    ours = data in ("dft", "landscape") and benchmark.name == "elpasolite"
    name = data if ours or data == benchmark.data else Path(data).resolve().stem
    where = dataset_folder(out, name, target, benchmark.space)
    check_target(where, overwrite=overwrite, kind="folder")
    training_set = common.training_set(data, augment=True, space=benchmark)
    with progress_bar(common.console, f"writing {form.value}") as progress:
        folder = export_minari(
            training_set,
            out,
            name=name,
            target_class=target,
            citation=CITATION if ours else None,
            progress=progress,
        )
    common.console.print(
        f"{len(training_set):,} episodes, {dataset_id(name, target, benchmark.space)}: {folder / 'data'}",
        highlight=False,
        soft_wrap=True,
    )


@app.command("info")
def data_info(data: Data = "", space: SpaceName = "elpasolite") -> None:
    """Show a training set's size, hash and class counts."""
    from elpa_env.catalogue import load_space

    training_set = common.training_set(data, augment=True, space=load_space(space))
    table = Table(title=escape(f"{training_set.name}: {len(training_set):,} rows"))
    for name in training_set.space.targets.names:
        table.add_column(name, justify="right")
    table.add_row(*(f"{count:,}" for count in training_set.class_counts))
    common.console.print(table)
    common.say(f"sha256 {training_set.sha256}")
