"""Saving and loading of generative models: weights, hyperparameters, and where they come from."""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch as th

from elpa_env.errors import InputError
from elpa_env.files import atomic_path
from elpa_env.sampler import Access

FORMAT: Final = 1


def save_checkpoint(
    path: str | Path,
    *,
    model: str,
    config: Any,
    state: dict[str, Any],
    trained_on: dict[str, Any] | None,
    access: Access,
) -> None:
    """Write a checkpoint, all or nothing.

    Args:
        path: file to write.
        model: name of the model.
        config: its dataclass of hyperparameters.
        state: its `state_dict`s by name.
        trained_on: from `TrainingSet.record`; None before training.
        access: what the model saw.
    """
    content = {
        "format": FORMAT,
        "model": model,
        "config": dataclasses.asdict(config),
        "state": state,
        "trained_on": trained_on,
        "access": dataclasses.asdict(access),
    }
    with atomic_path(path) as temporary:
        th.save(content, temporary)


@contextlib.contextmanager
def checked_content(path: str | Path) -> Iterator[None]:
    """Turn what fails when a checkpoint's content does not fit into one clear error."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise InputError(f"{path} is damaged: its content does not fit the model it names") from error


def load_checkpoint(path: str | Path, *, model: str | None = None) -> dict[str, Any]:
    """Read a checkpoint; nothing in the file is run.

    Args:
        path: file to read.
        model: name that the checkpoint must bear; any by default.

    Raises:
        InputError: the file is missing, no checkpoint, of another model or of another version.
    """
    try:
        content = th.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"no checkpoint {path}: train one with `elpa train`") from error
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a checkpoint of this project, or is damaged") from error
    if not isinstance(content, dict) or not {"format", "model", "config", "state"} <= set(content):
        raise InputError(f"{path} is not a checkpoint of this project")
    if content["format"] != FORMAT:
        raise InputError(
            f"{path} has format {content['format']}, this version reads {FORMAT}: train the model again"
        )
    if model is not None and content["model"] != model:
        raise InputError(f"{path} holds a {content['model']}, not a {model}")
    return content
