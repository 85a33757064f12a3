"""The composition space ABC2D6 and its conversions, all batched.

Six forms of the same thing, always under these names:

========== ==================== ==========================================================
`digits`   (n, 8) int8          row, group of sites A, B, C, D; 1-based; 0 = unset
`scaled`   (n, 8) float32       eq. 1 of `digits`; 0.0 where unset
`index`    (n,) int64           position in the 39^4 table, site A slowest; -1 = no such
                                composition (an element that does not exist or stands twice)
`numbers`  (n, 4) int16         atomic numbers of A, B, C, D
`compound` (n,) int64           the same for a composition and its A/B mirror image
`formula`  (n,) str             for example ``AlNaK2F6``
========== ==================== ==========================================================

Equation numbers are those of Türk et al., Chem. Mater. 2022, 34, 9455.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elpa_env.elements import (
    ATOMIC_NUMBERS,
    ELEMENT_OF_NUMBER,
    ELEMENT_OF_ROW_GROUP,
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
_FLOAT_LIMITS: Final = DIGIT_LIMITS.astype(np.float32)

_FORMULA: Final = r"([A-Z][a-z]?)([A-Z][a-z]?)([A-Z][a-z]?)2([A-Z][a-z]?)6"


_PAIR_CODE_OF_ELEMENT: Final = 8 * GROUPS.astype(np.int64) + ROWS


def _places() -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """What an element adds to the index on each site, and what the codes of two sites add together.

    Returns:
        (4, 40) by site and element, the last column for no element; (2, 2^14) by half and codes, 128
        times the second site's plus the first's. What does not exist adds so much below zero that no
        sum reaches zero.
    """
    strides = N_ELEMENTS ** np.arange(N_SITES - 1, -1, -1)
    elements = np.full((N_SITES, N_ELEMENTS + 1), -N_TABLE, dtype=np.int32)
    elements[:, :N_ELEMENTS] = strides[:, None] * np.arange(N_ELEMENTS)
    by_code = np.full((N_SITES, 128), -N_TABLE, dtype=np.int32)
    by_code[:, _PAIR_CODE_OF_ELEMENT] = elements[:, :N_ELEMENTS]
    first, second = by_code[0::2, None, :], by_code[1::2, :, None]
    return elements, (first + second).reshape(2, -1)


def _pair_table(table: NDArray[Any], dtype: type) -> NDArray[Any]:
    """(39^2, ...) what a (39, ...) table says of two sites, packed into one number of `dtype`."""
    first, second = np.divmod(np.arange(N_ELEMENTS**2), N_ELEMENTS)
    both = np.stack([table[first], table[second]], axis=1).reshape(N_ELEMENTS**2, -1)
    return np.ascontiguousarray(both).view(dtype).ravel()


_PLACE_OF_ELEMENT, _PLACE_OF_CODES = _places()
_ELEMENT_PAIRS: Final = _pair_table(np.arange(N_ELEMENTS, dtype=np.int8), np.uint16)
_NUMBER_PAIRS: Final = _pair_table(ATOMIC_NUMBERS, np.uint32)
_DIGIT_PAIRS: Final = _pair_table(np.stack([ROWS, GROUPS], axis=1), np.uint32)
_FORMULA_AB: Final = np.array([a + b for a in SYMBOLS for b in SYMBOLS], dtype=object)
_FORMULA_CD: Final = np.array([f"{c}2{d}6" for c in SYMBOLS for d in SYMBOLS], dtype=object)


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
        digits: (n, 8) row, group of sites A, B, C, D; 0 = unset.

    Returns:
        (n, 8); 0.0 where unset. No digit that is set maps to 0.0.

    Raises:
        InputError: a row outside 0..6 or a group outside 0..8.
    """
    array = as_digits(digits)
    scaled = (2 * array.astype(np.float32) - 1) / DIGIT_LIMITS.astype(np.float32) - 1
    return np.where(array == 0, np.float32(0), scaled)


