"""The one exception for input that a user can mend."""

from __future__ import annotations

from collections.abc import Iterable


def printable(text: object) -> str:
    r"""`text` on one line that any UTF-8 stream takes.

    Names of files and fields of data may hold line breaks, control characters and bytes that are no
    UTF-8 (lone surrogates in Python); they become escapes such as ``\n`` and ``\udcff``.
    """
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
    return "".join(escaped)


class InputError(ValueError):
    """Input that cannot be used; the message is one line that names the value and the way out.

    The command line prints the message alone and exits with status 2. What a name or a value in it
    holds that cannot be printed is escaped, see `printable`.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(message))


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
