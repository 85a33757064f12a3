"""The one exception for input that a user can mend."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Input that cannot be used; the message is one line that names the value and the way out.

    The command line prints the message alone and exits with status 2.
    """


def at_least(config: object, least: int, *names: str) -> None:
    """Check whole numbers among the attributes of `config`.

    Raises:
        InputError: one that is no whole number or below `least`.
    """
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")


def in_range(config: object, low: float, high: float, *names: str) -> None:
    """Check numbers among the attributes of `config`.

    Raises:
        InputError: one outside low..high, or not finite.
    """
    for name in names:
        value = getattr(config, name)
        if not (low <= value <= high and abs(value) < float("inf")):
            limits = f"at least {low:g} and finite" if high == float("inf") else f"{low:g}..{high:g}"
            raise InputError(f"{name} must be {limits}, got {value!r}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise InputError unless `value` is one of `choices`; `name` is what it is called."""
    choices = tuple(choices)
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
