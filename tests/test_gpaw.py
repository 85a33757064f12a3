"""The example that labels with density functional theory, under the Python that has GPAW."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from agents.discovery.relax import Geometry
from elpa_env import ELPASOLITE_SPACE as SPACE
from elpa_env.dft import read_dft

PYTHON = "/usr/bin/python3"
EXAMPLE = Path(__file__).parents[1] / "examples" / "label_with_gpaw.py"
CHEAP = ["--cutoff", "300", "--kpts", "1", "--density", "2", "--rounds", "0"]


@pytest.fixture
def gpaw():
    try:
        found = subprocess.run([PYTHON, "-c", "import gpaw"], capture_output=True).returncode == 0
    except OSError:
        found = False
    if not found:
        pytest.skip(f"{PYTHON} has no gpaw: apt-get install gpaw gpaw-data")


@pytest.mark.slow
def test_a_fluoride_comes_close_to_the_dft_table(gpaw, dft_dir, tmp_path):
    """PBE with few plane waves and the elements as measured, against the table's PBE."""
    index = SPACE.formula_to_index(["LiRbBa2F6"])
    geometry = Geometry(SPACE.prototype, SPACE.index_to_numbers(index)[0])
    values = {"a": 8.85, "x": 0.2235}
    request = {
        "id": 7,
        "symbols": geometry.symbols,
        "cell": geometry.cell(values).tolist(),
        "scaled_positions": geometry.positions(values).tolist(),
        "parameters": values,
        "derivatives": {
            name: {
                "cell": geometry.cell_slope(name, values).tolist(),
                "scaled_positions": geometry.slopes[name].tolist(),
            }
            for name in geometry.names
        },
    }
    file = tmp_path / "references.json"
    # the interpreter is another one than the tests', and looks for none of their packages
    surroundings = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [PYTHON, str(EXAMPLE), *CHEAP, "--references", str(file)],
        input=f"{json.dumps(request)}\n",
        capture_output=True,
        text=True,
        timeout=300,
        env=surroundings,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    assert answer["id"] == 7
    assert answer["parameters"] == values
    rows = read_dft()
    compound = SPACE.index_to_compound(SPACE.numbers_to_index(rows.numbers))
    (row,) = np.flatnonzero(compound == SPACE.index_to_compound(index))
    assert answer["energy"] == pytest.approx(rows.energy[row], abs=0.1)
    assert set(json.loads(file.read_text())["energies"]) == {"Li", "Rb", "Ba", "F"}
