"""Saving and loading a `BoltzmannDQN` without pickles: a zip archive of JSON and plain numbers.

``agent.json`` holds settings, counters and the names and shapes of the tensors; ``tensors.bin`` their numbers,
one tensor after the other. Nothing in such a file is ever run, and neither NumPy nor PyTorch has a part in its
form. Stable-Baselines3's own archives hold pickles, which run code: they are read on demand alone.
"""

from __future__ import annotations

import dataclasses
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar, get_args, get_type_hints

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
from elpa_env.errors import InputError
from elpa_env.files import StrPath, atomic_path, open_file
from elpa_env.sampler import Access
from elpa_env.space import N_STEPS

if TYPE_CHECKING:
    from agents.dqn import BoltzmannDQN

Agent = TypeVar("Agent", bound="BoltzmannDQN")

FORMAT: Final = 2
"""Kept with every saved agent; raised when an older one can no longer be read."""
JSON, TENSORS = "agent.json", "tensors.bin"
_MAX_JSON: Final = 1 << 20
_DTYPES: Final = {"float32": np.dtype("<f4"), "float64": np.dtype("<f8"), "int64": np.dtype("<i8")}

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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= -1


def _is_word(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_optional_count(value: Any) -> bool:
    return value is None or _is_count(value)


_SETTINGS: Final[dict[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("beta", "conservative", "ema_decay", "tau", "gamma", "max_grad_norm"), _is_number),
    **dict.fromkeys(("exploration_fraction", "exploration_initial_eps", "exploration_final_eps"), _is_number),
    **dict.fromkeys(("backup", "masking"), _is_word),
    **dict.fromkeys(("target_class", "seed"), _is_optional_count),
    **dict.fromkeys(("buffer_size", "learning_starts", "batch_size", "gradient_steps"), _is_count),
    **dict.fromkeys(("n_steps", "target_update_interval"), _is_count),
    **dict.fromkeys(("policy_kwargs", "replay_buffer_kwargs"), lambda value: isinstance(value, dict)),
    "replay_buffer_class": lambda value: value is None or issubclass(value, ReplayBuffer),
}
"""Arguments of `BoltzmannDQN` that are kept under the names of its attributes, and what they must be."""
_COUNTERS: Final = ("num_timesteps", "_n_updates", "_n_calls", "_episode_num", "_total_timesteps")
"""Where training stands."""


def save_agent(model: BoltzmannDQN, path: StrPath) -> None:
    """Write an archive, all or nothing; ``.zip`` is added to a name without a suffix, as SB3 does.

    Raises:
        InputError: the agent has parts of the user's own, or the file cannot be written.
    """
    width = (model.observation_space.shape or (0,))[0]
    if model.observation_space != OfflineEnv(any_class=width != N_STEPS).observation_space:
        raise InputError("only agents for Elpasolite-v0 are kept without code: use DQN.save(model, path)")
    tensors = {name: tensor.detach().cpu().numpy() for name, tensor in _tensors(model)}
    record = {
        "format": FORMAT,
        "width": width,
        "policy": _encode("policy", model.policy_class),
        "learning_rate": _encode("learning_rate", model.learning_rate),
        "train_freq": [model.train_freq.frequency, model.train_freq.unit.value],  # type: ignore[union-attr]
        "settings": {name: _encode(name, getattr(model, name)) for name in _SETTINGS},
        "counters": {name: getattr(model, name) for name in _COUNTERS},
        "progress_remaining": model._current_progress_remaining,
        "exploration_rate": model.exploration_rate,
        "trained_on": _encode("trained_on", model.trained_on),
        "access": dataclasses.asdict(model.access),
        "tensors": [[name, str(array.dtype), list(array.shape)] for name, array in tensors.items()],
    }
    numbers = b"".join(
        np.ascontiguousarray(array, dtype=_DTYPES[str(array.dtype)]).tobytes() for array in tensors.values()
    )
    text = json.dumps(record, indent=1).encode()
    with atomic_path(with_suffix(path)) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(zipfile.ZipInfo(JSON), text)
        archive.writestr(zipfile.ZipInfo(TENSORS), numbers)


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
    if not is_own(path):
        check_trust(path, trust)
        with preserved_generators(), one_line(path):
            return DQN.load.__func__(kind, path, env, device, **kwargs)  # type: ignore[attr-defined,no-any-return]
    if kwargs:
        raise InputError(f"{', '.join(kwargs)} cannot be given for {path}: it is for archives of SB3")
    record, tensors = _read(path)
    with preserved_generators(), one_line(path):
        model = _build(kind, record, tensors, env, device)
        _restore(model, record, tensors)
    if env is not None:
        model.check_env()
    return model


def with_suffix(path: StrPath) -> Path:
    """The path, with ``.zip`` where it has no suffix, as SB3 does."""
    path = Path(path)
    return path if path.suffix else path.with_suffix(".zip")


def is_own(path: StrPath) -> bool:
    """Whether a file is an archive of `save_agent`; False for one of SB3.

    Raises:
        InputError: there is no such file, or it is neither.
    """
    with open_file(path) as file:
        names = _names(file)
    if JSON in names:
        return True
    if {"data", "policy.pth"} & names:
        return False
    raise InputError(f"{path} holds no agent, or is damaged: train one with `elpa train dqn`")


def check_trust(path: StrPath, trust: bool) -> None:
    """Refuse an archive of SB3 that nobody vouches for.

    Raises:
        InputError: `trust` is not True.
    """
    if trust is not True:
        raise InputError(
            f"{path} was written by Stable-Baselines3 and can run code that it holds when it is read: "
            f"load it with trust=True (--trust) if you trust where it comes from"
        )


@contextmanager
def one_line(path: StrPath) -> Iterator[None]:
    """Turn whatever a damaged or hostile file makes fail into one clear error."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise InputError(
            f"{path} is damaged, or holds no such agent ({type(error).__name__}: {reason})"
        ) from error


def _names(file: BinaryIO) -> set[str]:
    """Names of the members of an archive; none where it is none."""
    try:
        with zipfile.ZipFile(file) as archive:
            return set(archive.namelist())
    except Exception:  # a damaged file makes zipfile raise errors of many kinds
        return set()


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
    if isinstance(value, type) and _CLASSES.get(value.__name__) is value:
        return {"class": value.__name__}
    if type(value) in (LinearSchedule, CosineSchedule):
        return {"class": type(value).__name__, "arguments": vars(value)}
    raise InputError(
        f"{name} is {value!r}, which an archive without code cannot hold: "
        f"write SB3's with stable_baselines3.DQN.save(model, path)"
    )


def _decode(value: Any) -> Any:
    """A setting from JSON."""
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "class" not in value:
        return {key: _decode(item) for key, item in value.items()}
    kind, arguments = _CLASSES[value["class"]], value.get("arguments")
    if arguments is None:
        return kind
    if kind not in (LinearSchedule, CosineSchedule) or not all(map(_is_number, arguments.values())):
        raise ValueError(f"{value['class']} cannot be made of {arguments}")
    return kind(**arguments)


def _tensors(model: BoltzmannDQN) -> Iterator[tuple[str, th.Tensor]]:
    """Everything learnt: networks, their average, and what the optimiser remembers of each weight."""
    modules = {"policy": model.policy, "average": model.q_net_average}
    for name, module in modules.items():
        if module is not None:
            yield from ((f"{name}/{key}", value) for key, value in module.state_dict().items())
    for place, state in model.policy.optimizer.state_dict()["state"].items():
        yield from ((f"optimizer/{place}/{key}", th.as_tensor(value)) for key, value in state.items())


def _read(path: Path) -> tuple[dict[str, Any], dict[str, th.Tensor]]:
    """What an archive of `save_agent` holds.

    Raises:
        InputError: it is damaged, hostile, or of another version.
    """
    with open_file(path) as file, one_line(path):
        record, numbers = _members(file)
        found = record.get("format")
        if found == FORMAT:
            return record, dict(_split(record["tensors"], numbers))
    raise InputError(f"{path} has format {found!r}, this version reads {FORMAT}: train the agent again")


def _members(file: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """The record and the numbers of an archive, which must be stored as they are."""
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if set(members) != {JSON, TENSORS} or len(archive.infolist()) != 2:
            raise ValueError(f"it holds {', '.join(sorted(members))}")
        for info in members.values():
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise ValueError(f"{info.filename} is compressed or encrypted")
            if info.file_size != info.compress_size or info.file_size > (file.seek(0, 2)):
                raise ValueError(f"{info.filename} is cut off")
        if members[JSON].file_size > _MAX_JSON:
            raise ValueError(f"{JSON} is too large")
        record = json.loads(archive.read(JSON).decode())
        if not isinstance(record, dict):
            raise ValueError(f"{JSON} holds no record")
        return record, archive.read(TENSORS)


def _split(table: list[tuple[str, str, list[int]]], numbers: bytes) -> Iterator[tuple[str, th.Tensor]]:
    """The tensors by name; every number of them finite."""
    start = 0
    for name, dtype, shape in table:
        if not all(map(_is_count, shape)):
            raise ValueError(f"{name} has shape {shape}")
        count = math.prod(shape)
        values: NDArray[Any] = np.frombuffer(numbers, _DTYPES[dtype], count, start)
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds weights that are not numbers")
        start += values.nbytes
        yield name, th.from_numpy(values.astype(values.dtype.newbyteorder("=")).reshape(shape))
    if start != len(numbers):
        raise ValueError(f"{TENSORS} holds {len(numbers)} bytes, {start} are named")


def _build(
    kind: type[Agent],
    record: dict[str, Any],
    tensors: dict[str, th.Tensor],
    env: GymEnv | None,
    device: th.device | str,
) -> Agent:
    """The agent as it was before it learnt."""
    settings = {name: _decode(record["settings"][name]) for name in _SETTINGS}
    for name, is_right in _SETTINGS.items():
        if not is_right(settings[name]):
            raise ValueError(f"{name} is {settings[name]!r}")
    rate, (frequency, unit) = _decode(record["learning_rate"]), record["train_freq"]
    if not (_is_number(rate) or callable(rate)) or not _is_count(frequency):
        raise ValueError(f"learning_rate is {rate!r}, train_freq {frequency!r}")
    _check_size(settings["policy_kwargs"], sum(tensor.numel() for tensor in tensors.values()))
    return kind(
        _decode(record["policy"]),
        OfflineEnv(any_class=record["width"] != N_STEPS) if env is None else env,
        rate,
        train_freq=(frequency, unit),
        device=device,
        **settings,
    )


def _check_size(policy_kwargs: dict[str, Any], n_numbers: int) -> None:
    """Refuse networks far larger than the weights at hand before they take any memory."""
    features = policy_kwargs.get("features_extractor_kwargs", {}).get("features_dim", 1)
    widths = [features, *policy_kwargs.get("net_arch", [])]
    if not all(_is_count(width) and width > 0 for width in widths):
        raise ValueError(f"net_arch is {widths}")
    if sum(a * b for a, b in zip(widths, widths[1:], strict=False)) + features > n_numbers:
        raise ValueError(f"a network with layers of {widths} nodes has more weights than are there")


def _restore(model: BoltzmannDQN, record: dict[str, Any], tensors: dict[str, th.Tensor]) -> None:
    """Give an agent back what it learnt, and where it stands."""
    groups: dict[str, dict[str, th.Tensor]] = {"policy": {}, "average": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        group, _, key = name.partition("/")
        groups[group][key] = tensor
    model.policy.load_state_dict(groups["policy"])
    if model.q_net_average is not None:
        model.q_net_average.load_state_dict(groups["average"])
    _restore_optimizer(model.policy.optimizer, groups["optimizer"])
    for name in _COUNTERS:
        if not _is_count(record["counters"][name]):
            raise ValueError(f"{name} is {record['counters'][name]!r}")
        setattr(model, name, record["counters"][name])
    shares = record["progress_remaining"], record["exploration_rate"]
    if not all(_is_number(share) and share <= 1 for share in shares):
        raise ValueError(f"progress_remaining, exploration_rate are {shares}")
    model._current_progress_remaining, model.exploration_rate = shares
    model.trained_on = record["trained_on"]
    model.access = _access(record["access"])
    if not isinstance(model.trained_on, dict | None):
        raise ValueError(f"trained_on is {model.trained_on!r}")


def _restore_optimizer(optimizer: th.optim.Optimizer, values: dict[str, th.Tensor]) -> None:
    """Give an optimiser back what it remembers of each weight."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, th.Tensor]] = {}
    for name, value in values.items():
        place, _, key = name.partition("/")
        if value.shape not in (th.Size([]), weights[int(place)].shape):
            raise ValueError(f"optimizer/{name} has shape {tuple(value.shape)}")
        state.setdefault(int(place), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _access(fields: dict[str, Any]) -> Access:
    """What the agent saw, checked."""
    access = Access(**fields)
    kinds = get_args(get_type_hints(Access)["kind"])
    counts = access.labels, access.model_queries, access.landscape_queries
    if access.kind not in kinds or not all(map(_is_count, counts)) or not isinstance(access.chosen_by, str):
        raise ValueError(f"access is {fields}")
    return access
