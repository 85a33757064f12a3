"""The 39 main-group elements H-Ba, Tl, Pb and Bi: row, main group, electronegativity and radius.

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

ELECTRONEGATIVITIES: Final[NDArray[np.float32]] = np.array(
    [
        *(2.20, 4.16),
        *(0.98, 1.57, 2.04, 2.55, 3.04, 3.44, 3.98, 4.787),
        *(0.93, 1.31, 1.61, 1.90, 2.19, 2.58, 3.16, 3.242),
        *(0.82, 1.00, 1.81, 2.01, 2.18, 2.55, 2.96, 2.966),
        *(0.82, 0.95, 1.78, 1.96, 2.05, 2.10, 2.66, 2.60),
        *(0.79, 0.89, 1.80, 1.80, 1.90),
    ],
    dtype=np.float32,
)
"""(39,) on Pauling's scale, as the CRC Handbook of Chemistry and Physics (95th ed., 2014) lists them.

It has none for He, Ne, Ar and Kr. Theirs are the configuration energies of Allen (J. Am. Chem. Soc. 1989,
111, 9003), which he brings to the same scale.
"""
COVALENT_RADII: Final[NDArray[np.float32]] = np.array(
    [
        *(0.31, 0.28),
        *(1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58),
        *(1.66, 1.41, 1.21, 1.11, 1.07, 1.05, 1.02, 1.06),
        *(2.03, 1.76, 1.22, 1.20, 1.19, 1.20, 1.20, 1.16),
        *(2.20, 1.95, 1.42, 1.39, 1.39, 1.38, 1.39, 1.40),
        *(2.44, 2.15, 1.45, 1.46, 1.48),
    ],
    dtype=np.float32,
)
"""(39,) angstrom; Cordero et al. (Dalton Trans. 2008, 2832), carbon's for sp3."""


def _lookup(size: tuple[int, ...], *keys: NDArray[np.integer]) -> NDArray[np.int8]:
    table = np.full(size, -1, dtype=np.int8)
    table[keys] = np.arange(N_ELEMENTS, dtype=np.int8)
    return table


ELEMENT_OF_NUMBER: Final = _lookup((int(ATOMIC_NUMBERS[-1]) + 1,), ATOMIC_NUMBERS)
"""(84,) element 0..38 of an atomic number, -1 where it is not one of the 39."""
ELEMENT_OF_ROW_GROUP: Final = _lookup((N_ROWS + 1, N_GROUPS + 1), ROWS, GROUPS)
"""(7, 9) element 0..38 at [row, group], both 1-based; -1 where no element stands."""

for _table in (
    ATOMIC_NUMBERS,
    ROWS,
    GROUPS,
    ELECTRONEGATIVITIES,
    COVALENT_RADII,
    ELEMENT_OF_NUMBER,
    ELEMENT_OF_ROW_GROUP,
):
    _table.setflags(write=False)
