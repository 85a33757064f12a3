"""Goes the newcomer's path of docs/newcomer.md and prints how long each step takes.

    python benchmarks/newcomer.py
    python benchmarks/newcomer.py --skip install compare tests    # with the Python that runs this

A checkout is installed into a fresh virtual environment in a temporary folder. Every step runs there, in an
empty folder of its own, with the code and the commands that stand on the pages.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"(?ms)^```(\w*)\n(.*?)^```")
STEPS = ("install", "compare", "tests", "agent", "model", "energy", "campaign")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a page or a part of it that are in a language; "" are commands."""
    return [body for name, body in FENCE.findall(text) if name == language]


def section(page: str, number: int) -> str:
    """The part of the newcomer's page under the heading of that number."""
    (found,) = re.findall(rf"(?ms)^## {number}\. .*?(?=^## |\Z)", page)
    return found


@dataclass
class Place:
    """Where a step runs.

    Attributes:
        checkout: to install, and whose tests run.
        folder: temporary, empty at first.
        scripts: the folder of the commands `python`, `pip`, `elpa` and `pytest`.
        out: where they print to.
    """

    checkout: Path
    folder: Path
    scripts: Path
    out: int | None

    def run(self, command: str, folder: Path | None = None) -> None:
        """Run a line of the shell as it stands; raise `CalledProcessError` if it fails."""
        path = f"{self.scripts}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(
            command,
            shell=True,
            cwd=folder or self.folder,
            env={**os.environ, "PATH": path},
            stdout=self.out,
            check=True,
        )

    def follow(self, text: str, module: str = "") -> None:
        """Write the Python of a part of a page into a file, and run its commands, in an empty folder."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        if module:
            (folder / module).write_text(blocks(text, "python")[0], encoding="utf-8")
        for line in "".join(blocks(text, "")).splitlines():
            self.run(line, folder)


def install(place: Place) -> None:
    place.run(f"{sys.executable} -m venv {place.folder / 'venv'}")
    place.scripts = place.folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    place.run("pip install -e '.[test]'", place.checkout)


def steps(checkout: Path) -> Iterator[tuple[str, Callable[[Place], None]]]:
    """The steps by name, each with what it does."""
    page = (checkout / "docs" / "newcomer.md").read_text(encoding="utf-8")
    model = (checkout / "docs" / "adding" / "model.md").read_text(encoding="utf-8")
    yield "install", install
    yield "compare", lambda place: place.follow(section(page, 2))
    yield "tests", lambda place: place.run("pytest -q", place.checkout)
    yield "agent", lambda place: place.follow(section(page, 4), "agent.py")
    yield "model", lambda place: place.follow(model, "mine.py")
    yield "energy", lambda place: place.follow(section(page, 6), "mine.py")
    yield "campaign", lambda place: place.follow(section(page, 7))


def processor_seconds() -> float:
    """Of all processes that were started and have ended, user and system."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, default=ROOT, help="what is installed")
    parser.add_argument("--skip", nargs="+", default=[], choices=STEPS, help="steps to leave out")
    parser.add_argument("--verbose", action="store_true", help="let the steps print")
    arguments = parser.parse_args()
    print("| step | wall time / s | processor time / s |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        scripts = Path(sysconfig.get_path("scripts"))
        out = None if arguments.verbose else subprocess.DEVNULL
        place = Place(arguments.checkout.resolve(), Path(folder), scripts, out)
        for name, step in steps(place.checkout):
            if name in arguments.skip:
                continue
            began, used = time.perf_counter(), processor_seconds()
            step(place)
            wall, used = time.perf_counter() - began, processor_seconds() - used
            print(f"| {name} | {wall:.0f} | {used:.0f} |", flush=True)


if __name__ == "__main__":
    main()
