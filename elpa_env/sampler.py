"""The one interface of everything that generates compositions."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Sampler(Protocol):
    """Anything that draws candidate compositions for a target class."""

    name: str

    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw `n` raw candidates.

        Args:
            n: how many; at least 1.
            target_class: energy class 1..10 to aim at.
            seed: same seed, same candidates; None takes entropy from the system.

        Returns:
            (n, 8) digits, in order, repeats and compositions that do not exist included.

        Raises:
            InputError: a class that this sampler was not made for.
        """
        ...


@runtime_checkable
class ExactSampler(Sampler, Protocol):
    """A sampler that can also state its distribution exactly."""

    def distribution(self, target_class: int) -> NDArray[np.float64]:
        """(39^4,) probability of every entry of the composition table.

        It sums to the fraction of candidates that are real compositions, at most 1.
        """
        ...
