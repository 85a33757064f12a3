"""The one exception for input that a user can mend."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Input that cannot be used; the message is one line that names the value and the way out.

    The command line prints the message alone and exits with status 2.
    """


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise InputError unless `value` is one of `choices`; `name` is what it is called."""
    choices = tuple(choices)
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
