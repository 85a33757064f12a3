"""Saving and loading a `BoltzmannDQN` without pickles: settings in JSON, weights as plain arrays.

Nothing in such a file is ever run. Stable-Baselines3's own archives hold pickles, which run code: they are
read only where somebody vouches for them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import numpy as np
import torch as th
from numpy.typing import NDArray
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

from agents.buffers import MixedReplayBuffer
from agents.generators import preserved_generators
from agents.policies import BoundedQPolicy, DigitEncoder, ElementEmbedding
from agents.schedules import CosineSchedule
from agents.vec_env import OfflineEnv
from elpa_env.backups import Backup
from elpa_env.checkpoint import read_checkpoint, restore, write_checkpoint
from elpa_env.errors import InputError
from elpa_env.files import StrPath, open_file
from elpa_env.rules import Masking
from elpa_env.sampler import Access
from elpa_env.space import Space

if TYPE_CHECKING:
    from agents.dqn import BoltzmannDQN

Agent = TypeVar("Agent", bound="BoltzmannDQN")

NAME: Final = "BoltzmannDQN"
FORMAT: Final = 2
"""Kept with every saved agent; raised when an older one can no longer be read."""

_CLASSES: Final[dict[str, type]] = {
    kind.__name__: kind
    for kind in (
        *(DQNPolicy, BoundedQPolicy, FlattenExtractor, DigitEncoder, ElementEmbedding),
        *(ReplayBuffer, NStepReplayBuffer, MixedReplayBuffer),
        *(LinearSchedule, CosineSchedule),
        *(th.optim.Adam, th.optim.AdamW, th.optim.RMSprop, th.optim.SGD),
        *(nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.SiLU, nn.GELU, nn.ELU),
    )
}
"""What settings may name."""
_OWN_SPACE: Final = "Space"
"""What settings call the space that the agent is for, which stands in the file once."""

_Q_NET: Final = "q_net."
_TARGET: Final = "q_net_target."
"""What names of weights of SB3's two networks begin with."""


@dataclass(frozen=True)
class _Settings:
    """Arguments of `BoltzmannDQN` that it keeps under the same names; infinity is no JSON."""

    backup: Backup
    beta: float | Literal["inf"]
    conservative: float
    masking: Masking | None
    target_class: int | None
    ema_decay: float
    buffer_size: int
    learning_starts: int
    batch_size: int
    tau: float
    gamma: float
    gradient_steps: int
    n_steps: int
    target_update_interval: int
    exploration_fraction: float
    exploration_initial_eps: float
    exploration_final_eps: float
    max_grad_norm: float
    seed: int | None


@dataclass(frozen=True)
class _Progress:
    """Where training stands, under the names of SB3's attributes."""

    num_timesteps: int
    _n_updates: int
    _n_calls: int
    _episode_num: int
    _total_timesteps: int
    _current_progress_remaining: float
    exploration_rate: float


def save_agent(model: BoltzmannDQN, path: StrPath, *, slim: bool = False) -> None:
    """Write an agent, all or nothing; ``.zip`` is added to a name without a suffix, as SB3 does.

    Args:
        model: the agent.
        path: file to write.
        slim: keep the network by which the agent acts alone. It is a fraction of the size; an agent read from
            it that learns on starts with a fresh optimiser and without the weights that were not averaged.

    Raises:
        InputError: the agent has parts of the user's own, was made for another environment, or the file
            cannot be written.
    """
    any_class = model.observation_space.shape != (model.space.n_steps,)
    ours = OfflineEnv(model.space, any_class=any_class)
    if model.observation_space != ours.observation_space or model.action_space != ours.action_space:
        raise InputError(
            "only agents for this project's environments are kept without code: use DQN.save(model, path)"
        )
    record = {
        "format": FORMAT,
        "model": NAME,
        "any_class": any_class,
        "space": model.space.to_dict(),
        "settings": _fields(_Settings, model)
        | {"beta": "inf" if model.beta == math.inf else model.beta}
        | ({"ema_decay": 0.0} if slim else {}),
        "progress": _fields(_Progress, model),
        "train_freq": [model.train_freq.frequency, model.train_freq.unit.value],  # type: ignore[union-attr]
        "trained_on": _encode("trained_on", model.trained_on),
        "access": dataclasses.asdict(model.access),
    }
    for name in ("policy_class", "learning_rate", "policy_kwargs", "replay_buffer_class"):
        record[name] = _encode(name, getattr(model, name))
    record["replay_buffer_kwargs"] = _encode("replay_buffer_kwargs", model.replay_buffer_kwargs)
    write_checkpoint(with_suffix(path), record, dict(_acting(model) if slim else _arrays(model)))


