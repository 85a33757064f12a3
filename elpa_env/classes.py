"""Targets: the named intervals of a quantity that a generator may aim at, numbered from 1.

Those of elpasolite are the ten energy classes of Türk et al. 2022, equal-width bins of formation energy;
those of another space may be intervals of any quantity that is known of its compositions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elpa_env.errors import InputError

N_CLASSES: Final = 10
"""Energy classes of elpasolite."""
ENERGY_MIN: Final = -3.06699926
"""eV/atom; lowest of the 10,590 DFT formation energies of Faber et al. 2016."""
ENERGY_MAX: Final = 5.01875829
"""eV/atom; highest of the same."""
CLASS_WIDTH: Final = (ENERGY_MAX - ENERGY_MIN) / N_CLASSES
"""eV/atom; 0.8086."""
MOST: Final = 100
"""Targets that a set may have."""


_LONGEST_NAME: Final = 60


def _short(value: object) -> str:
    """What was given, for a message."""
    text = repr(value)
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."


@dataclass(frozen=True)
class Targets:
    """Intervals low < value <= high of a quantity; class c is the c-th of them, class 0 none.

    Attributes:
        names: of the intervals, in the order of their values.
        low: lower limits, -inf for none.
        high: upper limits, inf for none.
        quantity: that they are intervals of: a column of the table of energies, or what an energy model
            states.
        unit: of that.

    Raises:
        InputError: names that are missing, stand twice or cannot be told from numbers, or intervals that are
            empty, overlap or do not ascend.
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    quantity: str = "energy"
    unit: str = "eV/atom"

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MOST or not len(self.names) == len(self.low) == len(self.high):
            raise InputError(f"targets must be 1..{MOST} names with their intervals, got {self.names}")
        self._check_words()
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            if not low < high:
                raise InputError(
                    f"target {name} must be an interval with low < high, got {low:g} to {high:g}"
                )
        for place in range(1, len(self.names)):
            if self.low[place] < self.high[place - 1]:
                raise InputError(
                    f"targets must ascend without overlap, got {self.names[place]} from {self.low[place]:g} "
                    f"behind {self.names[place - 1]} to {self.high[place - 1]:g}"
                )

    def _check_words(self) -> None:
        """Raise InputError unless all that is printed is a line, and names are told from numbers."""
        if not isinstance(self.quantity, str) or not isinstance(self.unit, str):
            raise InputError(
                f"quantity and unit of targets must be words, got {self.quantity!r} and {self.unit!r}"
            )
        if not self.quantity.strip():
            raise InputError("targets must name the quantity that they are intervals of, got ''")
        for text in (*self.names, self.quantity, self.unit):
            if not isinstance(text, str) or not text.isprintable() or len(text) > _LONGEST_NAME:
                raise InputError(
                    f"names, quantity and unit of targets must be one line of at most {_LONGEST_NAME} "
                    f"characters, got {str(text)[:_LONGEST_NAME]!r}"
                )
        for name in self.names:
            if not name or name != name.strip() or (name.lstrip("+-").isdigit() and not self._numbered):
                raise InputError(f"a target must have a name that is no number, got {name!r}")
        if len(set(self.names)) < len(self.names):
            raise InputError(f"targets must differ in name, got {', '.join(self.names)}")

    @property
    def _numbered(self) -> bool:
        """Whether the names are the numbers of the classes."""
        return self.names == tuple(str(c) for c in range(1, len(self.names) + 1))

    @classmethod
    def of(
        cls, intervals: Mapping[str, Sequence[float]], *, quantity: str = "energy", unit: str = "eV/atom"
    ) -> Targets:
        """Targets from names and pairs (low, high], in any order.

        Raises:
            InputError: see the class.
        """
        pairs: list[tuple[float, float, str]] = []
        for name, pair in intervals.items():
            try:
                low, high = (float(limit) for limit in pair)
            except (TypeError, ValueError, OverflowError) as error:
                raise InputError(
                    f"target {name} must be a pair of numbers (low, high), got {pair!r}"
                ) from error
            pairs.append((low, high, str(name)))
        pairs.sort()
        return cls(
            tuple(name for *_, name in pairs),
            tuple(low for low, *_ in pairs),
            tuple(high for _, high, _ in pairs),
            quantity,
            unit,
        )

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self.names)

    def classify(self, values: ArrayLike) -> NDArray[np.int8]:
        """(n,) class of (n,) values; 0 where a value is in no interval, or is no number.

        Limits are rounded as the values are, so that a value on a limit is on it in single precision, too.
        """
        array = np.asarray(values)
        if array.dtype.kind != "f":
            array = array.astype(np.float64)
        with np.errstate(over="ignore"):  # what single precision does not reach is no limit
            low, high = (np.array(limits, dtype=array.dtype) for limits in (self.low, self.high))
        place = np.searchsorted(high, array, side="left")
        inside = place < self.n
        place = np.where(inside, place, 0)
        inside &= array > low.take(place)
        return np.where(inside, place + 1, 0).astype(np.int8)

    def one_hot(self, energy_class: ArrayLike) -> NDArray[np.float32]:
        """(n, k) one-hot code of (n,) classes 1..k; class 0, none, is all 0."""
        return self._one_hot.take(np.asarray(energy_class), axis=0)

    @functools.cached_property
    def _one_hot(self) -> NDArray[np.float32]:
        return np.eye(self.n + 1, dtype=np.float32)[:, 1:]

    def neighbours(self, target_class: int) -> list[int]:
        """The classes next to `target_class`, one at either end."""
        target_class = self.check(target_class)
        return [c for c in (target_class - 1, target_class + 1) if 1 <= c <= self.n]

    def check(self, target: object) -> int:
        """The class that a number or a name means.

        Raises:
            InputError: there is no such target.
        """
        if isinstance(target, str) and target in self.names:
            return self.names.index(target) + 1
        number: Any = target
        if isinstance(target, str) and target.isascii() and target.strip().isdigit() and len(target) < 10:
            number = int(target)
        whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
        if not whole or not 1 <= number <= self.n:
            names = "" if self._numbered else f" or one of {', '.join(self.names)}"
            raise InputError(f"target_class must be 1..{self.n}{names}, got {_short(number)}")
        return int(number)

    def title(self, target_class: int) -> str:
        """What texts call a class: ``class 1`` by its number, else its name."""
        return f"class {target_class}" if self._numbered else self.names[target_class - 1]

    def interval(self, target_class: int) -> str:
        """The interval in words: ``at most 0.025 eV/atom``."""
        low, high = self.low[target_class - 1], self.high[target_class - 1]
        unit = f" {self.unit}" if self.unit else ""
        if math.isinf(low) and math.isinf(high):
            return "any"
        if math.isinf(low):
            return f"at most {high:.4g}{unit}"
        return f"above {low:.4g}{unit}" if math.isinf(high) else f"{low:.4g} to {high:.4g}{unit}"

    def to_dict(self) -> dict[str, Any]:
        """In types that JSON and TOML know; an open end of a pair is ``"-inf"`` or ``"inf"``."""

        def plain(limit: float) -> float | str:
            return limit if math.isfinite(limit) else str(limit)

        pairs = zip(self.names, self.low, self.high, strict=True)
        return {
            "quantity": self.quantity,
            "unit": self.unit,
            "classes": {name: [plain(low), plain(high)] for name, low, high in pairs},
        }

    @classmethod
    def from_dict(cls, content: object) -> Targets:
        """The targets that `to_dict` describes.

        Raises:
            InputError: it describes none.
        """
        if not isinstance(content, Mapping) or not isinstance(content.get("classes"), Mapping):
            raise InputError("targets must be a table with classes, each a pair [low, high]")
        unknown = sorted(set(map(str, content)) - {"quantity", "unit", "classes"})
        if unknown:
            raise InputError(
                f"targets hold the unknown key {unknown[0]}: they take quantity, unit and classes"
            )
        quantity, unit = content.get("quantity", "energy"), content.get("unit", "eV/atom")
        whole = {"quantity": quantity, "unit": unit, "classes": content["classes"]}
        if whole == ENERGY_CLASSES.to_dict():
            return ENERGY_CLASSES
        return cls.of(content["classes"], quantity=quantity, unit=unit)


