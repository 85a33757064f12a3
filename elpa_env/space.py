"""The composition space ABC2D6 and its conversions, all batched.

Five forms of the same thing, always under these names:

========== ==================== ==========================================================
`digits`   (n, 8) int8          row, group of sites A, B, C, D; 1-based; 0 = still open
`scaled`   (n, 8) float32       eq. 1 of `digits`; 0.0 where open
`index`    (n,) int64           position in the 39^4 table, site A slowest; -1 = no such
                                composition (an element that does not exist or stands twice)
`numbers`  (n, 4) int16         atomic numbers of A, B, C, D
`formula`  (n,) str             for example ``AlNaK2F6``
========== ==================== ==========================================================

Equation numbers are those of Türk et al., Chem. Mater. 2022, 34, 9455.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from elpa_env.elements import (
    ATOMIC_NUMBERS,
    ELEMENT_OF_NUMBER,
    GROUPS,
    N_ELEMENTS,
    N_GROUPS,
    N_ROWS,
    ROWS,
    SYMBOLS,
)
from elpa_env.errors import InputError

SITES: Final = ("A", "B", "C", "D")
N_SITES: Final = 4
N_STEPS: Final = 2 * N_SITES
TABLE_SHAPE: Final = (N_ELEMENTS,) * N_SITES
N_TABLE: Final = N_ELEMENTS**N_SITES
"""Entries of the composition table, 39^4 = 2,313,441, compositions that repeat an element included."""
N_COMPOSITIONS: Final = 39 * 38 * 37 * 36
"""Compositions with four different elements: 1,974,024."""

DIGIT_LIMITS: Final[NDArray[np.int8]] = np.array([N_ROWS, N_GROUPS] * N_SITES, dtype=np.int8)
"""(8,) largest digit at each step."""

_STRIDES: Final = np.array([N_ELEMENTS**3, N_ELEMENTS**2, N_ELEMENTS, 1], dtype=np.int64)
_FORMULA: Final = r"([A-Z][a-z]?)([A-Z][a-z]?)([A-Z][a-z]?)2([A-Z][a-z]?)6"
_ELEMENT_OF_SYMBOL: Final = {symbol: element for element, symbol in enumerate(SYMBOLS)}


def _element_of_pair() -> NDArray[np.int8]:
    """Element of a (row, group) pair of int8 read as one 16-bit number; -1 for anything else."""
    pairs = np.ascontiguousarray(np.stack([ROWS, GROUPS], axis=-1)).view(np.uint16).ravel()
    table = np.full(1 << 16, -1, dtype=np.int8)
    table[pairs] = np.arange(N_ELEMENTS, dtype=np.int8)
    return table


_ELEMENT_OF_PAIR: Final = _element_of_pair()


def as_digits(digits: ArrayLike) -> NDArray[np.int8]:
    """Check and convert to (n, 8) int8.

    Raises:
        InputError: wrong shape, non-integers, a row outside 0..6 or a group outside 0..8.
    """
    array = np.asarray(digits)
    if array.ndim != 2 or array.shape[1] != N_STEPS:
        raise InputError(f"digits must have shape (n, {N_STEPS}), got {array.shape}")
    if array.dtype.kind not in "iu":
        raise InputError(f"digits must be integers, got {array.dtype}")
    bad = (array < 0) | (array > DIGIT_LIMITS)
    if bad.any():
        where = np.argwhere(bad)[0]
        kind, limit = ("group", N_GROUPS) if where[1] % 2 else ("row", N_ROWS)
        raise InputError(
            f"digits[{where[0]}, {where[1]}] must be a {kind} 0..{limit}, got {array[tuple(where)]}"
        )
    return array.astype(np.int8, copy=False)


def scale(digits: ArrayLike) -> NDArray[np.float32]:
    """Map row and group numbers to (-1, 1), eq. 1.

    Args:
        digits: (n, 8) row, group of sites A, B, C, D; 0 = still open.

    Returns:
        (n, 8); 0.0 where open. No closed digit maps to 0.0.

    Raises:
        InputError: a row outside 0..6 or a group outside 0..8.
    """
    array = as_digits(digits)
    scaled = (2 * array.astype(np.float32) - 1) / DIGIT_LIMITS.astype(np.float32) - 1
    return np.where(array == 0, np.float32(0), scaled)


def prefixes(digits: NDArray[np.int8]) -> NDArray[np.int8]:
    """(n, 9, 8) the states that lead to finished compositions (n, 8), from all open to complete."""
    open_ = np.arange(N_STEPS) >= np.arange(N_STEPS + 1)[:, None]
    return np.where(open_, np.int8(0), digits[:, None, :])


def decode(vectors: ArrayLike) -> NDArray[np.int8]:
    """Round generated vectors to the nearest digits, the inverse of eq. 1.

    Args:
        vectors: (n, 8) real numbers, as a decoder or generator emits them.

    Returns:
        (n, 8) digits, clipped to 1..6 (rows) and 1..8 (groups); never 0.

    Raises:
        InputError: wrong shape, or a value that is not a number.
    """
    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != N_STEPS:
        raise InputError(f"vectors must have shape (n, {N_STEPS}), got {array.shape}")
    if np.isnan(array).any():
        raise InputError("vectors must be numbers, got NaN: the model that made them has diverged")
    limits = DIGIT_LIMITS.astype(np.float32)
    return np.clip(np.rint((array + 1) * (limits / 2) + 0.5), 1, limits).astype(np.int8)


def unscale(scaled: ArrayLike) -> NDArray[np.int8]:
    """Exact inverse of `scale`: (n, 8) digits, 0 where `scaled` is 0.0."""
    return np.where(np.asarray(scaled) == 0, np.int8(0), decode(scaled))


def elements_to_index(elements: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Position in the 39^4 table.

    Args:
        elements: (n, 4) element 0..38 on each site, negative = does not exist.

    Returns:
        (n,) index; -1 where an element does not exist or stands twice.
    """
    a, b, c, d = np.moveaxis(elements, -1, 0)
    wrong = (a < 0) | (b < 0) | (c < 0) | (d < 0)
    wrong |= (a == b) | (a == c) | (a == d) | (b == c) | (b == d) | (c == d)
    index = elements @ _STRIDES if len(elements) < 64 else _horner(a, b, c, d)
    index[wrong] = -1
    return index


