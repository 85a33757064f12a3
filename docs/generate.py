"""What the documentation says that the repository already knows: results, commands, environments, API.

    python docs/generate.py           writes what differs
    python docs/generate.py --check   writes nothing; names what differs and exits with status 1

Whole pages are made from the command line, the docstrings of the environments and the public names of the
packages. Tables stand between the lines ``<!-- generated: NAME -->`` and ``<!-- end -->`` of a page that is
otherwise written by hand; their figures are means over the runs and campaigns in ``docs/records``, by the
functions that `elpa reproduce` and `elpa discover benchmark` use. Nothing is trained or sampled.

    python docs/generate.py --animations   draws an episode of each environment anew
"""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import json
import re
import runpy
import statistics
import sys
import tempfile
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import gymnasium as gym

import elpa_env
from elpa_env.errors import InputError
from elpa_env.files import write_text
from eval.discovery import benchmark_rows, read_curves
from eval.discovery import summarise as summarise_campaigns
from eval.judge import PAPER, load_judge
from eval.metrics import METRICS, PAPER_METRICS, Metric
from eval.study.paper import TABLE_SAMPLES, TABLES
from eval.study.plan import config_record, hyperparameters
from eval.study.records import import_records
from eval.study.registry import AGENT
from eval.study.scores import Scored, can_be_scored, score_runs
from eval.study.sizes import SIZES
from eval.study.store import Request, Store
from eval.study.study import summarise, without_versions
from eval.study.tables import markdown

ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = ROOT / "docs"
RECORDS: Final = DOCS / "records"
MADE: Final = "<!-- This page is made by `python docs/generate.py`; change what it is made from. -->"
COLUMNS: Final = {"vae": "VAE", "gan": "GAN", "dqn": "DQN", AGENT: "our agent", "plan": "exact soft policy"}
"""Models of the tables by what the pages call them."""

FURTHER: Final = ("autoregressive", "diffusion", "gflownet", "rank")
"""Models beside those of the paper's tables."""
FURTHER_SAMPLES: Final = {1: 10_000, 5: 100_000}
"""Valid samples that these are scored by, by class."""


# --- results: tables of the runs in docs/records ---------------------------------------------------------


class Runs:
    """The runs whose records are in a folder, read into a store.

    Args:
        store: where to.
        records: folder of files that `elpa runs --export` wrote.
    """

    def __init__(self, store: Store, records: Path = RECORDS) -> None:
        for path in sorted(records.glob("*.jsonl.gz")):
            import_records(path, store)
        self.store, self.judge = store, load_judge(PAPER)
        self.group = functools.cache(self._group)
        # of runs that differ in versions alone the newest counts, as in `elpa reproduce --stored`
        newest = {without_versions(record["identity"]): record for record in store.records()}
        self.records = [record for record in newest.values() if record["preset"] == "default"]

    def _group(self, model: str, target_class: int, rows: int, n_samples: int = 0) -> list[Scored]:
        """The runs of a model with its default hyperparameters, in the order of their seeds.

        Args:
            model: name in the registry.
            target_class: 1..10.
            rows: of the training set.
            n_samples: valid samples that are scored; 0 = as many as in the paper's tables.

        Raises:
            InputError: there are none, or two of a seed.
        """
        request = Request(target_class, n_samples or TABLE_SAMPLES[target_class])
        preset = hyperparameters(model, "default")
        assert preset is not None
        found = [
            record
            for record in self.records
            if record["name"] == model
            and record["identity"]["config"] == config_record(preset.config)
            and record["identity"]["target_class"] in (None, target_class)
            and record["training_set"]["rows"] == rows
            and can_be_scored(self.store, record["key"], [self.judge], request)
        ]
        found.sort(key=lambda record: record["seed"])
        if not found or len({record["seed"] for record in found}) < len(found):
            seeds = ", ".join(str(record["seed"]) for record in found) or "none"
            raise InputError(f"{RECORDS} must have one run a seed of {model}, {rows:,} rows; it has {seeds}")
        return score_runs(self.store, found, self.judge, request)

    def whole(self, model: str, target_class: int, n_samples: int = 0) -> list[Scored]:
        """The runs on the whole training set with its A/B swaps, 21,112 rows."""
        return self.group(model, target_class, 21_112, n_samples)


def ours(metric: Metric, group: Sequence[Scored]) -> str:
    """A figure as ``83.3 ± 1.3``."""
    return metric.show_mean(*summarise(group)[metric.key])


