"""Environments for Stable-Baselines3, which does not take Gymnasium's vector environments."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from elpa_env.env import observation_space
from elpa_env.errors import InputError
from elpa_env.rules import describe
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.vector import CompositionVectorEnv, ElpasoliteVectorEnv, Endings


class CompositionVecEnv(VecEnv):
    """SB3's view of `CompositionVectorEnv`.

    `infos[i]` holds `action_mask` and `TimeLimit.truncated`; when episode i ends also
    `terminal_observation`, what `CompositionEnv` adds at the end of an episode, and `episode` with reward,
    length and time as SB3's Monitor writes it. The mask then belongs to the episode that ended; that of the
    new one is in `reset_infos[i]` and in `env_method("action_masks")`.

    Args:
        env: the environments, which must reset in the step that ends an episode.

    Raises:
        InputError: another autoreset mode.
    """

    def __init__(self, env: CompositionVectorEnv) -> None:
        if env.autoreset_mode != AutoresetMode.SAME_STEP:
            raise InputError(f"autoreset_mode must be SameStep, got {env.autoreset_mode.value}")
        self.env = env
        self._started = time.time()
        self._actions = np.zeros(env.num_envs, dtype=np.int64)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> NDArray[np.float32]:
        """Start all episodes anew, with the seeds that `seed` has set."""
        seeds = list(self._seeds) if any(seed is not None for seed in self._seeds) else None
        observation, infos = self.env.reset(seed=seeds)
        self.reset_infos = [{"action_mask": mask} for mask in infos["action_mask"]]
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Make the step."""
        rewards, dones, endings = self.env.advance(self._actions)
        masks = self.env.action_masks().view(np.int8)
        infos: list[dict[str, Any]] = [{"action_mask": mask, "TimeLimit.truncated": False} for mask in masks]
        if endings:
            self._end(infos, endings)
        return self.env.observe(), rewards.astype(np.float32), dones, infos

    def _end(self, infos: list[dict[str, Any]], endings: Endings) -> None:
        """Put into `infos` how episodes ended, and into `reset_infos` how the next ones start."""
        elapsed = round(time.time() - self._started, 6)
        columns = zip(
            endings.over.tolist(),
            endings.masks(),
            endings.observations(),
            describe(endings.outcome),
            endings.queries.tolist(),
            endings.outcome.reward.tolist(),
            endings.lengths().tolist(),
            strict=True,
        )
        for i, mask, last, info, queries, earned, length in columns:
            self.reset_infos[i] = {"action_mask": infos[i]["action_mask"]}
            info["action_mask"], info["TimeLimit.truncated"] = mask, False
            info["terminal_observation"], info["n_queries"] = last, queries
            info["episode"] = {"r": earned, "l": length, "t": elapsed}
            infos[i] = info

    def close(self) -> None:
        """Nothing is held."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute for each environment; but for the masks and the class they share it."""
        if attr_name == "action_masks":
            return [self._mask_of(i) for i in self._get_indices(indices)]
        which = list(self._get_indices(indices))
        if attr_name == "target_class":
            classes = self.env.target_classes
            return [int(classes[i]) for i in which]
        if attr_name in ("action_space", "observation_space"):
            attr_name = f"single_{attr_name}"
        value = getattr(self.env, attr_name)
        return [value for _ in which]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute, of all environments at once.

        Raises:
            InputError: for some of them only.
        """
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise InputError(f"the environments share {attr_name}: set it for all of them")
        setattr(self.env, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method for each environment: ``action_masks`` or ``render``.

        Raises:
            InputError: another method, which an environment in a batch does not have.
        """
        which = list(self._get_indices(indices))
        if method_name == "action_masks":
            masks = self.env.action_masks()
            return [masks[i] for i in which]
        if method_name == "get_wrapper_attr":
            return self.get_attr(str(method_args[0]), which)
        if method_name == "render":
            frames = self.env.render() or (None,) * self.num_envs
            return [frames[i] for i in which]
        raise InputError(f"env_method knows action_masks and render, got {method_name!r}")

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """True for SB3's Monitor, whose `episode` records are in `infos`; False for anything else."""
        return [issubclass(wrapper_class, Monitor) for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """A picture of each environment."""
        return self.env_method("render")

    def _mask_of(self, i: int) -> Any:
        """What `action_masks` of a single environment would be."""
        return lambda: self.env.action_masks()[i]

    def _get_indices(self, indices: VecEnvIndices) -> Iterable[int]:
        if indices is None:
            return range(self.num_envs)
        return [indices] if isinstance(indices, int) else indices


class OfflineEnv(gym.Env[NDArray[np.float32], np.int64]):
    """The spaces of an environment and nothing else: what an agent that learns offline gets.

    Args:
        space: of the compositions.
        any_class: whether the observation names the class of the episode.
    """

    def __init__(self, space: Space = ELPASOLITE_SPACE, *, any_class: bool = False) -> None:
        self.observation_space = observation_space(space, any_class=any_class)
        self.action_space = spaces.Discrete(space.n_actions)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """All choices open; SB3 asks once."""
        super().reset(seed=seed)
        return np.zeros(self.observation_space.shape, dtype=np.float32), {}  # type: ignore[arg-type]

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Refuse: an agent that learns offline meets no environment.

        Raises:
            InputError: always.
        """
        raise InputError("this agent has no environment: pass one, or call set_episodes(training_set) first")


def make_vec_env(
    n_envs: int = 1, *, space: Space | None = None, seed: int | None = None, **kwargs: Any
) -> CompositionVecEnv:
    """The environment for any Stable-Baselines3 agent, `n_envs` of them in one batch.

    Args:
        n_envs: environments.
        space: of the compositions; by default those of `Elpasolite-v0`. Of any other, or with a `prototype`,
            the environment is `Composition-v0`.
        seed: of the first; the others get the numbers that follow.
        **kwargs: arguments of the environment; episodes always restart in the step that ends them.

    Raises:
        InputError: an argument that cannot be used.
    """
    kwargs = {"autoreset_mode": AutoresetMode.SAME_STEP, **kwargs}
    env: CompositionVectorEnv
    if space is None and "prototype" not in kwargs:
        if "target" in kwargs:
            kwargs["target_class"] = kwargs.pop("target")
        env = ElpasoliteVectorEnv(n_envs, **kwargs)
    else:
        if "target_class" in kwargs:
            kwargs["target"] = kwargs.pop("target_class")
        if space is not None:
            kwargs["prototype"] = space
        env = CompositionVectorEnv(n_envs, **kwargs)
    adapted = CompositionVecEnv(env)
    if seed is not None:
        adapted.seed(seed)
    return adapted
