"""The guides can be followed: every command parses, and what the how-to pages show runs as it stands."""

import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.main import get_command

from elpa_env import load_landscape
from eval.cli import app

ROOT = Path(__file__).parents[1]
ADDING = ROOT / "docs" / "adding"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ELPA = get_command(app)
FENCE = re.compile(r"(?ms)^```(\w*)[^\n]*\n(.*?)^```")


def blocks(page, language):
    """The fenced blocks of a page in a language; "" for those that name none, which hold commands."""
    return [body for name, body in FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def commands(text):
    """The `elpa` commands of a block, as lists of words, what follows a # left out."""
    lines = text.replace("\\\n", " ").splitlines()
    parts = itertools.chain.from_iterable(line.split("&&") for line in lines)
    stripped = (part.strip().removeprefix("$ ") for part in parts)
    return [shlex.split(part, comments=True)[1:] for part in stripped if part.startswith("elpa ")]


def fenced_commands(page):
    text = "\n".join(
        itertools.chain.from_iterable(blocks(page, name) for name in ("", "bash", "sh", "console"))
    )
    return commands(text)


def inline_commands(page):
    """Those in the middle of a sentence or table, which may leave out what does not matter there."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [shlex.split(code)[1:] for code in re.findall(r"`(elpa\s[^`]+)`", text)]


def command_of(words):
    """The command that words name, and what is left of them."""
    command, words = ELPA, list(words)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    return command, words


def parse(words):
    """Parse a command line up to the point at which it would run, as the program itself does."""
    command, rest = command_of(words)
    if hasattr(command, "commands"):  # a group: alone, or before a word that is none of its commands
        assert not rest, f"no such command: {words}"
    return command.make_context("elpa", rest)


def test_commands_are_found_and_a_wrong_one_does_not_parse():
    found = commands(
        "pip install x && elpa compare --seeds 2  # twice\nelpa \\\n  spaces show abo3\npytest\n"
    )
    assert found == [["compare", "--seeds", "2"], ["spaces", "show", "abo3"]]
    everywhere = [words for page in PAGES for words in fenced_commands(page)]
    assert len(everywhere) > 30
    for wrong in (["compare", "--sedes", "2"], ["compere"], ["discover", "ask", "a.db"], ["solve", "--seed"]):
        with pytest.raises(Exception, match=r"(?i)no such|missing|requires"):
            parse(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_of_the_page_parse(page):
    for words in fenced_commands(page):
        parse(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_within_sentences_exist_with_their_options(page):
    for words in inline_commands(page):
        if words[0].isupper():  # a placeholder: `elpa COMMAND --help`
            continue
        command, rest = command_of(words)
        assert command is not ELPA, words
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        asked = {word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        assert asked <= known, (words, asked - known)


@pytest.mark.parametrize("page", sorted(ADDING.glob("*.md")), ids=lambda page: page.stem)
class TestHowToPages:
    def test_files_that_they_name_are_there(self, page):
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        rooms = r"(?:agents|docs|elpa_env|eval|examples|generative|tests)"
        named = set(re.findall(rf"`({rooms}/[\w./-]+)`", text)) - {"generative/NAME.py", "agents/NAME.py"}
        assert named
        for name in named:
            assert (ROOT / name).exists(), name

    def test_contributors_find_them(self, page):
        assert f"docs/adding/{page.name}" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def python(folder, *arguments, timeout=600):
    """Run Python as a reader does, in a folder of their own; what it printed."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUTF8": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def elpa(folder, words):
    """Run a command line of a page; the working folder is not on the path, as with the installed `elpa`."""
    return python(folder, "-P", "-m", "eval", *words)


@pytest.mark.slow
class TestRuns:
    def test_a_model_of_the_users_own(self, tmp_path):
        page = ADDING / "model.md"
        (code,) = blocks(page, "python")
        assert len(code.splitlines()) <= 15
        (command,) = fenced_commands(page)
        (tmp_path / "mine.py").write_text(code, encoding="utf-8")
        elpa(tmp_path, command)
        heading = (tmp_path / "results" / "table.txt").read_text(encoding="utf-8").splitlines()[3]
        assert heading.split()[:2] == ["swap", "sites"]
        assert "DQN soft, model" in heading
        drawn = pd.read_csv(tmp_path / "results" / "samples_swap.csv")
        assert len(drawn) == 10_000
        assert 0.5 < (drawn["energy_class"] == 1).mean() < 0.9

    def test_an_energy_of_the_users_own(self, tmp_path):
        page = ADDING / "energy.md"
        code, play = blocks(page, "python")
        (tmp_path / "mine.py").write_text(code, encoding="utf-8")
        (tmp_path / "play.py").write_text(play, encoding="utf-8")
        formula, energy, reward = python(tmp_path, "play.py").split()
        assert reward in ("1.0", "-1.0")
        asked = "from mine import energies, space; "
        asked += f"print(energies(space.index_to_numbers(space.formula_to_index(['{formula}'])))[0])"
        assert float(python(tmp_path, "-c", asked)) == pytest.approx(float(energy), abs=1e-4)
        new, run = fenced_commands(page)
        elpa(tmp_path, new)
        printed = elpa(tmp_path, run)
        (found,) = re.findall(r"(?m)^(\d+) found$", printed)
        count = "from mine import energies, space; import numpy; index = numpy.arange(space.n_table); "
        count += "print((energies(space.index_to_numbers(index)) <= 0.025).mean())"
        assert int(found) > 80 * float(python(tmp_path, "-c", count))  # what chance finds of as many
        assert "\n80 labels; " in printed

    def test_a_prototype_of_the_users_own(self, tmp_path):
        page = ADDING / "prototype.md"
        (described,), (code,) = blocks(page, "toml"), blocks(page, "python")
        (tmp_path / "antiperovskite.toml").write_text(described, encoding="utf-8")
        show, cif = fenced_commands(page)
        assert "196" in elpa(tmp_path, show)
        elpa(tmp_path, cif)
        from ase.io import read

        atoms = read(tmp_path / "na3ocl.cif")
        assert sorted(atoms.get_chemical_symbols()) == ["Cl", "Na", "Na", "Na", "O"]
        size, formula = python(tmp_path, "-c", code).split()
        assert size == str(7 * 4 * 7)
        assert len(re.findall("[A-Z]", formula)) == 3

    def test_a_metric_of_the_users_own(self, tmp_path):
        (code,) = blocks(ADDING / "metric.md", "python")
        precision, share = map(float, python(tmp_path, "-c", code).split())
        assert 0 < precision < 1
        landscape = load_landscape()
        (of_class,) = np.nonzero(landscape.table_class == 1)
        fluorides = (landscape.space.index_to_numbers(of_class)[:, 3] == 9).mean()
        assert share == pytest.approx(
            fluorides, abs=0.1
        )  # the baseline draws elements as often as the class has them

    def test_the_tutorial_of_discovery(self, tmp_path):
        """In the order in which they stand, the answers of the landscape filled in between."""
        page = ROOT / "docs" / "discovery.md"
        first, second = blocks(page, "")[:2]
        asking, telling = commands(first), commands(second)
        assert [words[:2] for words in asking] == [["discover", "new"], ["discover", "ask"]]
        assert [words[1] for words in telling] == ["tell", "status", "show", "export"]
        for words in asking:
            elpa(tmp_path, words)
        batch = pd.read_csv(tmp_path / "batch" / "batch.csv")
        assert len(batch) == len(list((tmp_path / "batch").glob("*.cif"))) == 25
        landscape = load_landscape()
        index = landscape.space.formula_to_index(batch["formula"].tolist())
        batch["energy"] = landscape.energy(index)
        batch.to_csv(tmp_path / "batch" / "batch.csv", index=False)
        said = [elpa(tmp_path, words) for words in telling]
        assert "25 labels taken: 25 labels" in said[0]
        assert (tmp_path / "curve.png").stat().st_size > 1_000
        assert (
            len(pd.read_csv(tmp_path / "candidates.csv"))
            == len(list((tmp_path / "candidates").iterdir()))
            >= 20
        )

    def test_the_newcomers_path(self):
        """Its light steps, and what has a test of its own left out."""
        script = ROOT / "benchmarks" / "newcomer.py"
        printed = python(ROOT, script, "--skip", "install", "compare", "tests", "model")
        assert re.findall(r"(?m)^\| (\w+) \| \d+ \| \d+ \|$", printed) == ["agent", "energy", "campaign"]
