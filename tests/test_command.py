"""A command of the user's that answers well, hangs, dies, or talks nonsense."""

import json
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from ase.geometry import cellpar_to_cell

from agents.discovery.command import CommandEnergy
from agents.discovery.energies import load_energy
from agents.discovery.labelling import label_all
from elpa_env import ELPASOLITE_SPACE as SPACE
from elpa_env.catalogue import load_space
from elpa_env.errors import InputError
from elpa_env.prototype import Prototype, Site
from elpa_env.space import make_space

psutil = pytest.importorskip("psutil")

LABEL = """
import json, os, subprocess, sys, time
started = len(os.listdir({folder!r}))
open(os.path.join({folder!r}, f"start-{{started}}"), "w").close()
n = 0
for line in sys.stdin:
    request = json.loads(line)
    n += 1
    numbers = list(request["numbers"].values())
    energy = -sum(numbers) / 100
    answer = {{"id": request["id"], "energy": energy, "parameters": {{"a": 8.0 + n}}}}
    {body}
    print(json.dumps(answer), flush=True)
"""
"""Answers with a hundredth of the numbers' sum, or does what `body` says."""


@pytest.fixture
def command(tmp_path):
    """Make a source of a script with a body of its own; `folder` counts its starts."""
    sources = []
    folder = tmp_path / "starts"
    folder.mkdir()

    def make(body="pass", **settings):
        path = tmp_path / "label.py"
        path.write_text(LABEL.format(folder=str(folder), body=body), encoding="utf-8")
        how = {"time_limit": 30.0} | settings
        name = f"command: {shlex.join([sys.executable, str(path)])}"
        source = load_energy(name, SPACE, **how)
        sources.append(source)
        return source

    make.starts = lambda: len(list(folder.iterdir()))
    yield make
    for source in sources:
        source.close()
    assert children() == []


def children():
    """Processes that this one has started and that still are there, zombies included."""
    found = psutil.Process().children(recursive=True)
    return [
        p for p in found if "label.py" in " ".join(_command_line(p)) or p.status() == psutil.STATUS_ZOMBIE
    ]


def _command_line(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def compounds(n, seed=0):
    real = np.flatnonzero(SPACE.composition_mask)
    return SPACE.index_to_numbers(np.random.default_rng(seed).choice(real, n, replace=False))


def test_answers_are_energies(command):
    source = command()
    numbers = compounds(5)
    outcomes = [source(row) for row in numbers]
    np.testing.assert_allclose([outcome.energy for outcome in outcomes], -numbers.sum(axis=1) / 100)
    assert [outcome.parameters for outcome in outcomes] == [{"a": 9.0 + n} for n in range(5)]
    assert all(outcome.error == "" and outcome.seconds > 0 for outcome in outcomes)
    assert source.restarts == 0
    assert source.workers == "threads"
    assert command.starts() == 1
    assert source.name.startswith(f"command: {sys.executable}")


def test_what_the_command_is_told(command, tmp_path):
    source = command(f"open({str(tmp_path / 'request')!r}, 'w').write(line)")
    numbers = np.array([55, 13, 19, 9], dtype=np.int16)
    assert source(numbers).error == ""
    told = json.loads((tmp_path / "request").read_text())
    assert told["formula"] == "CsAlK2F6"
    assert told["numbers"] == {"A": 55, "B": 13, "C": 19, "D": 9}
    a, x = told["parameters"]["a"], told["parameters"]["x"]
    # the primitive cell of a face-centred lattice
    cell = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]) * a
    np.testing.assert_allclose(told["cell"], cell, atol=1e-9)
    assert sorted(told["symbols"]) == sorted(["Cs", "Al", *["K"] * 2, *["F"] * 6])
    places = np.array(told["scaled_positions"]) @ cell
    fluorine = np.array(told["symbols"]) == "F"
    caesium = places[told["symbols"].index("Cs")]
    away = places[fluorine] - caesium
    away -= np.rint(away @ np.linalg.inv(cell)) @ cell
    np.testing.assert_allclose(np.linalg.norm(away, axis=1), x * a, atol=1e-8)
    slopes = told["derivatives"]
    np.testing.assert_allclose(slopes["a"]["cell"], cell / a, atol=1e-9)
    assert not np.any(slopes["x"]["cell"])
    moves = np.array(slopes["x"]["scaled_positions"]) @ cell
    np.testing.assert_allclose(np.linalg.norm(moves, axis=1), np.where(fluorine, a, 0.0), atol=1e-8)
    assert "data_CsAlK2F6" in told["cif"]
    assert cellpar_to_cell([a, a, a, 90, 90, 90])[0, 0] == pytest.approx(a)