def _horner(*elements: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    index = elements[0].astype(np.int64)
    for site in elements[1:]:
        index *= N_ELEMENTS
        index += site
    return index


def index_to_elements(index: ArrayLike) -> NDArray[np.int8]:
    """(n, 4) element 0..38 on each site.

    Raises:
        InputError: an index outside 0..39^4 - 1; -1 (no such composition) has no elements.
    """
    array = np.asarray(index)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(f"index must be (n,) integers, got {array.dtype} of shape {array.shape}")
    bad = (array < 0) | (array >= N_TABLE)
    if bad.any():
        raise InputError(f"index must be 0..{N_TABLE - 1}, got {array[bad][0]}")
    return np.stack(np.unravel_index(array, TABLE_SHAPE), axis=-1).astype(np.int8)


@functools.cache
def composition_mask() -> NDArray[np.bool_]:
    """(39^4,) True where the four elements of the table entry differ; 1,974,024 entries do."""
    a, b, c, d = np.ogrid[tuple(slice(n) for n in TABLE_SHAPE)]
    mask = (a != b) & (a != c) & (a != d) & (b != c) & (b != d) & (c != d)
    flat: NDArray[np.bool_] = mask.ravel()
    flat.setflags(write=False)
    return flat


def digits_to_elements(digits: ArrayLike) -> NDArray[np.int8]:
    """(n, 4) element 0..38 on each site; -1 where a site is open or no such element exists."""
    array = np.ascontiguousarray(digits, dtype=np.int8)
    if array.ndim != 2 or array.shape[1] != N_STEPS:
        raise InputError(f"digits must have shape (n, {N_STEPS}), got {array.shape}")
    return _ELEMENT_OF_PAIR[array.view(np.uint16)]


def digits_to_index(digits: ArrayLike) -> NDArray[np.int64]:
    """(n,) index of (n, 8) digits; -1 = open, not existing, or an element twice."""
    return elements_to_index(digits_to_elements(digits))


def index_to_digits(index: ArrayLike) -> NDArray[np.int8]:
    """(n, 8) digits of (n,) index."""
    elements = index_to_elements(index)
    return np.stack([ROWS[elements], GROUPS[elements]], axis=-1).reshape(-1, N_STEPS)


def index_to_numbers(index: ArrayLike) -> NDArray[np.int16]:
    """(n, 4) atomic numbers of (n,) index."""
    return ATOMIC_NUMBERS[index_to_elements(index)]


def numbers_to_index(numbers: ArrayLike) -> NDArray[np.int64]:
    """(n,) index of (n, 4) atomic numbers; -1 = not one of the 39 elements, or an element twice."""
    array = np.asarray(numbers)
    if array.ndim != 2 or array.shape[1] != N_SITES or array.dtype.kind not in "iu":
        raise InputError(f"numbers must be (n, {N_SITES}) integers, got {array.dtype} of shape {array.shape}")
    known = (array >= 0) & (array < len(ELEMENT_OF_NUMBER))
    elements = np.where(known, ELEMENT_OF_NUMBER[np.where(known, array, 0)], np.int8(-1))
    return elements_to_index(elements)


def swap_ab(index: ArrayLike) -> NDArray[np.int64]:
    """(n,) index with the equivalent sites A and B exchanged."""
    return elements_to_index(index_to_elements(index)[:, [1, 0, 2, 3]])


def index_to_formula(index: ArrayLike) -> NDArray[np.object_]:
    """(n,) formulas such as ``AlNaK2F6``, sites in the order A, B, C, D."""
    a, b, c, d = np.array(SYMBOLS, dtype=object)[index_to_elements(index).T]
    return np.asarray(a + b + c + "2" + d + "6", dtype=object)


def formula_to_index(formulas: Sequence[str] | NDArray[Any] | pd.Series) -> NDArray[np.int64]:
    """(n,) index of formulas such as ``AlNaK2F6``; -1 where a formula is not a composition.

    A formula that cannot be read, an element that is not one of the 39, and an element that stands
    twice all give -1; `explain_formula` tells which.
    """
    codes, unique = pd.factorize(np.asarray(formulas, dtype=object), use_na_sentinel=True)
    if len(unique) == 0:
        return np.full(len(codes), -1, dtype=np.int64)
    parts = pd.Series(unique, dtype=object).astype(str).str.extract(f"^{_FORMULA}$", expand=True)
    elements = np.stack(
        [parts[site].map(_ELEMENT_OF_SYMBOL).fillna(-1).to_numpy(np.int8) for site in range(N_SITES)],
        axis=-1,
    )
    return np.append(elements_to_index(elements), np.int64(-1))[codes]


def explain_formula(formula: str) -> str:
    """Say in a few words why a formula is not a composition; empty if it is one."""
    match = pd.Series([str(formula)]).str.extract(f"^{_FORMULA}$").iloc[0]
    if match.isna().any():
        return "not of the form ABC2D6"
    symbols = list(match)
    unknown = [s for s in symbols if s not in _ELEMENT_OF_SYMBOL]
    if unknown:
        return f"unknown element {unknown[0]}: the 39 are {', '.join(SYMBOLS)}"
    repeated = [s for s in symbols if symbols.count(s) > 1]
    return f"element {repeated[0]} stands twice" if repeated else ""
