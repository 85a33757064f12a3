"""An `info` whose larger part is made only when someone looks for it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


class LateInfo(dict[str, Any]):
    """A dict of which some values are made when one of them, or the whole, is first asked for.

    Formulas and arrays for every episode that ends cost more than the step itself, and most callers want
    the masks alone. Whoever asks sees a dict with all its keys; copies and pickles of it are plain dicts.

    Args:
        known: what is there at once.
        make: gives the rest; called once at most. A key that has been set meanwhile is left as it is.
    """

    __slots__ = ("_make",)

    def __init__(self, known: dict[str, Any], make: Callable[[], dict[str, Any]]) -> None:
        super().__init__(known)
        self._make: Callable[[], dict[str, Any]] | None = make

    def __missing__(self, key: str) -> Any:
        if self._make is None:
            raise KeyError(key)
        self._complete()
        return self[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, or `default` where there is none."""
        try:
            return self[key]
        except KeyError:
            return default

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self.items()),)

    def _complete(self) -> None:
        make, self._make = self._make, None
        for key, value in make().items() if make else ():
            super().setdefault(key, value)


def _of_the_whole(name: str) -> Callable[..., Any]:
    """A method of dict that sees all keys."""
    method = getattr(dict, name)

    @functools.wraps(method)
    def call(self: LateInfo, *args: Any, **kwargs: Any) -> Any:
        self._complete()
        return method(self, *args, **kwargs)

    return call


# All that dict can be asked but single values. With an `__iter__` of its own, `dict(info)` and `{**info}`
# go through `keys`, too.
for _name in (
    *("__contains__", "__delitem__", "__eq__", "__ior__", "__iter__", "__len__", "__ne__", "__or__"),
    *("__repr__", "__reversed__", "__ror__"),
    *("clear", "copy", "items", "keys", "pop", "popitem", "setdefault", "update", "values"),
):
    setattr(LateInfo, _name, _of_the_whole(_name))