def test_a_space_without_a_structure(tmp_path):
    prototype = Prototype("plain", (Site("A", "Li Na"), Site("B", "F Cl")))
    script = (
        "import sys\nfor line in sys.stdin: print(line.replace('}}', '}, \"energy\": -1.5}'), flush=True)"
    )
    path = tmp_path / "label.py"
    path.write_text(script, encoding="utf-8")
    source = CommandEnergy(shlex.join([sys.executable, str(path)]), make_space(prototype))
    try:
        outcome = source(np.array([3, 9], dtype=np.int16))
        assert (outcome.energy, outcome.error) == (-1.5, "")
    finally:
        source.close()


def test_an_error_that_is_stated_is_final(command):
    source = command('answer = {"id": request["id"], "error": "no convergence\\nat all"}')
    outcome = source(compounds(1)[0])
    assert np.isnan(outcome.energy)
    assert outcome.error == "no convergence"
    assert source.restarts == 0


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('print("SCF step 1", flush=True)', r"the command answered 'SCF step 1': no JSON"),
        ("answer = [1]", r"the command answered '\[1\]': no JSON object"),
        ('answer["id"] = 0', r"its id must be \d+"),
        ('answer["energy"] = float("nan")', r"its energy must be a finite number"),
        ('answer["energy"] = "-1.0"', r"its energy must be a finite number"),
        ('answer["energy"] = True', r"its energy must be a finite number"),
        ('answer["energy"] = 10 ** 400', r"its energy must be a finite number"),
        ('answer["energy"] = -301.0', r"the energy must be within ±25 eV/atom"),
        ('answer["parameters"] = {"a": "8"}', r"its parameters must be finite numbers by name"),
        ('answer = {"id": request["id"], "x": "y" * 3_000_000}', r"y\.\.\.'"),
        ('print("alas", file=sys.stderr, flush=True); sys.exit(3)', r"ended with status 3: alas"),
    ],
)
def test_bounded_tries(command, body, why):
    source = command(body, retries=1)
    outcome = source(compounds(1)[0])
    assert np.isnan(outcome.energy)
    assert "\n" not in outcome.error
    assert len(outcome.error) <= 200
    assert re.search(why, outcome.error), outcome.error
    assert outcome.error.endswith("(2 tries)") or "y..." in outcome.error
    assert source.restarts == 2
    assert command.starts() == 2


def test_a_process_that_dies_is_replaced(command):
    source = command("if n == 3: sys.exit(1)")
    outcomes = [source(row) for row in compounds(6)]
    assert [outcome.error for outcome in outcomes] == [""] * 6
    assert source.restarts == 2
    assert command.starts() == 3


def test_a_process_that_hangs_is_killed_with_what_it_started(command):
    sleep = '[sys.executable, "-c", "import time; time.sleep(600)  # label.py"]'
    body = f"subprocess.Popen({sleep}); time.sleep(600)"
    source = command(body, time_limit=1.5)
    started = time.perf_counter()
    outcome = source(compounds(1)[0])
    assert outcome.error == "it takes longer than 1.5 s"
    assert time.perf_counter() - started < 10
    assert source.restarts == 1
    assert children() == []


def test_a_process_that_reads_nothing_is_killed(tmp_path):
    path = tmp_path / "label.py"
    path.write_text("import time; time.sleep(600)", encoding="utf-8")
    source = CommandEnergy(shlex.join([sys.executable, str(path)]), SPACE, time_limit=1.0)
    try:
        source._request = lambda numbers: {"long": "x" * 1_000_000}
        assert source(compounds(1)[0]).error == "it takes longer than 1 s"
    finally:
        source.close()
    assert children() == []


def test_a_process_that_talks_without_end_is_ended(command):
    source = command('while True: print("x" * 1000)', retries=0)
    assert "no JSON" in source(compounds(1)[0]).error
    assert children() == []


def test_closing_ends_what_runs_and_a_later_call_starts_anew(command):
    source = command("time.sleep(600 if started < 2 else 0)")
    outcomes = []
    row = compounds(1)[0]
    threads = [threading.Thread(target=lambda: outcomes.append(source(row))) for _ in range(2)]
    for thread in threads:
        thread.start()
    until = time.perf_counter() + 10
    while command.starts() < 2 and time.perf_counter() < until:
        time.sleep(0.05)
    source.close()
    for thread in threads:
        thread.join(10)
    assert [outcome.error for outcome in outcomes] == ["it was stopped"] * 2
    assert children() == []
    assert source(row).error == ""


