"""What a hyperparameter may be in a search: data that stand beside each model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """One of some values, each as likely.

    Attributes:
        values: numbers, words, or tuples of these.
    """

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


@dataclass(frozen=True)
class Between:
    """A number between two others.

    Attributes:
        low: the least.
        high: the greatest.
        log: whether its logarithm is evenly likely, instead of itself.
        whole: whether it is a whole number.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" + (", logarithmic" if self.log else "")


Range = Choice | Between
SearchSpace = Mapping[str, Range]
"""Ranges by the names of a configuration's fields; ``reward_model.hidden`` is a field of a field."""