def papers(metric: Metric, model: str, target_class: int) -> str:
    """The paper's figure as ``83 ± 1``; empty for what the paper does not have."""
    figures = TABLES[target_class].get(model)
    return metric.show_paper(*figures[metric.key]) if figures else ""


def front_table(runs: Runs) -> list[str]:
    """Three figures of both classes, the paper's in brackets."""
    titles = {"precision": "precision / %", "js_distance": "Jensen-Shannon distance"}
    after = {1: "10,000", 5: "25 million"}
    models = [name for name in COLUMNS if name != "plan"]
    rows = []
    for target_class in (1, 5):
        groups = {name: runs.whole(name, target_class) for name in models}
        for key in ("precision", "coverage", "js_distance"):
            title = titles.get(key, f"coverage after {after[target_class]} / %")
            if key == "precision":
                title = f"class {target_class}: {title}"
            cells = []
            for name in models:
                paper = papers(METRICS[key], name, target_class).partition(" ")[0]
                cells.append(ours(METRICS[key], groups[name]) + (f" ({paper})" if paper else ""))
            rows.append((title, *cells))
    return markdown(("", *(COLUMNS[name] for name in models)), rows)


def class_table(runs: Runs, target_class: int) -> list[str]:
    """The paper's five figures of a class, the paper's own below each."""
    groups = {name: runs.whole(name, target_class) for name in COLUMNS}
    rows = []
    for key in PAPER_METRICS:
        metric = METRICS[key]
        rows.append((metric.heading, *(ours(metric, group) for group in groups.values())))
        rows.append(("the paper", *(papers(metric, name, target_class) for name in groups)))
    seeds = ", ".join(f"{COLUMNS[name]} {len(group)}" for name, group in groups.items())
    return [f"Numbers of seeds: {seeds}.", "", *markdown(("", *COLUMNS.values()), rows)]


def model_table(runs: Runs, target_class: int) -> list[str]:
    """Every model with recorded runs, a row each."""
    keys = ("precision", "precision_neighbour", "coverage", "js_distance")
    rows = []
    for name in (*COLUMNS, *FURTHER):
        n_samples = (FURTHER_SAMPLES if name in FURTHER else TABLE_SAMPLES)[target_class]
        group = runs.whole(name, target_class, n_samples)
        title = f"`{name}`"
        figures = (ours(METRICS[key], group) for key in keys)
        rows.append((title, str(len(group)), f"{n_samples:,}", *figures))
    return markdown(("model", "seeds", "samples", *(METRICS[key].heading for key in keys)), rows)


def approaching_table() -> list[str]:
    """Agent and flow network beside the exact policy, from what ``benchmarks/approaching.py --out`` wrote."""
    records = json.loads((RECORDS / "approaching.json").read_text())
    shown = {
        "to_plan_sites": ("JS distance to `plan`, elements", 1, ".3f"),
        "to_plan": ("JS distance to `plan`, compositions", 1, ".3f"),
        "precision": ("precision / %", 100, ".1f"),
        "coverage": ("coverage after 10,000 / %", 100, ".1f"),
        "js_distance": ("JS distance to the class", 1, ".3f"),
        "queries": ("queries", 1, ",.0f"),
        "seconds": ("processor time / s", 1, ".0f"),
    }
    rows = []
    for target_class in (1, 5):
        for name in ("dqn-soft-model", "gflownet", "plan"):
            same = [one for one in records if (one["model"], one["class"]) == (name, target_class)]
            cells = []
            for key, (_, factor, form) in shown.items():
                values = [factor * one[key] for one in same if key in one]
                mean, spread = statistics.mean(values or [0]), statistics.stdev(values or [0, 0])
                exact = f"{mean:{form}}" + (f" ± {spread:{form}}" if spread else "")
                cells.append(exact if values else "-")
            rows.append((str(target_class), f"`{name}`", str(len(same)), *cells))
    return markdown(("class", "model", "seeds", *(title for title, _, _ in shown.values())), rows)


