"""The examples run as a reader runs them, without a warning, and learn at their own budgets."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")

ROOT = Path(__file__).parents[1]


def python(folder, *arguments):
    """Run Python in a folder of its own, warnings as errors; give back what it printed."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def example(folder, name, *arguments):
    return python(folder, ROOT / "examples" / f"{name}.py", *arguments)


def percentages(printed):
    """Shares in per cent, in the order printed, chance left aside."""
    shown = re.sub(r"chance: [\d.]+%", "", printed)
    return [float(number) for number in re.findall(r"([\d.]+)%", shown)]


class TestRuns:
    """With budgets far too small to learn."""

    def test_animate_episode(self, tmp_path):
        from PIL import Image

        printed = example(tmp_path, "animate_episode", "episode.gif", "AlNaK2F6")
        assert printed == "9 frames: episode.gif\n"
        with Image.open(tmp_path / "episode.gif") as picture:
            assert picture.n_frames == 9  # one before each of eight steps, one at the end

    @pytest.mark.slow
    def test_custom_agent(self, tmp_path):
        printed = example(tmp_path, "custom_agent", "--timesteps", 2048, "--out", "mine.zip")
        assert (tmp_path / "mine.zip").is_file()
        assert "elpa score --agent mine.zip --target-class 1 --trust" in printed
        valid, precision, coverage = percentages(printed)
        assert 0 < valid < 100
        assert 0 < precision < 100
        assert 0 < coverage < 100

    @pytest.mark.slow
    def test_maskable_ppo(self, tmp_path):
        printed = example(tmp_path, "maskable_ppo", "--timesteps", 2048)
        assert percentages(printed)[0] == 100
        drawn, exact = map(float, re.findall(r"[+-]\d\.\d+", printed))
        assert drawn == pytest.approx(exact, abs=0.05)

    @pytest.mark.slow
    def test_own_energy_model(self, tmp_path):
        printed = example(tmp_path, "own_energy_model", "--timesteps", 4096)
        assert "asked about: 512" in printed  # every eighth step completes a composition
        assert len(percentages(printed)) == 2

    @pytest.mark.slow
    def test_custom_reward(self, tmp_path):
        printed = example(tmp_path, "custom_reward", "--timesteps", 2048)
        for name in ("eq. 12", "closeness", "stability"):
            assert re.search(rf"^{name} +[\d.]+% +[\d.]+% +-?[\d.]+$", printed, re.MULTILINE)


@pytest.mark.slow
class TestLearns:
    """At the default budgets; 0.19 % of all compositions are in class 1, under 4 % in class 3."""

    def test_custom_agent(self, tmp_path):
        _, precision, _ = percentages(example(tmp_path, "custom_agent"))
        assert precision > 50
        scored = python(tmp_path, "-m", "eval", "score", "--agent", "curious.zip", "--trust")
        (sampled,) = re.findall(r"precision \(right class\) +│ +([\d.]+) %", scored)
        assert float(sampled) == pytest.approx(precision, abs=2)

    def test_maskable_ppo(self, tmp_path):
        valid, precision, _ = percentages(example(tmp_path, "maskable_ppo"))
        assert valid == 100
        assert precision > 50

    def test_own_energy_model(self, tmp_path):
        own, landscape = percentages(example(tmp_path, "own_energy_model"))
        assert own > 20
        assert landscape > 20

    def test_custom_reward(self, tmp_path):
        sparse, _, shaped, _, stable, _ = percentages(example(tmp_path, "custom_reward"))
        assert shaped > sparse + 20
        assert stable > 20