def load_agent(
    kind: type[Agent],
    path: StrPath,
    env: GymEnv | None = None,
    device: th.device | str = "auto",
    *,
    trust: bool = False,
    **kwargs: Any,
) -> Agent:
    """Read an agent that `save_agent` or SB3 wrote; see `BoltzmannDQN.load`."""
    path = with_suffix(path)
    if written_by_sb3(path):
        check_trust(path, trust)
        with preserved_generators(), one_line(path):
            model: Agent = DQN.load.__func__(kind, path, env, device, **kwargs)  # type: ignore[attr-defined]
    else:
        if kwargs:
            raise InputError(f"{', '.join(kwargs)} is for archives of Stable-Baselines3, which {path} is not")
        record, arrays = read_record(path)
        if record["model"] != NAME:
            raise InputError(f"{path} holds a {str(record['model'])[:60]}, not a {NAME}")
        _check_observations(record, env)
        with preserved_generators(), one_line(path):
            model = _build(kind, record, arrays, env, device)
            _restore(model, record, arrays)
    model.check_env()
    return model


def with_suffix(path: StrPath) -> Path:
    """The path, with ``.zip`` where it has no suffix, as SB3 does."""
    path = Path(path)
    return path if path.suffix or path.is_file() else path.with_suffix(".zip")


def written_by_sb3(path: StrPath) -> bool:
    """Whether a file is an archive of Stable-Baselines3.

    Raises:
        InputError: there is no such file.
    """
    if not os.path.lexists(path):
        raise InputError(f"no agent {path}: train one with `elpa train dqn`")
    with open_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return bool({"data", "policy.pth"} & set(archive.namelist()))
        except Exception:  # a damaged archive fails in more ways than zipfile names
            return False


def read_record(path: StrPath) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What a checkpoint of this project holds, its format checked.

    Raises:
        InputError: it is none, is damaged, or of another version.
    """
    record, arrays = read_checkpoint(Path(path))
    if not {"format", "model"} <= set(record):
        raise InputError(f"{path} is not a checkpoint of this project")
    if record["format"] != FORMAT:
        found = str(record["format"])[:20]
        raise InputError(f"{path} has format {found}, this version reads {FORMAT}: train the agent again")
    return record, arrays


def check_trust(path: StrPath, trust: bool) -> None:
    """Refuse an archive of SB3 that nobody vouches for.

    Raises:
        InputError: `trust` is not True.
    """
    if trust is not True:
        raise InputError(
            f"{path} was written by Stable-Baselines3, and reading its archives can run code that they hold: "
            f"pass trust=True (--trust) if you trust where it comes from"
        )


@contextmanager
def one_line(path: StrPath) -> Iterator[None]:
    """Turn whatever a damaged or hostile file makes fail into one clear error."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    except Exception as error:  # SB3 and PyTorch have many words for what does not fit
        reason = (str(error).splitlines() or [""])[0][:200]
        what = f"{type(error).__name__}: {reason}"
        raise InputError(f"{path} is damaged, or holds no such agent ({what})") from error


def _fields(kind: type[_Settings] | type[_Progress], model: BoltzmannDQN) -> dict[str, Any]:
    """Attributes of a model by the fields of a dataclass."""
    return {field.name: _encode(field.name, getattr(model, field.name)) for field in dataclasses.fields(kind)}


