"""The 39 main-group elements H-Ba, Tl, Pb and Bi, with their row and main group.

Elements are numbered 0..38 in the order of their atomic numbers; that number is called `element`
throughout the package. Helium counts as main group 8 (Türk et al. 2022, section 2.1).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

N_ROWS: Final = 6
"""Rows of the periodic table in use, 1..6."""
N_GROUPS: Final = 8
"""Main groups, 1..8."""

SYMBOLS: Final[tuple[str, ...]] = tuple(
    (
        "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Ga Ge As Se Br Kr "
        "Rb Sr In Sn Sb Te I Xe Cs Ba Tl Pb Bi"
    ).split()
)
N_ELEMENTS: Final = len(SYMBOLS)

ATOMIC_NUMBERS: Final[NDArray[np.int16]] = np.array(
    [*range(1, 21), *range(31, 39), *range(49, 57), 81, 82, 83], dtype=np.int16
)
ROWS: Final[NDArray[np.int8]] = np.repeat(np.arange(1, N_ROWS + 1, dtype=np.int8), [2, 8, 8, 8, 8, 5])
GROUPS: Final[NDArray[np.int8]] = np.array([1, 8, *[*range(1, 9)] * 4, 1, 2, 3, 4, 5], dtype=np.int8)


def _lookup(size: tuple[int, ...], *keys: NDArray[np.integer]) -> NDArray[np.int8]:
    table = np.full(size, -1, dtype=np.int8)
    table[keys] = np.arange(N_ELEMENTS, dtype=np.int8)
    return table


ELEMENT_OF_NUMBER: Final = _lookup((int(ATOMIC_NUMBERS[-1]) + 1,), ATOMIC_NUMBERS)
"""(84,) element 0..38 of an atomic number, -1 where it is not one of the 39."""
ELEMENT_OF_ROW_GROUP: Final = _lookup((N_ROWS + 1, N_GROUPS + 1), ROWS, GROUPS)
"""(7, 9) element 0..38 at [row, group], both 1-based; -1 where no element stands."""

for _table in (ATOMIC_NUMBERS, ROWS, GROUPS, ELEMENT_OF_NUMBER, ELEMENT_OF_ROW_GROUP):
    _table.setflags(write=False)
