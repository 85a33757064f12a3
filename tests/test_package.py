"""What holds of the packages as such: the direction of imports, speed of import, a wheel that works."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
    """Built and unpacked elsewhere, the packages find their data and run."""
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(pip, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import sys; sys.path.insert(0, 'site'); import gymnasium, elpa_env, eval.cli;"
        "assert 'site' in elpa_env.__file__ and 'site' in eval.cli.__file__;"
        "assert elpa_env.load_landscape().class_counts[1] == 3756;"
        "gymnasium.make('Elpasolite-v0').reset();"
        "eval.cli.main(sys.argv[1].split())"
    )
    for words in (
        "compare --model sites --n-samples 100 --jobs 1",
        "sample pretrained --target-class 3 -n 20 --unique --out mine.csv",
        "discover new c.db --space abo3 --target stable --initial 20",
        "discover run c.db --energy landscape --budget 25",
        "search vae --help",
    ):
        result = subprocess.run(
            [sys.executable, "-c", code, words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "results" / "metrics.json").is_file()
    assert (tmp_path / "results" / "report.html").is_file()
    assert len((tmp_path / "mine.csv").read_text().splitlines()) == 21
