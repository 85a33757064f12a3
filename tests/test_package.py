"""What holds of the packages as such: the direction of imports, speed of import, a wheel that works."""

import ast
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.test_guides import fenced_commands, inline_commands

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "elpa_env": {"elpa_env"},
    "agents": {"elpa_env", "agents"},
    "generative": {"elpa_env", "generative"},
    "eval": {"elpa_env", "agents", "generative", "eval"},
}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            ours = {name.split(".")[0] for name in names} & set(MAY_IMPORT)
            assert ours <= MAY_IMPORT[package], f"{file.name} imports {ours}"


def test_elpa_env_imports_no_torch_and_little_else():
    code = "import sys, elpa_env; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("torch", "sklearn", "stable_baselines3", "pooch", "matplotlib", "scipy"):
        assert heavy not in loaded.stdout.split()


@pytest.mark.slow
def test_a_wheel_works_outside_the_checkout(tmp_path):
    """Built and unpacked elsewhere, the packages find their data and do what the front page says."""
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(pip, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def run(*arguments):
        call = [sys.executable, "-P", *arguments]
        done = subprocess.run(
            call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = (
        "import gymnasium, elpa_env, eval.cli; gymnasium.make('Elpasolite-v0').reset();"
        "assert elpa_env.load_landscape().class_counts[1] == 3756;"
        "print(elpa_env.__file__, eval.cli.__file__)"
    )
    assert all(file.startswith(str(site)) for file in run("-c", code).split())
    page = ROOT / "README.md"
    front = [*fenced_commands(page), *inline_commands(page)]
    assert [words[0] for words in front] == ["compare", "sample"]
    for words in (
        *front,
        "discover new c.db --space abo3 --target stable --initial 20".split(),
        "discover run c.db --energy landscape --budget 25".split(),
        "search vae --help".split(),
    ):
        run("-m", "eval", *words)
    models = json.loads((tmp_path / "results" / "metrics.json").read_text())["judges"]["paper"]["models"]
    assert {"vae", "gan", "dqn", "dqn-soft-model"} < set(models)
    agent, *paper = (models[name]["mean"]["coverage"] for name in ("dqn-soft-model", "vae", "gan", "dqn"))
    assert agent > max(paper)
    assert (tmp_path / "results" / "report.html").is_file()
    assert len((tmp_path / "mine.csv").read_text().splitlines()) == 101
