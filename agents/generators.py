"""Keeping the global random generators as they are, around SB3, which seeds them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch as th


@contextmanager
def preserved_generators() -> Iterator[None]:
    """Give the global generators of Python, NumPy and PyTorch back as they were."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - SB3 seeds this one
    try:
        with th.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