def _encode(name: str, value: Any) -> Any:
    """A setting as JSON; classes and schedules by their names.

    Raises:
        InputError: it is of the user's own.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_encode(name, item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _encode(f"{name}[{key!r}]", item) for key, item in value.items()}
    if isinstance(value, Space):
        return {"class": _OWN_SPACE}
    if isinstance(value, type) and _CLASSES.get(value.__name__) is value:
        return {"class": value.__name__}
    if type(value) in (LinearSchedule, CosineSchedule):
        return {"class": type(value).__name__, "arguments": vars(value)}
    raise InputError(
        f"{name} is {value!r}, which an archive without code cannot hold: "
        f"write one of SB3 with stable_baselines3.DQN.save(model, path)"
    )


def _decode(value: Any, space: Space) -> Any:
    """A setting from JSON."""
    if isinstance(value, list):
        return [_decode(item, space) for item in value]
    if not isinstance(value, dict):
        return value
    if "class" not in value:
        return {key: _decode(item, space) for key, item in value.items()}
    if value == {"class": _OWN_SPACE}:
        return space
    kind, arguments = _CLASSES[value["class"]], value.get("arguments")
    if arguments is None:
        return kind
    if kind not in (LinearSchedule, CosineSchedule) or not all(map(_is_number, arguments.values())):
        raise InputError(f"{value['class']} cannot be made of {arguments}")
    return kind(**arguments)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _arrays(model: BoltzmannDQN) -> Iterator[tuple[str, NDArray[Any]]]:
    """Everything learnt: networks, their average, and what the optimiser remembers of each weight."""
    modules = {"policy": model.policy, "average": model.q_net_average}
    for name, module in modules.items():
        if module is not None:
            for key, value in module.state_dict().items():
                yield f"{name}/{key}", value.detach().cpu().numpy()
    for place, state in model.policy.optimizer.state_dict()["state"].items():
        for key, value in state.items():
            yield f"optimizer/{place}/{key}", th.as_tensor(value).cpu().numpy()


def _acting(model: BoltzmannDQN) -> Iterator[tuple[str, NDArray[Any]]]:
    """The network by which an agent acts: the average where it keeps one."""
    for key, value in model.sampled_q_net.state_dict().items():
        yield f"policy/{_Q_NET}{key}", value.detach().cpu().numpy()


def _build(
    kind: type[Agent],
    record: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
    env: GymEnv | None,
    device: th.device | str,
) -> Agent:
    """The agent as it was before it learnt."""
    settings = dataclasses.asdict(restore(_Settings, record["settings"]))
    settings["beta"] = float(settings["beta"])
    space = Space.from_dict(record.get("space"))
    others = {name: _decode(record[name], space) for name in ("policy_kwargs", "replay_buffer_kwargs")}
    rate, (frequency, unit) = _decode(record["learning_rate"], space), record["train_freq"]
    if not (_is_number(rate) or isinstance(rate, LinearSchedule | CosineSchedule)):
        raise InputError(f"learning_rate is {rate!r}")
    _check_size(others["policy_kwargs"], sum(array.size for array in arrays.values()))
    return kind(
        _decode(record["policy_class"], space),
        OfflineEnv(space, any_class=bool(record["any_class"])) if env is None else env,
        rate,
        train_freq=(frequency, unit),
        replay_buffer_class=_decode(record["replay_buffer_class"], space),
        device=device,
        space=space,
        **others,
        **settings,
    )


def _check_observations(record: dict[str, Any], env: GymEnv | None) -> None:
    """Refuse an environment with other observations than the agent's."""
    space = Space.from_dict(record.get("space"))
    expected = OfflineEnv(space, any_class=bool(record.get("any_class"))).observation_space
    if env is not None and env.observation_space != expected:
        raise InputError(
            f"the environment must observe {expected} as the agent does, got {env.observation_space}"
        )


def _check_size(policy_kwargs: dict[str, Any], n_weights: int) -> None:
    """Refuse networks far larger than the weights at hand before they take any memory."""
    features = policy_kwargs.get("features_extractor_kwargs", {}).get("features_dim", 1)
    widths = [features, *policy_kwargs.get("net_arch", [])]
    if not all(type(width) is int and width > 0 for width in widths):
        raise InputError(f"layers have {widths} nodes")
    if sum(a * b for a, b in itertools.pairwise(widths)) + features > n_weights:
        raise InputError(f"layers of {widths} nodes have more weights than there are")


def _restore(model: BoltzmannDQN, record: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Give an agent back what it learnt, and where it stands."""
    groups: dict[str, dict[str, th.Tensor]] = {"policy": {}, "average": {}, "optimizer": {}}
    for name, array in arrays.items():
        group, _, key = name.partition("/")
        groups[group][key] = th.from_numpy(array)
    weights = groups["policy"]
    if not any(key.startswith(_TARGET) for key in weights):  # of a slim file: both networks are one
        weights |= {key.replace(_Q_NET, _TARGET, 1): value for key, value in weights.items()}
    model.policy.load_state_dict(weights)
    if model.q_net_average is not None:
        model.q_net_average.load_state_dict(groups["average"])
    _restore_optimizer(model.policy.optimizer, groups["optimizer"])
    progress = restore(_Progress, record["progress"])
    for field in dataclasses.fields(_Progress):
        value = getattr(progress, field.name)
        # the share of training to come falls a little below 0 where whole episodes are played
        if value < 0 and field.name != "_current_progress_remaining":
            raise InputError(f"{field.name} is {value}")
        setattr(model, field.name, value)
    model.access = restore(Access, record["access"])
    model.trained_on = record["trained_on"]
    if model.trained_on is not None and not (
        isinstance(model.trained_on, dict) and isinstance(model.trained_on.get("sha256"), str)
    ):
        raise InputError("it does not say what the agent was trained on")


def _restore_optimizer(optimizer: th.optim.Optimizer, values: dict[str, th.Tensor]) -> None:
    """Give an optimiser back what it remembers of each weight."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, th.Tensor]] = {}
    for name, value in values.items():
        place, _, key = name.partition("/")
        if value.shape not in (th.Size([]), weights[int(place)].shape):
            raise InputError(f"optimizer/{name} has shape {tuple(value.shape)}")
        state.setdefault(int(place), {})[key] = value
    if state and set(state) != set(range(len(weights))):
        raise InputError("the optimiser does not remember every weight")
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
