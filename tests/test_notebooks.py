"""The notebooks run from top to bottom in a fresh kernel, and come to what their text says."""

import json
import os
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
MOST_PICTURE = 60_000
"""Bytes of a picture."""


def printed(notebook):
    """All that its cells print."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


def of_environment(text):
    (precision,) = re.findall(r"precision: ([\d.]+)%", text)
    (chance,) = re.findall(r"random choices end in class 5 in (\d+)%", text)
    assert float(chance) == pytest.approx(50, abs=5)
    assert float(precision) > 70


def of_comparing(text):
    (ratio,) = re.findall(r"times as often right as chance: (\d+)", text)
    assert int(ratio) > 100
    for name in ("random", "sites", "vae", "swap"):
        assert re.search(rf"(?m)^{name} +[\d.]+ +[\d.]+", text), name
    heading = next(line for line in text.splitlines() if "swap" in line and "sites" in line)
    assert heading.split() == ["swap", "sites", "random"]


def of_discovery(text):
    (found,) = re.findall(r"300 calculations found (\d+), at random 23", text)
    assert int(found) > 92  # four times as many


CHECKS = {"environment": of_environment, "comparing": of_comparing, "discovery": of_discovery}


def test_every_notebook_has_a_result_to_check():
    assert {path.stem for path in NOTEBOOKS} == set(CHECKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestKept:
    """What is in the file."""

    def test_shows_the_result_and_no_error(self, path):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert all(output["output_type"] != "error" for output in outputs)
        assert all(output.get("name") != "stderr" for output in outputs)
        CHECKS[path.stem](printed(notebook))

    def test_is_small_and_knows_no_machine(self, path):
        notebook = nbformat.read(path, as_version=4)
        pictures = [
            output["data"]["image/png"]
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            if "image/png" in output.get("data", {})
        ]
        assert 1 <= len(pictures) <= 2
        assert all(len(picture) * 3 / 4 < MOST_PICTURE for picture in pictures)
        assert path.stat().st_size < 200_000
        text = json.dumps([{**cell, "outputs": printed(notebook)} for cell in notebook.cells])
        assert not re.search(r"(/home/|/root|/tmp|/work|/Users/|[A-Z]:\\\\)", text)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    folder = tmp_path / "work"
    folder.mkdir()
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()  # raises CellExecutionError where a cell does
    CHECKS[path.stem](printed(notebook))