def size_table(runs: Runs) -> list[str]:
    """Coverage of class 1 by models that saw ever more rows."""
    models = [name for name in COLUMNS if name != "plan"]
    sizes = {f"{size:,}": size for size in SIZES} | {"10,590 as they are": 10_590, "21,112": 21_112}
    rows = []
    for title, size in sizes.items():
        # the sizes have three seeds, so that of the whole training set the first three count as well
        groups = [runs.group(name, 1, size)[:3] for name in models]
        rows.append((title, *(ours(METRICS["coverage"], group) for group in groups)))
    return markdown(("rows with swaps", *(COLUMNS[name] for name in models)), rows)


def campaign_table(field: str) -> list[str]:
    """What campaigns on known energies cost."""
    records = [record for record in read_curves(RECORDS / "discovery") if record["field"] == field]
    first = records[0]
    energies, settings = first["what"], first["settings"]
    what = (
        f"{energies[0].upper()}{energies[1:]}; {first['pool']:,} compounds, {first['targets']:,} of them "
        f"looked for; medians and quartiles of the seeds. {settings['initial']} labels at random, then "
        f"batches of {settings['batch_size']}."
    )
    return [what, "", *markdown(*benchmark_rows(summarise_campaigns(records)))]


def pretrained_table() -> list[str]:
    """What the agent that ships draws, from what `elpa score --agent pretrained --out` wrote a class."""
    keys = ("precision", "precision_neighbour", "coverage", "compounds", "js_distance")
    records = [json.loads(path.read_text()) for path in (RECORDS / "pretrained").glob("class-*.json")]
    records.sort(key=lambda record: record["target_class"])
    rows = [
        (str(record["target_class"]), *(METRICS[key].show(record["exact"][key]) for key in keys))
        for record in records
    ]
    return markdown(("class", *(METRICS[key].title for key in keys)), rows)


def tables(runs: Runs) -> Iterator[tuple[Path, str, list[str]]]:
    """Page, name and lines of every table."""
    yield ROOT / "README.md", "results", front_table(runs)
    for target_class in (1, 5):
        yield DOCS / "results.md", f"class {target_class}", class_table(runs, target_class)
        yield DOCS / "models.md", f"models, class {target_class}", model_table(runs, target_class)
    yield DOCS / "models.md", "approaching", approaching_table()
    yield DOCS / "results.md", "training sets", size_table(runs)
    yield DOCS / "pretrained.md", "pretrained", pretrained_table()
    for field in ("dft-pool", "elpasolite", "abo3"):
        yield DOCS / "discovery.md", f"campaigns {field}", campaign_table(field)


def between_marks(text: str, name: str, lines: Sequence[str], where: str) -> str:
    """The text with these lines between the marks of that name.

    Raises:
        InputError: the text does not have the marks once.
    """
    marks = re.compile(rf"(<!-- generated: {re.escape(name)} -->\n).*?(\n<!-- end -->)", re.DOTALL)
    if len(marks.findall(text)) != 1:
        raise InputError(f"{where} must have the marks <!-- generated: {name} --> and <!-- end --> once")
    body = "\n".join(["", *lines, ""])
    return marks.sub(lambda match: match[1] + body + match[2], text)


# --- the command line ------------------------------------------------------------------------------------


def command_page() -> str:
    """Every command with its arguments and options."""
    import typer

    from eval.cli import app

    lines = [
        "# All commands",
        "",
        MADE,
        "",
        "This is what `elpa COMMAND --help` says. "
        "[The command line](commands.md) tells what the commands are for.",
        "",
    ]
    for path, command in _commands(typer.main.get_command(app), "elpa"):
        lines += _command(path, command)
    return "\n".join(lines)


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """A command and those below it that can be called, by name."""
    below = getattr(command, "commands", {})
    if path != "elpa" and (not below or command.invoke_without_command):
        yield path, command
    for name, one in below.items():
        yield from _commands(one, f"{path} {name}")


def _command(path: str, command: Any) -> list[str]:
    """A section on one command."""
    kinds = typing.get_type_hints(inspect.unwrap(command.callback))
    parameters = [one for one in command.params if one.name != "help" and not getattr(one, "hidden", False)]
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    options = [one for one in parameters if one.param_type_name == "option"]
    usage = [path, *(f"[{one.name.upper()}]" if not one.required else one.name.upper() for one in arguments)]
    usage += [f"{one.opts[0]} {_metavar(one, kinds)}" for one in options if one.required]
    if any(not one.required for one in options):
        usage.append("[OPTIONS]")
    help_text = (
        inspect.cleandoc(command.help or "").replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n")
    )
    lines = [f"## {path}", "", help_text, "", "```text", " ".join(usage), "```", ""]
    if arguments:
        rows = [(f"`{one.name.upper()}`", _default(one), _cell(one.help)) for one in arguments]
        lines += [*markdown(("argument", "default", "what"), rows), ""]
    if options:
        rows = [(_option(one, kinds), _default(one), _cell(one.help)) for one in options]
        lines += [*markdown(("option", "default", "what"), rows), ""]
    return lines


