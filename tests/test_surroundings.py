"""The command line as a process in odd surroundings: full disks, odd names, terminals that lack signs."""

import os
import resource
import subprocess
import sys

import pytest

TABLE = "Z_A,Z_B,Z_C,Z_D,formation_energy_eV_per_atom\n13,11,19,9,-2.9\n13,11,37,9,-2.8\n"


def elpa(folder, *arguments, stdout=subprocess.PIPE, largest=None, **environment):
    """Run `elpa`; no file that it writes may grow beyond `largest` bytes, as on a disk that is full."""

    def limit():
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    return subprocess.run(
        [sys.executable, "-m", "eval", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=stdout,
        stderr=subprocess.PIPE,
        preexec_fn=limit,
        check=False,
    )


def refused(done):
    """Exit status 2 and one line that says why."""
    lines = done.stderr.decode(errors="replace").splitlines()
    assert (done.returncode, len(lines)) == (2, 1), done.stderr.decode(errors="replace")[-2000:]
    assert lines[0].startswith("elpa: ")
    return lines[0]


class TestFullDisk:
    def test_standard_output(self, tmp_path):
        with open("/dev/full", "w") as full:
            done = elpa(tmp_path, "data", "info", stdout=full)
        assert "No space left on device" in refused(done)

    def test_samples(self, tmp_path):
        (tmp_path / "s.csv").write_text("precious")
        done = elpa(tmp_path, "sample", "random", "--out", "s.csv", "--overwrite", largest=50_000)
        assert "s.csv" in refused(done)
        assert [path.name for path in tmp_path.iterdir()] == ["s.csv"]
        assert (tmp_path / "s.csv").read_text() == "precious"

    @pytest.mark.slow
    def test_a_comparison_loses_nothing(self, tmp_path):
        chosen = ("--model", "sites", "--model", "random", "--no-reference", "--n-samples", "2000")
        done = elpa(tmp_path, "compare", *chosen, "--jobs", "1", largest=200_000)
        refused(done)
        assert not list(tmp_path.rglob(".elpa-tmp-*"))
        done = elpa(tmp_path, "compare", *chosen, "--jobs", "1")
        assert (done.returncode, done.stderr) == (0, b"")

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "command",
        [
            ("train", "vae", "--preset", "quick", "--out", "m.pt"),
            ("train", "dqn", "--preset", "quick", "--out", "m.zip"),
            ("data", "export", "--out", "m"),
            ("solve", "--out", "s.json"),
        ],
    )
    def test_others(self, tmp_path, command):
        done = elpa(tmp_path, *command, largest=4_000 if command[0] == "solve" else 100_000)
        if command[0] == "solve" and done.returncode == 0:
            return  # small enough
        refused(done)
        left = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert left == []


class TestNames:
    @pytest.mark.parametrize(
        "name",
        ["a$b$ :b: [bold]red", "x\udcff\udcfe", "a$b$", "{x}_^", "[bold]red", ":b:"],
    )
    @pytest.mark.slow
    def test_of_files(self, tmp_path, name):
        """A training set whose name no picture, table or terminal holds as it is."""
        (tmp_path / f"{name}.csv").write_text(TABLE)
        chosen = ("--model", "sites", "--no-reference", "--n-samples", "50", "--jobs", "1")
        done = elpa(tmp_path, "compare", "--data", f"{name}.csv", *chosen)
        assert (done.returncode, done.stderr) == (0, b"")
        shown = f"{name}.csv".encode("utf-8", "backslashreplace")
        for text in (done.stdout, (tmp_path / "results" / "table.txt").read_bytes()):
            assert shown in text
        assert (tmp_path / "results" / "figure_energies.png").is_file()
        assert elpa(tmp_path, "show", "results").returncode == 0


class TestTerminals:
    @pytest.mark.parametrize(
        "environment",
        [
            {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            {"MPLBACKEND": "nothing", "MPLCONFIGDIR": "/proc/nowhere"},
        ],
    )
    @pytest.mark.slow
    def test_that_lack_something(self, tmp_path, environment):
        chosen = ("--model", "sites", "--no-reference", "--n-samples", "50", "--jobs", "1", "--seeds", "2")
        done = elpa(tmp_path, "compare", *chosen, **environment)
        assert done.returncode == 0, done.stderr
        assert b"precision" in done.stdout
        assert (tmp_path / "results" / "figure_models.png").is_file()
        assert "±" in (tmp_path / "results" / "table.txt").read_text(encoding="utf-8")

    def test_that_are_closed(self, tmp_path):
        call = f'"{sys.executable}" -m eval data info >&-'
        done = subprocess.run(["sh", "-c", call], cwd=tmp_path, stderr=subprocess.PIPE, check=False)
        assert b"Traceback" not in done.stderr

    def test_devices_that_are_none(self, tmp_path):
        done = elpa(tmp_path, "train", "vae", "--device", "hpu", "--out", "m.pt")
        assert "--device hpu is not available here" in refused(done)


def test_tables_in_files_have_no_colours(tmp_path, monkeypatch):
    """Whatever the terminal is told: Jupyter asks programs for colours."""
    from rich.table import Table

    from eval.study.views import write_table

    monkeypatch.setenv("FORCE_COLOR", "1")
    table = Table("[bold]figure[/bold]")
    table.add_row("[red]1[/red]")
    write_table(tmp_path / "table.txt", table, 40)
    written = (tmp_path / "table.txt").read_text(encoding="utf-8")
    assert "figure" in written
    assert "\x1b" not in written