def prefixes(digits: NDArray[np.int8]) -> NDArray[np.int8]:
    """(n, 9, 8) the states that lead to finished compositions (n, 8), from all digits unset to complete."""
    unset = np.arange(N_STEPS) >= np.arange(N_STEPS + 1)[:, None]
    return np.where(unset, np.int8(0), digits[:, None, :])


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
    places = array + np.float32(1)
    places *= _FLOAT_LIMITS / 2
    places += np.float32(0.5)
    np.minimum(places, _FLOAT_LIMITS, out=places)
    np.maximum(places, np.float32(1), out=places)
    if np.isnan(places.sum()):
        raise InputError("vectors must be numbers, got NaN: the model that made them has diverged")
    np.rint(places, out=places)
    return places.astype(np.int8)


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
    places = (_PLACE_OF_ELEMENT[site].take(elements[:, site], mode="wrap") for site in range(N_SITES))
    return _real_places(sum(places, start=np.zeros(len(elements), dtype=np.int32)))


def _real_places(index: NDArray[np.int32]) -> NDArray[np.int64]:
    """(n,) sums of what the sites add to the index; -1 where that is no composition."""
    # entry 0 of the table repeats an element, as good as one that does not exist
    real = composition_mask().take(np.maximum(index, 0))
    return np.where(real, index, -1).astype(np.int64)


def _checked_index(index: ArrayLike) -> NDArray[np.integer[Any]]:
    array = np.asarray(index)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(f"index must be (n,) integers, got {array.dtype} of shape {array.shape}")
    if array.size and not (0 <= array.min() and array.max() < N_TABLE):
        bad = (array < 0) | (array >= N_TABLE)
        raise InputError(f"index must be 0..{N_TABLE - 1}, got {array[bad][0]}")
    return array


def index_to_elements(index: ArrayLike) -> NDArray[np.int8]:
    """(n, 4) element 0..38 on each site.

    Raises:
        InputError: an index outside 0..39^4 - 1; -1 (no such composition) has no elements.
    """
    return _of_both_halves(_ELEMENT_PAIRS, index, np.int8)


def _of_both_halves(table: NDArray[Any], index: ArrayLike, dtype: type) -> NDArray[Any]:
    """(n, ...) what a packed (39^2,) table says of the elements on A, B and on C, D."""
    front, back = np.divmod(_checked_index(index), N_ELEMENTS**2)
    both = np.empty((len(front), 2), dtype=table.dtype)
    both[:, 0], both[:, 1] = table.take(front), table.take(back)
    return both.view(dtype)


@functools.cache
def composition_mask() -> NDArray[np.bool_]:
    """(39^4,) True where the four elements of the table entry differ; 1,974,024 entries do."""
    a, b, c, d = np.ogrid[tuple(slice(n) for n in TABLE_SHAPE)]
    mask = (a != b) & (a != c) & (a != d) & (b != c) & (b != d) & (c != d)
    flat: NDArray[np.bool_] = mask.ravel()
    flat.setflags(write=False)
    return flat


def digits_to_index(digits: ArrayLike) -> NDArray[np.int64]:
    """(n,) index of (n, 8) digits; -1 = unset, not existing, or an element twice.

    Raises:
        InputError: a row outside 0..6 or a group outside 0..8.
    """
    pairs = np.ascontiguousarray(as_digits(digits)).view(np.uint16)  # row + 256 * group
    pairs = (pairs >> np.uint16(5)) | (pairs & np.uint16(7))  # row + 8 * group
    codes = pairs.view(np.uint32)  # first site + 65536 * second
    codes = (codes >> np.uint32(9)) | (codes & np.uint32(127))  # first site + 128 * second
    return _real_places(_PLACE_OF_CODES[0].take(codes[:, 0]) + _PLACE_OF_CODES[1].take(codes[:, 1]))


def digits_to_elements(digits: ArrayLike) -> NDArray[np.int8]:
    """(n, 4) element 0..38 on each site; -1 where a site is unset or no such element exists."""
    array = as_digits(digits)
    return ELEMENT_OF_ROW_GROUP[array[:, 0::2], array[:, 1::2]]


def index_to_digits(index: ArrayLike) -> NDArray[np.int8]:
    """(n, 8) digits of (n,) index."""
    return _of_both_halves(_DIGIT_PAIRS, index, np.int8)


def index_to_numbers(index: ArrayLike) -> NDArray[np.int16]:
    """(n, 4) atomic numbers of (n,) index."""
    return _of_both_halves(_NUMBER_PAIRS, index, np.int16)


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