def _option(option: Any, kinds: Mapping[str, Any]) -> str:
    """Names of an option and what it takes."""
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    return f"{names} {_metavar(option, kinds)}".strip()


def _metavar(parameter: Any, kinds: Mapping[str, Any]) -> str:
    """The kind of value that a parameter takes; nothing of a flag."""
    if getattr(parameter, "is_flag", False):
        return ""
    kind = str(kinds[parameter.name])
    words = {"int": "NUMBER", "float": "NUMBER", "Path": "PATH"}
    return next((word for part, word in words.items() if part in kind), "TEXT")


def _default(parameter: Any) -> str:
    """The default as it would be typed; a dash where there is none."""
    if parameter.required:
        return "needed"
    value = parameter.default
    if getattr(parameter, "is_flag", False):
        names = parameter.opts if value else parameter.secondary_opts
        return f"`{names[0]}`" if names else "off"
    if value is None or value == "" or (isinstance(value, list | tuple) and not value) or callable(value):
        return "-"
    return f"`{value}`"


def _cell(text: str | None) -> str:
    """A text for a cell of a table."""
    return " ".join((text or "").split()).replace("|", "\\|")


# --- the environments ------------------------------------------------------------------------------------

SECTIONS: Final = (
    "Description",
    "Action Space",
    "Observation Space",
    "Rewards",
    "Starting State",
    "Episode End",
    "Information",
    "Arguments",
    "Version History",
)
"""Of a page, in the order of Gymnasium's."""
ENVIRONMENTS: Final[Mapping[str, tuple[str, str]]] = {
    "Elpasolite-v0": ("episode.gif", "AlNaK2F6"),
    "Perovskite-v0": ("perovskite.gif", "SrTiO3"),
    "Composition-v0": ("composition.gif", "NaCl"),
}
"""Every environment that is registered, with its picture and what is built there."""
EXAMPLE: Final = elpa_env.Prototype(
    "rock-salt", (elpa_env.Site("A", ("Li", "Na", "K")), elpa_env.Site("X", ("F", "Cl")))
)
"""The prototype in the docstring of `CompositionEnv`."""


def make(name: str, **more: Any) -> Any:
    """The environment of that id; of one that needs a prototype the example of its docstring."""
    given: dict[str, Any] = {}
    if name == "Composition-v0":
        given = {
            "prototype": EXAMPLE,
            "energy_model": lambda numbers: numbers.sum(axis=1) / 10 - 4,
            "target": (-3, 0),
        }
    return gym.make(name, **given, **more)


def registered() -> list[str]:
    """The ids that `import elpa_env` registers."""
    return [name for name, spec in gym.registry.items() if str(spec.entry_point).startswith("elpa_env")]


def environment_file(name: str) -> str:
    """Name of its page, without an ending."""
    return name.partition("-")[0].lower()


def environment_page(name: str) -> str:
    """A page on one environment: what its docstring says, and where that is silent what its parent's says."""
    env = make(name)
    cls = type(env.unwrapped)
    sections = _sections(cls)
    spec = gym.registry[name]
    example = " of the example below" if name == "Composition-v0" else ""
    facts = [
        (f"action space{example}", f"`{env.action_space}`"),
        (f"observation space{example}", f"`{env.observation_space}`"),
        ("single", f'`gym.make("{name}")`'),
        ("native vector environment", f'`gym.make_vec("{name}", 4096)`'),
        ("class", f"`{spec.entry_point}`"),
    ]
    picture, formula = ENVIRONMENTS[name]
    lines = [
        f"# {name}",
        "",
        MADE,
        "",
        textwrap.dedent(cls.__doc__ or "").strip().partition("\n")[0],
        "",
        f"![An episode of {name} that builds {formula}](../figures/{picture})",
        "",
        *markdown(("", ""), facts),
        "",
    ]
    for title in SECTIONS:
        text = (
            _arguments(cls, sections)
            if title == "Arguments"
            else sections[0].get(title) or sections[-1][title]
        )
        lines += [f"## {title}", "", text.strip(), ""]
    return "\n".join(lines)