class EnergyClasses(Targets):
    """The ten energy classes of elpasolite: low <= energy < high in equal steps, open at both ends."""

    def classify(self, values: ArrayLike) -> NDArray[np.int8]:
        """(n,) class 1..10 of (n,) eV/atom; 0 where an energy is no number."""
        array = np.asarray(values, dtype=np.float64)
        missing = np.isnan(array)
        bins = np.floor((np.where(missing, 0, array) - ENERGY_MIN) / CLASS_WIDTH)
        return np.where(missing, 0, np.clip(bins, 0, N_CLASSES - 1) + 1).astype(np.int8)


_EDGES: Final = tuple(ENERGY_MIN + c * CLASS_WIDTH for c in range(1, N_CLASSES))
ENERGY_CLASSES: Final = EnergyClasses(
    tuple(str(c) for c in range(1, N_CLASSES + 1)), (-math.inf, *_EDGES), (*_EDGES, math.inf)
)
"""Of elpasolite (Türk et al. 2022, section 2.1)."""


def energy_to_class(energy: ArrayLike) -> NDArray[np.int8]:
    """Energy class 1..10 of elpasolite formation energies in eV/atom.

    Class 1 also takes everything below `ENERGY_MIN`, class 10 everything above `ENERGY_MAX`.

    Raises:
        InputError: an energy that is not a number.
    """
    if np.isnan(np.asarray(energy, dtype=np.float64)).any():
        raise InputError("energy must be a number in eV/atom, got NaN")
    return ENERGY_CLASSES.classify(energy)
