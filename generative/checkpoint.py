"""Saving and loading of generative models: weights, hyperparameters, and where they come from."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch as th
from torch import Tensor

from elpa_env.checkpoint import read_checkpoint, restore, write_checkpoint
from elpa_env.errors import InputError
from elpa_env.sampler import Access
from elpa_env.space import Space

FORMAT: Final = 2


def save_checkpoint(
    path: str | Path,
    *,
    model: str,
    config: Any,
    space: Space,
    state: Mapping[str, Mapping[str, Tensor]],
    trained_on: dict[str, Any] | None,
    access: Access,
) -> None:
    """Write a checkpoint, all or nothing.

    Args:
        path: file to write.
        model: name of the model.
        config: its dataclass of hyperparameters.
        space: of the compositions.
        state: its `state_dict`s by name.
        trained_on: from `TrainingSet.record`; None before training.
        access: what the model saw.

    Raises:
        InputError: the file cannot be written; what was there stays.
    """
    record = {
        "format": FORMAT,
        "model": model,
        "config": dataclasses.asdict(config),
        "space": space.to_dict(),
        "trained_on": trained_on,
        "access": dataclasses.asdict(access),
    }
    arrays = {
        f"{network}/{name}": weights.detach().cpu().numpy()
        for network, named in state.items()
        for name, weights in named.items()
    }
    write_checkpoint(path, record, arrays)


@contextlib.contextmanager
def checked_content(path: str | Path) -> Iterator[None]:
    """Turn what fails when a checkpoint's content does not fit into one clear error."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    except Exception as error:  # PyTorch has many words for weights that do not fit
        raise InputError(f"{path} is damaged: its content does not fit the model it names") from error


def load_checkpoint(path: str | Path, *, model: str | None = None) -> dict[str, Any]:
    """Read a checkpoint; nothing in the file is run.

    Args:
        path: file to read.
        model: name that the checkpoint must bear; any by default.

    Returns:
        What `save_checkpoint` was given, by the same names; `config` as it stands in the file, see
        `elpa_env.checkpoint.restore`.

    Raises:
        InputError: the file is missing, damaged, no checkpoint, of another model or of another version.
    """
    if not os.path.lexists(path):
        raise InputError(f"no checkpoint {path}: train one with `elpa train`")
    record, arrays = read_checkpoint(path)
    if not {"format", "model", "config", "trained_on", "access"} <= set(record):
        raise InputError(f"{path} is not a checkpoint of this project")
    if record["format"] != FORMAT:
        raise InputError(
            f"{path} has format {str(record['format'])[:20]}, this version reads {FORMAT}: "
            "train the model again"
        )
    if model is not None and record["model"] != model:
        raise InputError(f"{path} holds a {str(record['model'])[:60]}, not a {model}")
    if not isinstance(record["model"], str):
        raise InputError(f"{path} is damaged: it does not name its model")
    _check_trained_on(path, record["trained_on"])
    state: dict[str, dict[str, Tensor]] = {}
    with checked_content(path):
        for name, array in arrays.items():
            if array.dtype != np.float32:
                raise InputError(f"its weights must be float32, found {array.dtype}")
            network, _, weights = name.partition("/")
            state.setdefault(network, {})[weights] = th.from_numpy(array)
        access = restore(Access, record["access"])
        space = Space.from_dict(record.get("space"))
    return {**record, "access": access, "space": space, "state": state}


def _check_trained_on(path: str | Path, trained_on: Any) -> None:
    """Check what other parts read of the record of a training set."""
    named = isinstance(trained_on, dict) and {
        key: type(trained_on.get(key)) for key in ("name", "sha256", "rows")
    } == {"name": str, "sha256": str, "rows": int}
    if trained_on is not None and not named:
        raise InputError(f"{path} is damaged: it does not say what the model was trained on")
