"""The hyperparameters for the RL Baselines3 Zoo: its algorithms take them, and learn in the environment."""

import runpy
from pathlib import Path

import gymnasium as gym
import pytest

import elpa_env

sb3 = pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
sb3_contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")

ROOT = Path(__file__).parents[1]
FILE = ROOT / "examples" / "zoo.py"
ENV = "Elpasolite-v0"
CLASSES = {
    "ppo": sb3.PPO,
    "dqn": sb3.DQN,
    "qrdqn": sb3_contrib.QRDQN,
    "ppo_mask": sb3_contrib.MaskablePPO,
}
"""By the Zoo's names, and by that which the file gives to MaskablePPO."""
ABOUT_THE_RUN = ("n_timesteps", "n_envs", "env_kwargs")
"""What the Zoo takes for itself; all else goes to the algorithm, `rl_zoo3.exp_manager`."""
BRIEF = {"ppo": {"n_steps": 8}, "ppo_mask": {"n_steps": 8}, "dqn": {"learning_starts": 16}}
BRIEF["qrdqn"] = BRIEF["dqn"]


def read(monkeypatch, *arguments):
    """What the Zoo reads in a process that was started with these arguments: it runs the file."""
    monkeypatch.setattr("sys.argv", ["train.py", *arguments])
    return runpy.run_path(str(FILE), run_name="builtins")["hyperparams"]


def test_names_the_algorithms_that_are_tested():
    assert set(runpy.run_path(str(FILE), run_name="builtins")["ALGORITHMS"]) == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("joined", [False, True])
def test_gives_those_of_the_algorithm_that_the_command_names(name, joined, monkeypatch):
    arguments = [f"--algo={name}"] if joined else ["--env", ENV, "--algo", name]
    found = read(monkeypatch, *arguments)
    assert list(found) == [ENV]
    assert found[ENV] == runpy.run_path(str(FILE), run_name="builtins")["ALGORITHMS"][name]


def test_gives_those_of_ppo_unless_told_otherwise(monkeypatch):
    assert read(monkeypatch, "--env", ENV) == read(monkeypatch, "--algo", "ppo")


def test_knows_nothing_of_other_algorithms(monkeypatch):
    assert read(monkeypatch, "--algo", "sac") == {ENV: {}}


@pytest.mark.parametrize("name", CLASSES)
def test_the_algorithm_learns_with_them(name, monkeypatch):
    gym.register_envs(elpa_env)
    settings = read(monkeypatch, "--algo", name)[ENV]
    assert settings["n_timesteps"] >= 100_000
    game = settings["env_kwargs"]
    env = sb3.common.env_util.make_vec_env(ENV, settings["n_envs"], seed=0, env_kwargs=game)
    given = {key: value for key, value in settings.items() if key not in ABOUT_THE_RUN} | BRIEF[name]
    agent = CLASSES[name](env=env, seed=0, device="cpu", **given)
    before = {key: value.clone() for key, value in agent.policy.state_dict().items()}
    agent.learn(8 * settings["n_envs"])
    after = agent.policy.state_dict()
    assert any(not before[key].equal(value) for key, value in after.items())
    assert agent.num_timesteps >= 8 * settings["n_envs"]
    if name == "ppo_mask":  # every episode ended in a composition, as its masks promise
        assert game["masking"] == "composition"
        assert {episode["l"] for episode in agent.ep_info_buffer} == {8}
