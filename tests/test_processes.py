"""Several processes and machines on one store; what is left when some of them are killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from elpa_env.errors import InputError


def elpa(folder, *arguments, **options):
    """The command line as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "eval", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


SLOW = (
    "compare",
    "--model",
    "mine:Echo",
    "--preset",
    "slow",
    "--n-samples",
    50,
    "--no-reference",
    "--out",
    "r",
)


def wait_for(condition, seconds=60):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds
        time.sleep(0.05)


def seeds_in(log, word):
    return [int(line.split()[1]) for line in log.read_text().splitlines() if line.startswith(word)]


class TestProcesses:
    @pytest.mark.slow
    def test_killed_and_gone_on(self, tmp_path, own_model):
        """Nothing that is finished is lost, and no worker outlives its master."""
        log = tmp_path / "log"
        with elpa(tmp_path, *SLOW, "--seeds", 3, "--jobs", 2) as process:
            wait_for(lambda: list(tmp_path.glob("r/runs/*/run.json")) and len(seeds_in(log, "begin")) == 3)
            process.kill()
            process.wait()
            killed = time.monotonic()
            wait_for(lambda: not children_alive(tmp_path), seconds=10)
        finished = {
            int(p.parent.name.split("seed")[1].split("-")[0]) for p in tmp_path.glob("r/runs/*/run.json")
        }
        assert 1 <= len(finished) <= 2
        assert time.monotonic() - killed < 3  # the last one would have gone on for longer
        log.write_text("")
        with elpa(tmp_path, *SLOW, "--seeds", 3, "--jobs", 2) as process:
            _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert sorted(seeds_in(log, "end")) == sorted({0, 1, 2} - finished)

    @pytest.mark.slow
    def test_two_on_one_store_train_nothing_twice(self, tmp_path, own_model):
        both = [elpa(tmp_path, *SLOW, "--seeds", n, "--jobs", 1) for n in (2, 3)]
        for process in both:
            _, err = process.communicate(timeout=90)
            assert (process.returncode, err) == (0, "")
        assert sorted(seeds_in(tmp_path / "log", "begin")) == [0, 1, 2]
        assert len(list(tmp_path.glob("r/runs/*/run.json"))) == 3

    def test_no_more_workers_than_runs(self, monkeypatch):
        from eval.study import runner

        asked = []

        class Executor:
            def __init__(self, workers, **_):
                asked.append(workers)
                raise InputError("enough")

        monkeypatch.setattr("loky.ProcessPoolExecutor", Executor)
        with pytest.raises(InputError, match="enough"), runner._executor(runner.Workers(24).at_most(3)):
            pass
        assert asked == [3]


def children_alive(folder):
    """Whether a process that works in the folder is still there."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cwd").resolve() == folder.resolve() and b"python" in (path / "cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False


@pytest.mark.slow
def test_a_cluster_of_which_one_worker_dies(tmp_path, own_model):
    """A scheduler and two workers in processes of their own; the run of the dead one is done by the other."""
    pytest.importorskip("distributed")
    shared = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    dask = [sys.executable, "-m", "distributed.cli"]
    (tmp_path / "work").mkdir()
    scheduler = subprocess.Popen(
        [
            *dask[:2],
            "distributed.cli.dask_scheduler",
            "--port",
            "0",
            "--host",
            "127.0.0.1",
            "--no-dashboard",
            "--scheduler-file",
            "s.json",
        ],
        env=environment,
        **shared,
    )
    try:
        wait_for(lambda: (tmp_path / "s.json").is_file())
        address = json.loads((tmp_path / "s.json").read_text())["address"]
        workers = [
            subprocess.Popen(
                [
                    *dask[:2],
                    "distributed.cli.dask_worker",
                    address,
                    "--nthreads",
                    "1",
                    "--no-nanny",
                    "--no-dashboard",
                    "--local-directory",
                    str(tmp_path / "work"),
                ],
                env=environment,
                **shared,
            )
            for _ in range(2)
        ]
        try:
            with elpa(tmp_path, *SLOW, "--seeds", 4, "--cluster", address) as process:
                wait_for(
                    lambda: (tmp_path / "log").exists() and len(seeds_in(tmp_path / "log", "begin")) >= 2
                )
                workers[0].kill()
                _, err = process.communicate(timeout=120)
            assert (process.returncode, err) == (0, "")
            assert len(list(tmp_path.glob("r/runs/*/run.json"))) == 4
            ended = seeds_in(tmp_path / "log", "end")
            assert set(ended) == {0, 1, 2, 3}
            assert len(seeds_in(tmp_path / "log", "begin")) > len(ended)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    finally:
        scheduler.kill()
        scheduler.wait()
    with elpa(tmp_path, *SLOW, "--seeds", 5, "--cluster", address) as process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (2, 1)
    assert "no Dask scheduler answers" in err


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(tmp_path, own_model):
    with elpa(tmp_path, *SLOW, "--seeds", 3, "--jobs", 2, start_new_session=True) as process:
        wait_for(lambda: list(tmp_path.glob("r/runs/*/run.json")))
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines() == [
        "elpa: what is finished is kept: the same command goes on from there",
        "elpa: interrupted",
    ]
    assert 1 <= len(list(tmp_path.glob("r/runs/*/run.json"))) <= 2
    assert not [path for path in tmp_path.rglob(".elpa-tmp-*")]


@pytest.mark.slow
def test_killed_at_thirty_moments(tmp_path, own_model):
    """Whatever the moment and the signal: nothing is lost, nothing is left behind, figures are the same."""
    random.seed(0)
    chosen = ("compare", "--model", "mine:Echo", "--model", "sites", "--preset", "brief", "--n-samples", 50)
    chosen += ("--no-reference", "--jobs", 2)
    kept = set()
    for moment in range(30):
        with elpa(tmp_path, *chosen, "--seeds", 3 + moment, "--out", "r") as process:
            try:
                process.wait(timeout=random.uniform(0.5, 12))
            except subprocess.TimeoutExpired:
                process.send_signal(random.choice([signal.SIGKILL, signal.SIGTERM]))
            process.communicate(timeout=30)
        wait_for(lambda: not children_alive(tmp_path), seconds=10)
        now = {path.parent.name for path in tmp_path.glob("r/runs/*/run.json")}
        assert kept <= now
        kept = now
    for folder in ("r", "whole"):
        with elpa(tmp_path, *chosen, "--seeds", 32, "--out", folder) as process:
            _, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, "")
    found = []
    for folder in ("r", "whole"):
        models = json.loads((tmp_path / folder / "metrics.json").read_text())["judges"]["paper"]["models"]
        found.append({name: [run["score"] for run in entry["runs"]] for name, entry in models.items()})
    assert found[0] == found[1]
    assert len(found[0]["echo"]) == 32
