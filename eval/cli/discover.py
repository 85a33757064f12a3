"""Commands of closed-loop discovery: campaigns, and how few labels they need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from elpa_env.errors import InputError
from elpa_env.files import check_target, write_json, write_text
from eval.cli import common
from eval.cli.common import Cluster, Overwrite, Seed
from eval.progress import progress_bar

app = typer.Typer(
    help="Find the compounds of a target with as few calculations as possible; a campaign is one file.",
    no_args_is_help=True,
)

CampaignPath = Annotated[Path, typer.Argument(help="File of the campaign.")]
Energy = Annotated[
    str,
    typer.Option(
        help="Where energies come from: landscape (what ships with the space), a .csv table, "
        "module:callable, chgnet, or 'command: PROGRAM ARGUMENTS'."
    ),
]
References = Annotated[
    str,
    typer.Option(
        help="Of chgnet: energies of the elements: those that ship (default); a .csv table (element, "
        "energy); 'fit' to the elpasolite DFT table, 'fit:known.csv' to a table of yours; or 'elements', "
        "calculated by it."
    ),
]


@app.command()
def new(
    path: CampaignPath,
    space: Annotated[
        str,
        typer.Option(
            help="elpasolite, abo3, a .toml file of your own, or dft-pool: the compounds of the elpasolite "
            "DFT table."
        ),
    ] = "elpasolite",
    target: Annotated[
        str,
        typer.Option(
            "--target",
            "--target-class",
            help="Number or name of a target of the space, or 'lowest' for the lowest energy.",
        ),
    ] = "1",
    labels: Annotated[
        Path | None, typer.Option(help="CSV of compounds whose energies are known, in eV/atom.")
    ] = None,
    proposer: Annotated[
        str,
        typer.Option(
            help="Where candidates come from: rank (all compounds), agent, genetic, random, a model such as "
            "vae or gan, or module:Class."
        ),
    ] = "rank",
    surrogate: Annotated[str, typer.Option(help="ensemble (of networks) or gp (a Gaussian process).")] = (
        "ensemble"
    ),
    acquisition: Annotated[
        str,
        typer.Option(
            help="probability (of the target), expected-improvement, thompson or uncertainty; by default "
            "probability, for the lowest energy expected-improvement."
        ),
    ] = "",
    initial: Annotated[int, typer.Option(help="Labels up to which compounds are chosen at random.")] = 100,
    batch_size: Annotated[int, typer.Option(help="Compounds of a round.")] = 25,
    diverse: Annotated[
        bool, typer.Option("--diverse", help="Batches without compounds that differ in a single site.")
    ] = False,
    again_after: Annotated[
        float, typer.Option(help="Hours after which a calculation that did not come back is asked again.")
    ] = 168.0,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Begin a campaign."""
    from agents.discovery.acquisition import LOWEST
    from agents.discovery.campaign import Campaign, Settings

    common.seed_range(seed, 1)
    found, pool = _space(space)
    settings = Settings(
        proposer=proposer,
        surrogate=surrogate,  # type: ignore[arg-type]
        acquisition=acquisition  # type: ignore[arg-type]
        or ("expected-improvement" if target == LOWEST else "probability"),
        initial=initial,
        batch_size=batch_size,
        diverse=diverse,
        again_after=again_after * 3600,
    )
    known = None if labels is None else _labels(labels, found)
    with Campaign.new(
        path,
        found,
        target=target,
        settings=settings,
        seed=seed,
        pool=pool,
        pool_name=space,
        labels=known,
        proposers=_proposers(proposer, space),
        overwrite=overwrite,
    ) as campaign:
        common.say(
            f"{path}: looks for {campaign.goal.title} of {found.name}, {len(campaign.labels())} labels"
        )


