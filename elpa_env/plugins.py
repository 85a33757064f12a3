"""Code of the user's own, named as ``module:attribute``.

This is the one place where the working folder is looked at for code, and it comes after everything that is
installed, so that a file there never stands in for a library.
"""

from __future__ import annotations

import importlib
import os
import sys

from elpa_env.errors import InputError


def import_attribute(name: str) -> object:
    """What ``module:attribute`` names, from what is installed or from the working folder.

    Raises:
        InputError: it is not of that form, cannot be imported, or has no such attribute.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute or not all(part.isidentifier() for part in module.split(".")):
        raise InputError(f"a module and an attribute of it must be named as module:attribute, got {name!r}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"cannot import {name}: {type(error).__name__}: {reason}") from error