def test_a_source_that_is_forgotten_leaves_no_process(command, tmp_path):
    path = tmp_path / "other_label.py"
    path.write_text("import sys\nfor line in sys.stdin: pass", encoding="utf-8")
    source = CommandEnergy(shlex.join([sys.executable, str(path)]), SPACE)
    assert len(children()) == 2  # the command, and what guards it
    del source
    assert children() == []


def test_pickled_it_starts_a_process_of_its_own(command):
    source = command()
    row = compounds(1)[0]
    other = pickle.loads(pickle.dumps(source))
    try:
        assert other(row).energy == source(row).energy
        assert command.starts() == 2
    finally:
        other.close()


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        ("", "names no command"),
        (
            "no-such-program-at-all --x",
            "cannot start the command 'no-such-program-at-all': there is no such program",
        ),
        (f"{shlex.quote(sys.executable)} /no/such/script.py", "ended with status 2: .*/no/such/script.py"),
        ("'half", "close its quotes"),
    ],
)
def test_commands_that_cannot_be_started(command_line, message):
    with pytest.raises(InputError, match=message) as caught:
        load_energy(f"command: {command_line}", SPACE)
    assert "\n" not in str(caught.value)
    assert children() == []


# --- Several at a time ---


def test_threads_have_processes_of_their_own(command):
    source = command("time.sleep(0.1)")
    numbers = compounds(8)
    heard = []
    outcomes = dict(label_all(source, numbers, jobs=3, progress=lambda done, n: heard.append((done, n))))
    np.testing.assert_allclose([outcomes[i].energy for i in range(8)], -numbers.sum(axis=1) / 100)
    assert 2 <= command.starts() <= 3
    assert heard == [(i, 8) for i in range(1, 9)]


def test_outcomes_arrive_one_by_one_and_closing_ends_the_rest(command):
    source = command("time.sleep(0 if n == 1 else 600)")
    labelled = label_all(source, compounds(6), jobs=2)
    started = time.perf_counter()
    _, outcome = next(labelled)
    assert outcome.error == ""
    labelled.close()
    assert time.perf_counter() - started < 20
    assert children() == []


def test_abo3_gives_what_the_targets_are_about(tmp_path):
    """A command may give any quantity: no limit but being finite where the unit is another."""
    space = load_space("abo3").space
    path = tmp_path / "label.py"
    path.write_text(LABEL.format(folder=str(tmp_path), body="answer['energy'] = 0.02"), encoding="utf-8")
    source = CommandEnergy(shlex.join([sys.executable, str(path)]), space)
    try:
        assert source(np.array([56, 22], dtype=np.int16)).energy == 0.02
    finally:
        source.close()


@pytest.mark.parametrize("how", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_nothing_is_left_when_the_caller_is_killed(how, tmp_path):
    label = tmp_path / "label.py"
    body = f"open({str(tmp_path / 'asked')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    label.write_text(LABEL.format(folder=str(tmp_path), body=body), encoding="utf-8")
    command_line = "command: " + shlex.join([sys.executable, str(label)])
    call = (
        "import numpy as np\nfrom agents.discovery.energies import load_energy\n"
        "from elpa_env import ELPASOLITE_SPACE\n"
        f"source = load_energy({command_line!r}, ELPASOLITE_SPACE)\n"
        "source(np.array([55, 13, 19, 9], dtype=np.int16))\n"
    )
    caller = subprocess.Popen([sys.executable, "-c", call])
    until = time.perf_counter() + 60
    while not (tmp_path / "asked").exists() and time.perf_counter() < until:
        time.sleep(0.1)
    time.sleep(0.2)
    asked = psutil.Process(int((tmp_path / "asked").read_text()))
    caller.send_signal(how)
    caller.wait(20)
    psutil.wait_procs([asked], timeout=20)
    assert not asked.is_running()


def test_nothing_is_left_when_the_caller_is_interrupted(command, tmp_path):
    source = command(f"open({str(tmp_path / 'asked')!r}, 'w').close(); time.sleep(600)")

    def interrupt():
        until = time.perf_counter() + 20
        while not (tmp_path / "asked").exists() and time.perf_counter() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        source(compounds(1)[0])
    thread.join()
    assert children() == []