@app.command()
def ask(
    path: CampaignPath,
    out: Annotated[Path, typer.Option(help="Folder to write: batch.csv and a CIF a compound.")],
    number: Annotated[
        int | None, typer.Option("-n", "--number", help="Compounds; a round of the campaign by default.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Say what to calculate next; the compounds count as in flight until results are told."""
    from agents.discovery.results import write_batch

    target = check_target(out, overwrite=overwrite, kind="folder")
    with _open(path) as campaign, progress_bar(common.console, "training") as progress:
        batch = campaign.ask(number, progress=progress)
        write_batch(target, batch, campaign.space)
    common.say(f"{len(batch)} compounds to calculate: {out}")
    common.say(f"fill in energies in eV/atom, then: elpa discover tell {path} {out / 'batch.csv'}")


@app.command()
def tell(
    path: CampaignPath,
    results: Annotated[
        Path,
        typer.Argument(help="CSV with a column formula, or one a site such as Z_A, and energy in eV/atom."),
    ],
    source: Annotated[
        str, typer.Option(help="Where the energies are from; the file's name by default.")
    ] = "",
    unasked: Annotated[
        bool, typer.Option("--unasked", help="Take compounds, too, that were not asked for.")
    ] = False,
    correct: Annotated[
        bool, typer.Option("--correct", help="Let energies take the place of others of the same compounds.")
    ] = False,
    beyond: Annotated[
        bool, typer.Option("--beyond", help="Take energies, too, that lie beyond anything known.")
    ] = False,
) -> None:
    """Take results: all of a file, or none."""
    from agents.discovery.results import read_results

    with _open(path) as campaign:
        told = read_results(results, campaign.space, source)
        number = campaign.tell(told, unasked=unasked, correct=correct, beyond=beyond)
        failed = sum(bool(one.error) for one in told)
        found = int(campaign.goal.reached(campaign.labels().energy).sum())
        more = f", {failed} failed" if failed else ""
        common.say(f"{number} labels taken{more}: {len(campaign.labels())} labels, {found} found")


@app.command()
def run(
    path: CampaignPath,
    energy: Energy,
    budget: Annotated[int, typer.Option(help="Labels in all, those at the start included.")],
    batch_size: Annotated[
        int | None, typer.Option(help="Compounds of a round; the campaign's own by default.")
    ] = None,
    references: References = "",
    time_limit: Annotated[
        float, typer.Option(help="Seconds that a command may take for a structure.")
    ] = 3600,
    retries: Annotated[int, typer.Option(help="Further tries that a command has for a structure.")] = 2,
    jobs: Annotated[int, typer.Option(help="Calculations side by side on this machine.")] = 1,
    cluster: Cluster = "",
) -> None:
    """Ask, calculate and tell until the budget is spent; an interrupted run goes on where it was."""
    from agents.discovery.energies import load_energy
    from agents.discovery.run import run_campaign

    common.at_least("--jobs", jobs, 1)
    if batch_size is not None:
        common.at_least("--batch-size", batch_size, 1)
    with _open(path) as campaign:
        source = load_energy(
            energy, campaign.space, references=references, time_limit=time_limit, retries=retries
        )
        try:
            with progress_bar(common.console, "labels") as progress:
                run_campaign(
                    campaign,
                    source,
                    budget=budget,
                    batch_size=batch_size,
                    jobs=jobs,
                    cluster=cluster,
                    report=common.say,
                    progress=progress,
                )
        except KeyboardInterrupt:
            common.warn("every energy that arrived is kept: the same command goes on from there")
            raise
        finally:
            source.close()
        _print_status(campaign, path, budget)


@app.command()
def status(
    path: CampaignPath,
    budget: Annotated[int | None, typer.Option(help="Labels that there may be in all.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out how many are still to be found, which takes seconds.")
    ] = False,
) -> None:
    """Say what is found, what it cost, what is in flight, what is still expected, and whether to stop."""
    with _open(path) as campaign:
        _print_status(campaign, path, budget, expected=not quick)


@app.command()
def show(
    path: CampaignPath,
    number: Annotated[int, typer.Option("-n", "--number", help="Rows of the table.")] = 20,
    out: Annotated[Path | None, typer.Option(help="Picture of the curve to write (.png).")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Show the compounds that were found, the lowest first, and draw found against labels."""
    from eval.discovery_figures import draw_campaign

    common.at_least("--number", number, 1)
    target = check_target(out, overwrite=overwrite, kind="file") if out else None
    with _open(path) as campaign:
        history = campaign.history()
        space, goal = campaign.space, campaign.goal
        labels = campaign.labels()
        order = labels.energy.argsort(kind="stable")
        order = order[goal.reached(labels.energy)[order]][:number]
        about = {
            compound: (source, round_)
            for compound, source, round_ in zip(
                history["compound"], history["source"], history["round"], strict=True
            )
        }
        unit = f" / ({space.targets.unit})" if space.targets.unit else ""
        table = Table(title=escape(f"{path}: found of {goal.title}"), box=SIMPLE_HEAD)
        for column in ("compound", f"{space.targets.quantity}{unit}", "round", "source"):
            table.add_column(escape(column), justify="left" if column in ("compound", "source") else "right")
        for index, energy in zip(labels.index[order].tolist(), labels.energy[order].tolist(), strict=True):
            source, round_ = about[index]
            (formula,) = space.index_to_formula([index])
            table.add_row(str(formula), f"{energy:.4f}", str(round_), escape(source))
        common.console.print(table)
        failures = campaign.failures()
        for formula, error in failures[:5]:
            common.say(f"failed: {formula}: {error}")
        if target:
            given = history["round"].count(0)
            draw_campaign(target, campaign.curve(), goal=goal.title, title=str(path.name), n_given=given)
            common.say(f"curve: {out}")


@app.command()
def export(
    path: CampaignPath,
    cif: Annotated[Path | None, typer.Option(help="Folder for a CIF file a compound.")] = None,
    csv: Annotated[Path | None, typer.Option(help="CSV table to write.")] = None,
    number: Annotated[
        int, typer.Option("-n", "--number", help="Compounds without a label, the most probable ones.")
    ] = 20,
    sort: Annotated[str, typer.Option(help="energy, probability, uncertainty or formula.")] = "energy",
    overwrite: Overwrite = False,
) -> None:
    """Write the candidates: what was found and what is expected next, as structures and as a table."""
    from agents.discovery.candidates import candidates, write_candidates, write_structures

    if cif is None and csv is None:
        raise InputError("name a folder with --cif, a table with --csv, or both")
    common.at_least("--number", number, 0)
    folder = check_target(cif, overwrite=overwrite, kind="folder", option="--cif") if cif else None
    file = check_target(csv, overwrite=overwrite, kind="file", option="--csv") if csv else None
    with _open(path) as campaign, progress_bar(common.console, "training") as progress:
        table = candidates(campaign, n_expected=number, sort=sort, progress=progress)
        if folder:
            write_structures(folder, campaign, table)
        if file:
            write_candidates(file, table)
    found = int(table["labelled"].sum())
    common.say(
        f"{found} found and {len(table) - found} expected: {', '.join(map(str, filter(None, (cif, csv))))}"
    )


@app.command()
def retry(
    path: CampaignPath,
    formulas: Annotated[list[str], typer.Argument(help="Compounds whose calculation failed.")],
) -> None:
    """Let compounds whose calculation failed be asked for again."""
    with _open(path) as campaign:
        index = campaign.space.formula_to_index(formulas)
        for formula, one in zip(formulas, index.tolist(), strict=True):
            if one < 0:
                raise InputError(f"{formula}: {campaign.space.explain_formula(formula)}")
        common.say(f"{campaign.forget_failure(index)} compounds will be asked for again")


@app.command()
def references(
    out: Annotated[Path, typer.Option(help="CSV table to write.")],
    space: Annotated[str, typer.Option(help="Whose elements.")] = "elpasolite",
    fit: Annotated[
        Path | None, typer.Option(help="CSV of compounds with known formation energies to fit them to.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Calculate the energies of the elements by CHGNet, which formation energies are counted from."""
    from agents.discovery.references import ELEMENTS, FIT, load_references, write_references
    from agents.discovery.relax import chgnet_calculator

    target = check_target(out, overwrite=overwrite, kind="file")
    found, _ = _space(space)
    with progress_bar(common.console, "elements") as progress:
        name = f"{FIT}:{fit}" if fit else ELEMENTS
        table = load_references(name, found, chgnet_calculator, progress=progress)
    write_references(target, table)
    common.say(f"energies of {len(table)} elements: {out}")


@app.command()
def benchmark(
    out: Annotated[
        Path, typer.Option(help="Folder for curves, table and picture; one that holds some gains.")
    ],
    space: Annotated[str, typer.Option(help="dft-pool, elpasolite or abo3.")] = "dft-pool",
    proposer: Annotated[
        list[str] | None, typer.Option(help="See `elpa discover new`; repeat for several.")
    ] = None,
    surrogate: Annotated[list[str] | None, typer.Option(help="ensemble or gp; repeat for several.")] = None,
    acquisition: Annotated[
        list[str] | None, typer.Option(help="See `elpa discover new`; repeat for several.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Campaigns of each.")] = 10,
    budget: Annotated[int, typer.Option(help="Labels of a campaign; 0 = what the space is tried with.")] = 0,
    seed: Seed = 0,
) -> None:
    """Run campaigns on known energies: found against labels, beside screening at random.

    Curves that the folder holds are not run again.
    """
    from agents.discovery.campaign import Settings
    from eval.discovery import Way, benchmark_table, load_field, read_curves, run_benchmark, summarise
    from eval.discovery_figures import draw_benchmark
    from eval.report import write_page

    common.at_least("--budget", budget, 0)
    numbers = common.seed_range(seed, seeds)
    field = load_field(space)
    ways = [
        Way(one, other, third)
        for one in proposer or ["rank"]
        for other in surrogate or ["ensemble"]
        for third in acquisition or ["probability"]
    ]
    for way in ways:
        Settings(**{one.name: getattr(way, one.name) for one in fields(way)})
        _proposers(way.proposer, space)
    check_target(out / "curves", overwrite=True, kind="folder")
    try:
        run_benchmark(field, ways, numbers, out, budget=budget, report=common.say)
    except KeyboardInterrupt:
        common.warn("finished campaigns are kept: the same command goes on from there")
        raise
    summary = summarise([one for one in read_curves(out) if one["field"] == field.name])
    table = benchmark_table(summary, f"{field.what}, {len(field.pool):,} compounds")
    common.console.print(table)
    write_json(out / f"{field.name}.json", summary)
    caption = f"{field.what}; {len(field.pool):,} compounds; medians and quartiles of the seeds"
    draw_benchmark(out / f"{field.name}.png", summary, title=f"Campaigns on {field.name}", caption=caption)
    write_text(out / f"{field.name}.md", _markdown(summary, caption))
    write_page(out)
    common.say(f"results in {out}")


def _markdown(summary: Any, caption: str) -> str:
    from eval.discovery import benchmark_rows
    from eval.study.tables import markdown

    return "\n".join([f"{caption}.", "", *markdown(*benchmark_rows(summary)), ""])


def _space(name: str) -> tuple[Any, Any]:
    """A space, and the pool of compounds that it is restricted to."""
    from elpa_env.catalogue import load_space
    from eval.discovery import DFT_POOL, dft_pool

    if name == DFT_POOL:
        energies = dft_pool()
        return energies.space, energies.compound
    return load_space(name).space, None


def _labels(path: Path, space: Any) -> Any:
    """Known energies of a space."""
    from elpa_env import dft
    from elpa_env.training import TrainingSet

    rows = dft.read_path(path, space)
    return TrainingSet(space.numbers_to_index(rows.numbers), rows.energy, rows.name, space)


def _proposers(name: str, space: str) -> Any:
    from eval.discovery import DFT_POOL, proposers

    return proposers(name, "elpasolite" if space == DFT_POOL else space)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    """A campaign, with the proposer that it names."""
    from agents.discovery.campaign import Campaign
    from agents.discovery.store import CampaignFile

    file = CampaignFile(path)
    try:
        facts = file.facts()
        name = str(facts.get("settings", {}).get("proposer", "rank"))
        yield Campaign(file, _proposers(name, str(facts.get("pool") or "elpasolite")))
    finally:
        file.close()


def _print_status(campaign: Any, path: Path, budget: int | None, *, expected: bool = True) -> None:
    """What `status` prints."""
    with progress_bar(common.console, "training") as progress:
        state = campaign.status(progress, expected=expected)
    unit = f" {campaign.space.targets.unit}" if campaign.space.targets.unit else ""
    common.say(f"{path}: {campaign.goal.title} of {campaign.space.name}")
    common.say(f"{state.found:,} found")
    given = f", {state.given:,} of them given at the start" if state.given else ""
    common.say(f"{state.labels:,} labels{given}; lowest {state.lowest:.4g}{unit}")
    overdue = f", {state.overdue:,} of them overdue" if state.overdue else ""
    common.say(f"{state.in_flight:,} calculations in flight{overdue}; {state.failed:,} failed")
    common.say(f"{state.rounds:,} rounds, the last {state.without_find:,} without a find")
    if state.expected is not None:
        common.say(f"{state.expected:.3g} more expected among what is not calculated yet")
    common.say(state.advice(budget))
