"""One contract for every sampler, and what the trained models promise besides."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch as th

from agents import VARIANTS, AgentSampler, train_offline
from agents.gflownet import GFlowNetConfig
from agents.plan import PlanSampler
from agents.reward_model import RewardModel
from elpa_env import ExactSampler, Sampler, load_landscape
from elpa_env.backups import Backup
from elpa_env.checkpoint import read_checkpoint, write_checkpoint
from elpa_env.errors import InputError
from elpa_env.sampler import Access, access_of
from elpa_env.space import ELPASOLITE_SPACE as space
from eval.study.plan import hyperparameters
from eval.study.registry import MODELS, Task, TrainedSampler, load_sampler, model_spec
from generative.autoregressive import AutoregressiveConfig
from generative.baselines import BASELINES, BaselineSampler
from generative.diffusion import DiffusionConfig
from generative.vae import VAEConfig
from generative.wgan_gp import ConditionalWGAN, WGANConfig
from tests.test_online import SMALL

_DQN = replace(VARIANTS["dqn"].presets["default"].config, hidden=(16, 16), n_updates=20, batch_size=64)
TINY = {
    "dqn": _DQN,
    "vae": VAEConfig(hidden=(16, 16), n_updates=20, batch_size=50),
    "gan": WGANConfig(hidden=32, n_updates=12, batch_size=20, ema_decay=0.9),
    "autoregressive": AutoregressiveConfig(hidden=16, n_updates=20, batch_size=50),
    "diffusion": DiffusionConfig(steps=4, hidden=16, n_updates=20, batch_size=50),
    "gflownet": GFlowNetConfig(
        beta=SMALL.beta,
        hidden=(16, 16),
        n_rounds=8 + 3,
        n_episodes=16,
        n_updates=20,
        batch_size=32,
        reward_model=SMALL.reward_model,
    ),
    "dqn-max": replace(_DQN, backup="max"),
    "dqn-soft": replace(_DQN, backup="soft"),
    "dqn-soft-any": SMALL,
    **{
        f"dqn-{backup}-{kind}": replace(
            SMALL, backup=MODELS[f"dqn-{backup}-{kind}"].presets["quick"].config.backup
        )
        for backup in ("max", "double", "soft")
        for kind in ("model", "oracle")
    },
}
TRAINED = list(TINY)
TINY["plan"] = TINY["rank"] = SMALL  # which leave no checkpoint
OPTIMAL = ["optimal-hard", "optimal-soft"]


def sampler_name(model):
    """Agents go by the name of their kind."""
    return "dqn" if model.startswith("dqn") else model


def make(name, training_set, *, seed=0, target_class=1, progress=None):
    task = Task(TINY.get(name), training_set, target_class, seed, progress=progress)
    return MODELS[name].train(task)


@pytest.fixture(scope="module")
def samplers(small_set):
    return {name: make(name, small_set) for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
class TestContract:
    def test_is_a_sampler(self, samplers, name):
        assert isinstance(samplers[name], Sampler)
        assert samplers[name].name == sampler_name(name)

    def test_shape_type_and_range(self, samplers, name):
        digits = samplers[name].sample(333, target_class=1, seed=0)
        assert digits.shape == (333, 8)
        assert digits.dtype == np.int8
        assert (digits >= 0).all()
        assert (digits <= space.digit_limits).all()
        assert samplers[name].sample(1, target_class=1, seed=0).shape == (1, 8)

    def test_the_seed_decides(self, samplers, name):
        draw = [samplers[name].sample(200, target_class=1, seed=seed) for seed in (1, 1, 2)]
        np.testing.assert_array_equal(draw[0], draw[1])
        assert (draw[0] != draw[2]).any()
        fresh = [samplers[name].sample(200, target_class=1) for _ in range(2)]
        assert (fresh[0] != fresh[1]).any()

    def test_global_generators_are_left_alone(self, samplers, name):
        np.random.seed(0)  # noqa: NPY002 - the global generator is what is watched
        th.manual_seed(0)
        before = np.random.get_state()[1].copy(), th.get_rng_state().clone()  # noqa: NPY002
        samplers[name].sample(50, target_class=1, seed=3)
        samplers[name].sample(50, target_class=1)
        assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
        assert (th.get_rng_state() == before[1]).all()

    def test_impossible_classes_are_refused(self, samplers, name):
        for bad in (0, 11):
            with pytest.raises(InputError):
                samplers[name].sample(5, target_class=bad, seed=0)


def test_the_plan_has_the_reward_model_of_its_agent(small_set, samplers):
    """Compositions are drawn in proportion to exp(β reward), reckoned one by one."""
    plan, agent = samplers["plan"], samplers["dqn-soft-model"]
    theirs = agent.model.env.env.settings.energy_model
    assert isinstance(theirs, RewardModel)
    index = small_set.index[:200]
    numbers = space.index_to_numbers(index)
    np.testing.assert_array_equal(plan.reward_model(numbers), theirs(numbers))
    distribution = plan.distribution(1)
    assert distribution.sum() == pytest.approx(1)
    assert distribution[~space.composition_mask].sum() == 0
    reward = theirs.reward(numbers, None, None, 1)
    log_p = np.log(distribution[index])
    # Both sides come from networks in single precision, by sums of different order:
    # rewards of size one then differ by some 1e-6, probabilities by beta times as much.
    np.testing.assert_allclose(
        (log_p[:, None] - log_p[None, :]) / SMALL.beta,
        reward[:, None] - reward[None, :],
        atol=5e-6,
        rtol=0,
    )
    with pytest.raises(InputError, match="call fit"):
        PlanSampler(SMALL).distribution(1)


@pytest.mark.parametrize("name", TRAINED)
class TestTrained:
    def test_training_is_decided_by_the_seed(self, small_set, samplers, name):
        same, other = make(name, small_set), make(name, small_set, seed=1)
        expected = samplers[name].sample(300, target_class=1, seed=0)
        np.testing.assert_array_equal(same.sample(300, target_class=1, seed=0), expected)
        assert (other.sample(300, target_class=1, seed=0) != expected).any()

    def test_save_and_load(self, samplers, name, tmp_path):
        path = tmp_path / f"model{MODELS[name].suffix}"
        assert isinstance(samplers[name], TrainedSampler)
        samplers[name].save(path)
        again = load_sampler(path)
        assert again.name == sampler_name(name)
        np.testing.assert_array_equal(
            again.sample(300, target_class=1, seed=0),
            samplers[name].sample(300, target_class=1, seed=0),
        )
        assert [file.name for file in tmp_path.iterdir()] == [path.name]

    def test_damaged_and_foreign_checkpoints(self, samplers, name, tmp_path):
        path = tmp_path / f"model{MODELS[name].suffix}"
        samplers[name].save(path)
        whole = path.read_bytes()
        for damaged in (whole[: len(whole) // 2], b"", b"nonsense"):
            path.write_bytes(damaged)
            with pytest.raises(InputError, match="checkpoint|damaged"):
                load_sampler(path)
        with pytest.raises(InputError, match="elpa train"):
            load_sampler(tmp_path / "none")

    def test_progress_reaches_the_end(self, small_set, name):
        calls = []
        make(name, small_set, progress=lambda done, total: calls.append((done, total)))
        assert calls[-1][0] == calls[-1][1] >= TINY[name].n_updates

    def test_a_set_without_rows_is_refused(self, small_set, name):
        empty = type(small_set)(small_set.index[:0], small_set.energy[:0], "nothing")
        if name.endswith("-oracle"):
            make(name, empty)  # an oracle looks at no training set
            return
        with pytest.raises(InputError, match=r"no rows|at least \d+ rows"):
            make(name, empty)


def test_checkpoints_of_another_model_class_or_version(samplers, tmp_path):
    samplers["vae"].save(tmp_path / "vae.pt")
    samplers["dqn"].save(tmp_path / "dqn.zip")
    with pytest.raises(InputError, match="holds a vae, not a gan"):
        ConditionalWGAN.load(tmp_path / "vae.pt")
    with pytest.raises(InputError, match="holds a vae, not a BoltzmannDQN"):
        AgentSampler.load(tmp_path / "vae.pt")
    with pytest.raises(InputError, match="trained for class 1, not 5"):
        load_sampler(tmp_path / "dqn.zip").sample(5, target_class=5)
    record, arrays = read_checkpoint(tmp_path / "dqn.zip")
    write_checkpoint(tmp_path / "old.zip", {**record, "format": 0}, arrays)
    with pytest.raises(InputError, match="has format 0"):
        load_sampler(tmp_path / "old.zip")


def test_unknown_names():
    with pytest.raises(InputError, match="unknown model 'x': choose from dqn, vae, gan"):
        model_spec("x")
    with pytest.raises(InputError, match="vae has no preset 'x': choose from quick, small, default, paper"):
        hyperparameters("vae", "x")
    with pytest.raises(InputError, match="baseline must be"):
        BaselineSampler("x", None)


def test_paper_presets_are_the_papers():
    dqn, vae, gan = (MODELS[name].presets["paper"].config for name in ("dqn", "vae", "gan"))
    assert (dqn.hidden, dqn.n_updates, dqn.batch_size) == ((512,) * 5, 800_000, 250)
    assert (dqn.learning_rate, dqn.gamma, dqn.target_update_interval) == (1e-5, 0.999, 10)
    assert (vae.hidden, vae.n_updates, vae.batch_size) == ((256, 256), 10_000, 500)
    assert (vae.learning_rate, vae.kl_weight, vae.latent_dim) == (1e-3, 0.1, 8)
    assert (gan.hidden, gan.n_updates, gan.batch_size, gan.n_critic) == (512, 200_000, 100, 5)
    assert (gan.learning_rate, gan.gradient_penalty, gan.latent_dim) == (1e-5, 10, 8)


@pytest.mark.parametrize("name", [*BASELINES, *OPTIMAL])
class TestExact:
    def test_states_its_distribution(self, samplers, name):
        sampler = samplers[name]
        assert isinstance(sampler, ExactSampler)
        distribution = sampler.distribution(1)
        assert distribution.shape == (space.n_table,)
        assert distribution.sum() == pytest.approx(1)
        assert distribution[~space.composition_mask].sum() == 0
        drawn = space.digits_to_index(sampler.sample(20_000, target_class=1, seed=0))
        assert (distribution[drawn] > 0).all()
        top = np.argsort(distribution)[-20:]
        share = np.isin(drawn, top).mean()
        expected = distribution[top].sum()
        assert share == pytest.approx(expected, abs=5 * np.sqrt(expected / 20_000) + 1e-4)


def test_reference_lines_say_what_they_are():
    assert set(MODELS) == {*TRAINED, "plan", "rank", *BASELINES, *OPTIMAL}
    for name in OPTIMAL:
        assert MODELS[name].title.startswith("optimal")
        assert not MODELS[name].suffix


@pytest.mark.parametrize(
    "name", ["plan", "rank", *(name for name in TRAINED if not name.endswith("-oracle"))]
)
def test_what_learns_from_labels_sees_no_landscape(name, small_set, monkeypatch):
    """A poisoned landscape changes nothing: nobody asks it."""
    expected = make(name, small_set).sample(500, target_class=1, seed=0)

    def poisoned(*_):
        raise AssertionError("the landscape was asked")

    from elpa_env.landscape import Landscape

    for attribute in ("energy", "energy_class", "members"):
        monkeypatch.setattr(Landscape, attribute, poisoned)
    for attribute in ("table_class", "table_energy", "class_counts", "levels"):
        monkeypatch.setattr(Landscape, attribute, property(poisoned), raising=False)
    with pytest.raises(AssertionError, match="was asked"):
        load_landscape().table_class  # noqa: B018 - the poison works
    np.testing.assert_array_equal(make(name, small_set).sample(500, target_class=1, seed=0), expected)


def test_an_oracle_asks_the_landscape(small_set, monkeypatch):
    from elpa_env.landscape import Landscape

    def poisoned(*_):
        raise AssertionError("the landscape was asked")

    monkeypatch.setattr(Landscape, "energy", poisoned)
    with pytest.raises(AssertionError, match="was asked"):
        make("dqn-soft-oracle", small_set)


def test_every_model_says_what_it_saw(samplers, small_set):
    labels, episodes = small_set.n_labels, (8 + 3) * 16
    for name, sampler in samplers.items():
        seen = replace(access_of(sampler), chosen_by="unknown")
        if name.startswith("optimal"):
            assert seen == Access("reference", landscape_queries=space.n_compositions)
        elif name.endswith("-oracle"):
            assert seen == Access("oracle", landscape_queries=episodes)
        elif name in ("plan", "rank"):
            assert seen == Access("model-based", labels, model_queries=space.n_compositions)
        elif name == "gflownet" or name.endswith(("-model", "-any")):
            assert seen == Access("model-based", labels, model_queries=episodes)
        else:
            assert seen == Access("offline", 0 if name == "random" else labels)


@pytest.mark.parametrize("backup", get_args(Backup))
def test_settings_reach_the_agent_and_its_checkpoint(backup, small_set, tmp_path):
    config = replace(
        VARIANTS["dqn-soft"].presets["default"].config,
        hidden=(16, 16),
        n_updates=20,
        batch_size=64,
        backup=backup,
    )
    sampler = AgentSampler(train_offline(small_set, 1, config))
    sampler.save(tmp_path / "agent.zip")
    again = AgentSampler.load(tmp_path / "agent.zip")
    for agent in (sampler.model, again.model):
        for setting in ("backup", "conservative", "beta", "gamma", "masking"):
            assert getattr(agent, setting) == getattr(config, setting)
    np.testing.assert_array_equal(again.distribution(1), sampler.distribution(1))
    assert sampler.distribution(1).sum() <= 1 + 1e-9
