"""`Elpasolite-v0` is what it was, to the last bit: hashes of some 270,000 steps that were recorded once.

The hash of a mode covers every observation, reward, flag, mask and `info` (types, shapes and bytes), what
the energy model and the reward were asked, and what a seed draws. An energy where there is no composition is
left out of it. Recorded with `python -m tests.test_unchanged`; a hash that changes is a change of the
environment, and its version says so.
"""

import hashlib
import itertools

import gymnasium as gym
import numpy as np
import pytest

from agents import make_vec_env
from elpa_env import ElpasoliteEnv, ElpasoliteVectorEnv

MODES = ("single", "NextStep", "SameStep", "Disabled", "SB3")
SINGLE_STEPS = 2_000
VECTOR_STEPS, N, N_SB3 = 150, 60, 8


class Asked:
    """A user's functions that write down into a hash what they are asked."""

    def __init__(self):
        self.sha256 = hashlib.sha256()

    def light(self, numbers):
        """An energy model: light compositions are stable."""
        write(self.sha256, numbers)
        return numbers.sum(axis=1) / 40 - 3

    def stability(self, numbers, energy, energy_class, target_class):
        """A reward with every argument in it."""
        write(self.sha256, [numbers, energy, energy_class, target_class])
        return (energy_class == target_class) - energy / 4 + numbers[:, 0] / 100 - 1


def variants(asked):
    """Arguments of the environment, by name."""
    named = {
        f"class {target_class}, {masking}": {"target_class": target_class, "masking": masking}
        for target_class, masking in itertools.product([1, 5, None], ["digits", "composition"])
    }
    named["own energies"] = {"energy_model": asked.light, "target_class": 3}
    named["own reward"] = {"reward": asked.stability, "target_class": 4}
    named["both"] = {"energy_model": asked.light, "reward": asked.stability, "target_class": None}
    return named


def write(sha256, value):
    """Add a value to a hash, with all that tells it from another."""
    sha256.update(type(value).__name__.encode())
    if isinstance(value, dict):
        write(sha256, [item for key in sorted(value) for item in (key, value[key])])
    elif isinstance(value, list | tuple):
        for item in value:
            write(sha256, item)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        write(sha256, [value.shape, value.tolist()])
    elif isinstance(value, np.ndarray | np.generic):
        value = np.asarray(value)
        sha256.update(f"{value.dtype.str}{value.shape}".encode() + value.tobytes())
    else:
        sha256.update(repr(value).encode())


def without_missing_energy(info):
    """An `info` with an energy only where there is a composition."""
    if "final_info" in info:
        info = {**info, "final_info": without_missing_energy(info["final_info"])}
    info = {key: value for key, value in info.items() if key != "_energy"}
    if "energy_class" not in info:
        return info
    energy = np.asarray(info.pop("energy", np.nan), dtype=np.float64)
    write_as = np.where(np.asarray(info["energy_class"]) > 0, energy, 0.0)
    return {**info, "energy": write_as.tolist()}


def choose(rng, masks):
    """(n,) actions; four in five are drawn from the allowed ones, the rest from all."""
    masks = np.atleast_2d(masks)
    anything = rng.random((len(masks), 1)) < 0.2
    return (rng.random(masks.shape) * (masks | anything)).argmax(axis=1)


def play_single(env, log, rng):
    """Episodes of one environment: seeded, seeded again, broken off, and never seeded."""
    env.np_random = np.random.default_rng(11)  # what is drawn where no seed is given
    log(env.reset())
    for step in range(SINGLE_STEPS):
        log(env.target_class, env.n_queries)
        (action,) = choose(rng, env.action_masks())
        *rest, terminated, truncated, info = env.step(action)
        log(rest, terminated, truncated, without_missing_energy(info), env.action_masks())
        if step % 100 == 99:
            log(env.reset(seed=step))
        elif terminated or step % 37 == 36:
            log(env.reset())


