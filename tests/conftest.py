"""What all tests share: data, and models small enough to train in a blink."""

import os
import sys
from dataclasses import replace
from pathlib import Path

# tests run side by side, a process a core: threads of their own would only be in the way
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from elpa_env import TrainingSet, load_landscape, load_training_set
from elpa_env.dft import DATA_DIR_VARIABLE, DFT_FILES
from elpa_env.sampler import Preset
from eval.judge import load_judge


@pytest.fixture(scope="session")
def landscape():
    return load_landscape()


@pytest.fixture(scope="session")
def judge():
    """The paper's."""
    return load_judge()


@pytest.fixture(scope="session")
def embedded():
    return load_training_set("landscape")


@pytest.fixture(scope="session")
def small_set(embedded):
    """A few rows of every class."""
    rows = np.concatenate([np.flatnonzero(embedded.energy_class == c)[:20] for c in range(1, 11)])
    return TrainingSet(embedded.index[rows], embedded.energy[rows], "a few embedded rows")


@pytest.fixture(scope="session")
def dft_dir():
    """The folder with the DFT table; tests that need it are skipped elsewhere."""
    named = os.environ.get(DATA_DIR_VARIABLE)
    if not named or not all((Path(named) / name).is_file() for name in DFT_FILES):
        pytest.skip(f"{DATA_DIR_VARIABLE} does not name a folder with {' and '.join(DFT_FILES)}")
    return Path(named)


@pytest.fixture
def no_dft(monkeypatch, tmp_path):
    """A user who has no DFT table anywhere."""
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))


def _tiny(monkeypatch, *presets):
    """Give presets of all trained models settings that train in a blink."""
    from eval.study import registry
    from tests.test_models import TINY

    for name, config in TINY.items():
        spec = registry.MODELS[name]
        tiny = {preset: Preset(config, "nobody") for preset in presets}
        monkeypatch.setitem(registry.MODELS, name, replace(spec, presets={**spec.presets, **tiny}))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command line in a folder of its own with models that train in a blink."""
    from eval import cli

    monkeypatch.chdir(tmp_path)
    _tiny(monkeypatch, "quick")

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return caught.value.code, printed.out, printed.err

    return call


@pytest.fixture
def no_pictures(monkeypatch):
    """Comparisons that draw no pictures, which take longer than tiny models do to train."""
    monkeypatch.setattr("eval.study.views._draw", lambda *_: None)


@pytest.fixture
def tiny_defaults(monkeypatch):
    """Models whose default settings train in a blink."""
    _tiny(monkeypatch, "quick", "default")


@pytest.fixture
def own_model(tmp_path):
    """A module `mine` with a model of a user's own, in the test's folder."""
    (tmp_path / "mine.py").write_bytes(Path(__file__).with_name("own_model.py").read_bytes())
    yield
    sys.modules.pop("mine", None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))
