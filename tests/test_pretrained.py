"""The agent that ships: what is in its file, what it draws, and that its model card is true."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agents import AgentSampler
from agents.pretrained import PRETRAINED, pretrained_path
from agents.train import VARIANTS
from elpa_env import ELPASOLITE_SPACE as space
from eval.exact import exact_score

CARD = Path(__file__).parents[1] / "docs" / "records" / "pretrained"


@pytest.fixture(scope="module")
def agent():
    return AgentSampler.pretrained()


def test_the_file_is_small_and_holds_arrays_alone():
    assert pretrained_path().stat().st_size <= 2_000_000
    with zipfile.ZipFile(pretrained_path()) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                assert np.lib.format.read_magic(file) == (1, 0)
                assert not np.lib.format.read_array_header_1_0(file)[2].hasobject


def test_it_says_what_it_is(agent):
    config = VARIANTS["dqn-soft-any"].presets["default"].config
    assert agent.name == PRETRAINED
    assert agent.target_class is None
    assert agent.beta == config.beta
    assert agent.access.kind == "model-based"
    assert agent.access.labels == 10_590
    assert agent.access.landscape_queries == 0


@pytest.mark.parametrize("target_class", range(1, 11))
def test_it_draws_every_class(agent, judge, target_class):
    index = space.digits_to_index(agent.sample(500, target_class=target_class, seed=0))
    right = judge.energy_class(index) == target_class
    card = json.loads((CARD / f"class-{target_class}.json").read_text())
    share = card["exact"]["precision"]
    assert share > 0.85
    # four standard deviations of 500 draws
    assert right.mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 500))


def test_its_card_is_true(agent, judge):
    card = json.loads((CARD / "class-1.json").read_text())
    found = exact_score(agent.distribution(1), judge=judge, target_class=1, n_samples=10_000)
    for name in ("precision", "precision_neighbour", "coverage", "js_distance"):
        assert found.metrics[name] == pytest.approx(card["exact"][name], abs=1e-4)


def test_commands_know_it(run, tmp_path):
    drawn = {}
    for seed in (0, 0, 1):
        words = "sample pretrained --target-class 3 -n 100 --unique --out mine.csv --overwrite --seed"
        assert run(*words.split(), seed)[0] == 0
        found = pd.read_csv(tmp_path / "mine.csv")
        assert len(found) == found.formula.nunique() == 100
        assert (found.energy_class == 3).mean() > 0.8
        assert drawn.setdefault(seed, list(found.formula)) == list(found.formula)
    assert drawn[0] != drawn[1]