def play_vector(env, log, rng):
    """Episodes side by side: the same, with one seed for all and a seed for some."""
    env.np_random = np.random.default_rng(11)
    observation, info = env.reset()
    for step in range(VECTOR_STEPS):
        log(observation, info, env.target_classes, env.env_queries, env.n_queries)
        actions = choose(rng, env.action_masks())
        observation, rewards, terminated, truncated, info = env.step(actions)
        info = without_missing_energy(info)
        log(observation, rewards, terminated, truncated, info, env.action_masks())
        if step % 50 == 49:
            observation, info = env.reset(seed=step)
        elif step % 30 == 29:
            observation, info = env.reset(seed=[None if i % 3 else i + step for i in range(N)])
        elif env.metadata["autoreset_mode"] == gym.vector.AutoresetMode.DISABLED and terminated.any():
            observation, info = env.reset(options={"reset_mask": terminated})


def play_sb3(env, log, rng):
    """Episodes side by side as Stable-Baselines3 sees them."""
    log(env.reset())
    for _ in range(VECTOR_STEPS):
        actions = choose(rng, np.array(env.env_method("action_masks")))
        *rest, infos = env.step(actions)
        for info in map(without_missing_energy, infos):
            if "episode" in info:
                info["episode"] = {key: info["episode"][key] for key in "rl"}  # "t" is the time of day
            log({k: value.item() if isinstance(value, np.generic) else value for k, value in info.items()})
        log(rest, env.reset_infos, env.get_attr("target_class"))


def digest(variant, mode):
    """Play and hash, and what `action_space.sample` draws."""
    asked = Asked()
    kwargs = variants(asked)[variant]
    rng = np.random.default_rng(3)

    def log(*values):
        write(asked.sha256, values)

    if mode == "single":
        env = ElpasoliteEnv(**kwargs)
        play_single(env, log, rng)
    elif mode == "SB3":
        env = make_vec_env(N_SB3, seed=8, **kwargs)
        play_sb3(env, log, rng)
    else:
        env = ElpasoliteVectorEnv(N, autoreset_mode=mode, **kwargs)
        play_vector(env, log, rng)
    env.action_space.seed(5)
    log([env.action_space.sample() for _ in range(20)], env.observation_space.shape)
    return asked.sha256.hexdigest()[:12]


RECORD = {
    "class 1, digits": "3b5678b4e610 05a61c7bad7a 79f7a47333b4 6d6d0411fa3b e1e44fa81bb7",
    "class 1, composition": "3f47ea7bb4ca 99eb2fcaf0c7 d32e550efccc 83de19a7db03 056c7bfc50f8",
    "class 5, digits": "0e971d6df2c4 f446f5d7692f 14e5f8b06b0d 313e8e4e6146 252225acc695",
    "class 5, composition": "0470e34c22ee 938a0e0c6b99 69914720eecb 1c6993602dcf 1f52bc77cb0d",
    "class None, digits": "b61032f8bbcb 9c28bb447e24 acc8f378107e dc461fa12d9e ea5040ad8497",
    "class None, composition": "f97213cc36d6 d13c3cdc4321 23459e2d838b 9ee3e931a193 672e36c222c2",
    "own energies": "d7cd7b757d90 195cb8211f10 1276c4d09264 9e15ee7453fe ddb33254fdf8",
    "own reward": "0e1e07df4754 6f2c7a591ba8 0e4670d8b021 3bf182e57d43 0580ac874ccc",
    "both": "838f81fb6ca2 000a64cd9309 8bb09d7d04c2 797877425a99 a9649cee55bb",
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variant", variants(Asked()))
def test_unchanged(variant, mode):
    assert digest(variant, mode) == RECORD[variant].split()[MODES.index(mode)]


if __name__ == "__main__":
    for name in variants(Asked()):
        print(f'    "{name}": "{" ".join(digest(name, mode) for mode in MODES)}",')
