"""The ten energy classes: equal-width bins of formation energy."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elpa_env.errors import InputError

N_CLASSES: Final = 10
ENERGY_MIN: Final = -3.06699926
"""eV/atom; lowest of the 10,590 DFT formation energies of Faber et al. 2016."""
ENERGY_MAX: Final = 5.01875829
"""eV/atom; highest of the same."""
CLASS_WIDTH: Final = (ENERGY_MAX - ENERGY_MIN) / N_CLASSES
"""eV/atom; 0.8086."""


def energy_to_class(energy: ArrayLike) -> NDArray[np.int8]:
    """Energy class 1..10 of formation energies in eV/atom.

    Class 1 also takes everything below `ENERGY_MIN`, class 10 everything above `ENERGY_MAX`.

    Raises:
        InputError: an energy that is not a number.
    """
    array = np.asarray(energy, dtype=np.float64)
    if np.isnan(array).any():
        raise InputError("energy must be a number in eV/atom, got NaN")
    bins = np.floor((array - ENERGY_MIN) / CLASS_WIDTH)
    return (np.clip(bins, 0, N_CLASSES - 1) + 1).astype(np.int8)


def one_hot(energy_class: ArrayLike) -> NDArray[np.float32]:
    """(n, 10) one-hot code of (n,) energy classes 1..10; class 0, none, is all 0."""
    return _ONE_HOT.take(np.asarray(energy_class), axis=0)


_ONE_HOT: Final = np.eye(N_CLASSES + 1, dtype=np.float32)[:, 1:]


def neighbours(target_class: int) -> list[int]:
    """The classes next to `target_class`; classes 1 and 10 have one neighbour."""
    check_target_class(target_class)
    return [c for c in (target_class - 1, target_class + 1) if 1 <= c <= N_CLASSES]


def check_target_class(target_class: object) -> int:
    """Return `target_class` as int if it is 1..10.

    Raises:
        InputError: anything else.
    """
    whole = isinstance(target_class, int | np.integer) and not isinstance(target_class, bool)
    if not whole or not 1 <= int(target_class) <= N_CLASSES:  # type: ignore[call-overload]
        raise InputError(f"target_class must be 1..{N_CLASSES}, got {target_class!r}")
    return int(target_class)  # type: ignore[call-overload, no-any-return]
