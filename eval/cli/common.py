"""What the commands share: options, checks of their values, and lines on the terminal."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from elpa_env.errors import InputError

UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]
"""Wrong usage, in whatever copy of Click this version of Typer works with."""

console = Console(emoji=False, width=None if sys.stdout is not None and sys.stdout.isatty() else 160)
errors = Console(stderr=True, emoji=False)

TargetClass = Annotated[
    str,
    typer.Option(
        "--target-class",
        "--target",
        help="What to aim at: an energy class 1-10, of which 1 is the most stable, or the name of a space's "
        "target, such as stable.",
    ),
]
SpaceName = Annotated[
    str,
    typer.Option(
        "--space", help="Prototype and its energies: elpasolite, abo3, or a .toml file of your own."
    ),
]
NSamples = Annotated[
    int | None,
    typer.Option(
        "--n-samples",
        "-n",
        help="Valid samples to draw; 10,000 of elpasolite and 1,000 of other spaces by default.",
    ),
]
Data = Annotated[
    str,
    typer.Option(
        help="Training set, by default what ships with the space. Of elpasolite: 'landscape' (embedded), "
        "'dft' (Faber et al. 2016, see `elpa data fetch`), or the path of a .csv file or of a folder with "
        "the DFT table. Of a space with a table of energies: 'fifth' of its rows, or a .csv file."
    ),
]
Seed = Annotated[int, typer.Option(help="First seed.")]
Seeds = Annotated[int, typer.Option(help="Number of seeds; results become mean ± standard deviation.")]
Preset = Annotated[
    str,
    typer.Option(
        help="Hyperparameters: quick, default or paper; small for some thousand rows, the default of other "
        "spaces than elpasolite; tuned: chosen by scores against the landscape."
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, or another torch device.")]
Augment = Annotated[
    bool, typer.Option(help="Add the other orders of equivalent sites (A/B swaps) to the training set.")
]
AgentMasking = Annotated[
    str | None,
    typer.Option(
        help="Masks for the agent to sample with: digits, composition or none; "
        "by default those that it is known to have learned with."
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Read agents that Stable-Baselines3 saved: their files can run code of whoever made them.",
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        help="Who decides energies and classes. Of elpasolite: paper (its landscape), symmetric (the same, "
        "energies of ABCD and BACD averaged), or the folder of a landscape from `elpa data build-landscape`. "
        "Of a space with a table of energies: table, or held-out (its rows outside the training set that "
        "ships)."
    ),
]
Judges = Annotated[
    list[str] | None,
    typer.Option("--judge", help="Who scores, as in `elpa score`; repeat to see several side by side."),
]
Reference = Annotated[
    bool, typer.Option(help="Show the exact solutions of the environment as reference lines.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Jobs = Annotated[int, typer.Option(help="Models to train side by side on this machine; 0 = one a core.")]
Cluster = Annotated[
    str,
    typer.Option(
        help="Address of a Dask scheduler whose workers do the work instead, such as tcp://host:8786."
    ),
]
Retrain = Annotated[bool, typer.Option("--retrain", help="Train again what the folder holds already.")]


def benchmark(space: str, target: str) -> tuple[Any, int]:
    """A space by its name or file, and the number of a target in it.

    Raises:
        InputError: there is no such space, or no such target in it.
    """
    from elpa_env.catalogue import load_space

    found = load_space(space)
    return found, found.space.targets.check(target)


def training_set(data: str, augment: bool, space: Any = None) -> Any:
    """The training set of that name, in a space that `benchmark` gave; elpasolite's by default."""
    from elpa_env.catalogue import load_space
    from elpa_env.training import load_training_set

    return load_training_set(data or None, space=space or load_space(), augment=augment)


def agent_path(path: str) -> str:
    """Check that a file can be an agent, and return its absolute path; ``pretrained`` names what ships."""
    from agents.pretrained import PRETRAINED, pretrained_path

    if path == PRETRAINED:
        return str(pretrained_path())
    if not (path.endswith(".zip") and Path(path).is_file()):
        raise InputError(f"no agent {path}: name a .zip file that Stable-Baselines3 saved")
    return str(Path(path).resolve())


def agent(path: str, target_class: int, device: str, **chosen: Any) -> Any:
    """An agent with the options of the command line."""
    from eval.study.plan import check_device
    from eval.study.registry import load_agent

    check_device(device)
    return load_agent(agent_path(path), target_class=target_class, device=device, **chosen)


def at_least(option: str, value: int, least: int) -> None:
    """Raise InputError if an option is below a number."""
    if value < least:
        raise InputError(f"{option} must be at least {least}, got {value}")


def seed_range(first: int, number: int) -> tuple[int, ...]:
    """The seeds of a command."""
    at_least("--seed", first, 0)
    at_least("--seeds", number, 1)
    if first + number > 1 << 32:
        raise InputError(f"seeds must be below {1 << 32}, got {first + number - 1}")
    if number > 1 << 20:
        raise InputError(f"--seeds must be at most {1 << 20}, got {number}")
    return tuple(range(first, first + number))


def workers(jobs: int, cluster: str) -> Any:
    """Who trains."""
    import loky

    from eval.study.runner import Workers

    at_least("--jobs", jobs, 0)
    return Workers(jobs or int(loky.cpu_count()), cluster)


def warn(message: str) -> None:
    """One line on standard error."""
    errors.print(f"elpa: {message}", highlight=False, markup=False, soft_wrap=True)


def say(message: str) -> None:
    """One line on standard output, names in it taken as they are."""
    console.print(message, highlight=False, markup=False, soft_wrap=True)


def prepare() -> None:
    """Make this process independent of its surroundings.

    Names that are no UTF-8, and signs that the terminal lacks, are printed as something else. Pictures are
    only written, so that a backend or a matplotlibrc of the user's, which libraries import, plays no part.
    """
    os.environ |= {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush() -> None:
    """Write out what is printed, so that a full disk is noticed while it can be said.

    Raises:
        OSError: standard output cannot be written to.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def silence_if_broken() -> None:
    """Give up on a standard output that cannot be written to, which Python complains of when it ends."""
    try:
        flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