def _sections(cls: type) -> list[dict[str, str]]:
    """The sections of the docstring of an environment, then those of the class that it is made from."""
    found = []
    for one in (cls, elpa_env.CompositionEnv):
        parts = re.split(r"(?m)^## (.+)$", inspect.cleandoc(one.__doc__ or ""))[1:]
        found.append({title: body.strip() for title, body in zip(parts[::2], parts[1::2], strict=True)})
    return found


def _arguments(cls: type, sections: Sequence[Mapping[str, str]]) -> str:
    """The arguments in the order of the signature, then what the docstring says below its table."""
    rows: dict[str, str] = {}
    for one in reversed(sections):
        rows |= {match[1]: match[0] for match in re.finditer(r"(?m)^\| `(\w+)` \|.*$", one["Arguments"])}
    names = [name for name in inspect.signature(cls).parameters if name != "self"]
    missing = [name for name in names if name not in rows]
    if missing:
        raise InputError(f"the docstring of {cls.__name__} must have a row on {', '.join(missing)}")
    table = ["| argument | default | what |", "| --- | --- | --- |", *(rows[name] for name in names)]
    below = re.sub(r"(?m)^\|.*\n?", "", sections[0]["Arguments"]).strip()
    return "\n".join([*table, "", below])


# --- the packages ----------------------------------------------------------------------------------------

PACKAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "elpa_env": (),
    "agents": (),
    "agents.discovery": (),
    "generative": ("vae", "wgan_gp", "autoregressive", "diffusion", "baselines", "conditional"),
    "eval": (
        "judge",
        "metrics",
        "scoring",
        "exact",
        "curves",
        "frontier",
        "calibration",
        "search",
        "discovery",
        "study.registry",
        "study.plan",
        "study.store",
        "study.records",
        "study.scores",
        "study.study",
        "study.reproduce",
    ),
}
"""Packages with a page; where a package offers no names of its own, its modules."""


def api_page(package: str, modules: Sequence[str]) -> str:
    """What a package offers, for mkdocstrings."""
    module = importlib.import_module(package)
    lines = [f"# {package}", "", MADE, ""]
    if modules:
        lines += [(module.__doc__ or "").strip(), ""]
        for name in modules:
            lines += [f"::: {package}.{name}", ""]
        return "\n".join(lines)
    lines += [f"::: {package}", "    options:", "      show_root_heading: false"]
    lines += ["      members:", *(f"        - {name}" for name in module.__all__)]
    return "\n".join([*lines, ""])


# --- what there is to write ------------------------------------------------------------------------------


def pages() -> dict[Path, str]:
    """What every page that is made in whole or in part must hold."""
    found = {DOCS / "command_line.md": command_page()}
    if sorted(registered()) != sorted(ENVIRONMENTS):
        raise InputError(f"ENVIRONMENTS of {__file__} must name all that is registered: {registered()}")
    for name in ENVIRONMENTS:
        found[DOCS / "environments" / f"{environment_file(name)}.md"] = environment_page(name)
    for package, modules in PACKAGES.items():
        found[DOCS / "api" / f"{package}.md"] = api_page(package, modules)
    with tempfile.TemporaryDirectory() as folder:
        for path, name, lines in tables(Runs(Store(Path(folder) / "runs"))):
            text = found.get(path) or path.read_text(encoding="utf-8")
            found[path] = between_marks(text, name, lines, str(path.relative_to(ROOT)))
    return found


def main(report: Callable[[str], None] = print) -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if something differs")
    parser.add_argument("--animations", action="store_true", help="draw the environments' episodes anew")
    arguments = parser.parse_args()
    if arguments.animations:
        animate = runpy.run_path(str(ROOT / "examples" / "animate_episode.py"))["animate"]
        for name, (picture, formula) in ENVIRONMENTS.items():
            animate(make(name, render_mode="rgb_array"), formula, DOCS / "figures" / picture)
        return 0
    differs = {
        path: text
        for path, text in pages().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
    for path, text in differs.items():
        if arguments.check:
            report(f"{path.relative_to(ROOT)} differs: run `python docs/generate.py`")
        else:
            write_text(path, text)
            report(f"wrote {path.relative_to(ROOT)}")
    return int(arguments.check and bool(differs))


if __name__ == "__main__":
    sys.exit(main())
