"""The one exception for input that a user can mend."""

from __future__ import annotations


class InputError(ValueError):
    """Input that cannot be used; the message is one line that names the value and the way out.

    The command line prints the message alone and exits with status 2.
    """
