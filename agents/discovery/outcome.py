"""What a calculation gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outcome:
    """The result of a calculation.

    Attributes:
        energy: the quantity of the space's targets, of real calculations the formation energy in eV/atom; NaN
            where there is none.
        error: why there is none, in one line.
        seconds: that it took.
        parameters: the free ones of the prototype's structure as relaxed, by name; empty where unknown.
    """

    energy: float
    error: str = ""
    seconds: float = 0.0
    parameters: Mapping[str, float] = field(default_factory=dict)