def mirrored(table: NDArray[Any]) -> NDArray[Any]:
    """(39^4,) values of every table entry's A/B mirror image."""
    return table.reshape(TABLE_SHAPE).swapaxes(0, 1).ravel()


@functools.cache
def compound_mask() -> NDArray[np.bool_]:
    """(39^4,) True at one composition of every compound, that of the smaller index; 987,012 are."""
    a, b = np.ogrid[:N_ELEMENTS, :N_ELEMENTS]
    mask: NDArray[np.bool_] = (a < b).repeat(N_ELEMENTS**2) & composition_mask()
    mask.setflags(write=False)
    return mask


def index_to_compound(index: ArrayLike) -> NDArray[np.int64]:
    """(n,) compound of (n,) index: the same number for a composition and its A/B mirror image.

    Sites A and B are equivalent in the structure, so that both are one compound and cost one calculation.
    The number is the smaller of the two index.
    """
    array = np.asarray(index, dtype=np.int64)
    return np.minimum(array, swap_ab(array))


def index_to_formula(index: ArrayLike) -> NDArray[np.object_]:
    """(n,) formulas such as ``AlNaK2F6``, sites in the order A, B, C, D."""
    front, back = np.divmod(_checked_index(index), N_ELEMENTS**2)
    return np.asarray(_FORMULA_AB.take(front) + _FORMULA_CD.take(back), dtype=object)


def formula_to_index(formulas: Iterable[str]) -> NDArray[np.int64]:
    """(n,) index of formulas such as ``AlNaK2F6``; -1 where a formula is not a composition.

    A formula that cannot be read, an element that is not one of the 39, and an element that stands
    twice all give -1; `explain_formula` tells which.
    """
    strings = [str(formula) for formula in formulas]
    text = "\n".join(strings)
    if not text.isascii() or text.count("\n") != max(len(strings) - 1, 0):
        strings = [f if f.isascii() and "\n" not in f else "" for f in strings]
        text = "\n".join(strings)
    if not strings:
        return np.zeros(0, dtype=np.int64)
    return _parse_lines(np.frombuffer(f"\n{text}\n\n".encode(), dtype=np.uint8))


def _parse_lines(text: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n,) index of one formula a line; a line break before the first, two behind the last."""
    breaks = np.flatnonzero(text[:-1] == ord("\n"))
    start, end = breaks[:-1] + 1, breaks[1:]
    symbol = _SYMBOL_OF_BYTES[text[:-1], text[1:]]
    width = _SYMBOL_WIDTH[symbol]
    elements = np.empty((len(start), N_SITES), dtype=np.int8)
    place = start
    for site in range(N_SITES):
        elements[:, site] = symbol[place]
        place = np.minimum(place + width[place], end)
        if site == N_SITES - 2:
            elements[text[place] != ord("2"), site] = -1
            place = np.minimum(place + 1, end)
    wrong = (text[place] != ord("6")) | (place + 1 != end)
    elements[wrong, 0] = -1
    return elements_to_index(elements)


def _symbols_of_bytes() -> NDArray[np.int8]:
    """(256, 256) element whose symbol starts with these two bytes, -1 = none."""
    table = np.full((256, 256), -1, dtype=np.int8)
    for element, symbol in sorted(enumerate(SYMBOLS), key=lambda pair: len(pair[1])):
        if len(symbol) == 1:
            table[ord(symbol)] = element
            table[ord(symbol), ord("a") : ord("z") + 1] = -1
        else:
            table[ord(symbol[0]), ord(symbol[1])] = element
    return table


_SYMBOL_OF_BYTES: Final = _symbols_of_bytes()
_SYMBOL_WIDTH: Final = np.array([*map(len, SYMBOLS), 1], dtype=np.int8)


def explain_formula(formula: str) -> str:
    """Say in a few words why a formula is not a composition; empty if it is one."""
    match = re.fullmatch(_FORMULA, str(formula))
    if match is None:
        return "not of the form ABC2D6"
    symbols = list(match.groups())
    unknown = [s for s in symbols if s not in SYMBOLS]
    if unknown:
        return f"unknown element {unknown[0]}: the 39 are {', '.join(SYMBOLS)}"
    repeated = [s for s in symbols if symbols.count(s) > 1]
    return f"element {repeated[0]} stands twice" if repeated else ""
