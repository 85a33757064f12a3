"""The elements H to Cm: period, column, electronegativity and radius.

Arrays are indexed by atomic number; entry 0 belongs to no element. Columns are those of the long form of
the periodic table, 32 wide, in which every element has a place of its own: the s block is 1 and 2, the f
block 3 to 16 (La and Ac to Yb and No), the d block 17 to 26 (Sc, Y and Lu to Zn, Cd and Hg), the p block
27 to 32. Helium stands above neon.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
from numpy.typing import NDArray

N_ELEMENTS: Final = 96
"""The largest atomic number: Cm."""
N_ROWS: Final = 7
"""Periods, 1..7."""
N_COLUMNS: Final = 32
"""Columns, 1..32."""

SYMBOLS: Final[tuple[str, ...]] = (
    "",
    *(
        "H He "
        "Li Be B C N O F Ne "
        "Na Mg Al Si P S Cl Ar "
        "K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
        "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe "
        "Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn "
        "Fr Ra Ac Th Pa U Np Pu Am Cm"
    ).split(),
)
"""(97,) symbols of the elements; the first is empty."""
NUMBER_OF_SYMBOL: Final[dict[str, int]] = {symbol: z for z, symbol in enumerate(SYMBOLS) if z}
"""Atomic number of a symbol."""

_S, _F, _D, _P = [1, 2], [*range(3, 17)], [*range(17, 27)], [*range(27, 33)]
_PERIODS: Final = ([1, 32], _S + _P, _S + _P, _S + _D + _P, _S + _D + _P, _S + _F + _D + _P, _S + _F[:8])

ROWS: Final[NDArray[np.int8]] = np.repeat(
    np.arange(N_ROWS + 1, dtype=np.int8), [1, *(len(period) for period in _PERIODS)]
)
"""(97,) period 1..7; 0 at entry 0."""
COLUMNS: Final[NDArray[np.int8]] = np.array([0, *itertools.chain.from_iterable(_PERIODS)], dtype=np.int8)
"""(97,) column 1..32 of the long form; 0 at entry 0."""

ELECTRONEGATIVITIES: Final[NDArray[np.float32]] = np.array(
    [
        np.nan,
        *(2.20, 4.16),
        *(0.98, 1.57, 2.04, 2.55, 3.04, 3.44, 3.98, 4.787),
        *(0.93, 1.31, 1.61, 1.90, 2.19, 2.58, 3.16, 3.242),
        *(0.82, 1.00),
        *(1.36, 1.54, 1.63, 1.66, 1.55, 1.83, 1.88, 1.91, 1.90, 1.65),
        *(1.81, 2.01, 2.18, 2.55, 2.96, 2.966),
        *(0.82, 0.95),
        *(1.22, 1.33, 1.6, 2.16, 2.10, 2.2, 2.28, 2.20, 1.93, 1.69),
        *(1.78, 1.96, 2.05, 2.10, 2.66, 2.60),
        *(0.79, 0.89),
        *(1.10, 1.12, 1.13, 1.14, 1.155, 1.17, 1.185, 1.20, 1.21, 1.22, 1.23, 1.24, 1.25, 1.125),
        *(1.0, 1.3, 1.5, 1.7, 1.9, 2.2, 2.2, 2.2, 2.4, 1.9),
        *(1.80, 1.80, 1.90, 2.0, 2.2, 2.60),
        *(0.7, 0.9),
        *(1.1, 1.3, 1.5, 1.7, 1.3, 1.3, 1.3, 1.3),
    ],
    dtype=np.float32,
)
"""(97,) on Pauling's scale, as the CRC Handbook of Chemistry and Physics (95th ed., 2014) lists them.

It has none for the following. He, Ne, Ar, Kr: the configuration energies of Allen (J. Am. Chem. Soc. 1989,
111, 9003), which he brings to the same scale. Rn: the same of Mann, Meek and Allen (J. Am. Chem. Soc. 2000,
122, 2780). Am and Cm: what Pauling himself gives for Np to No (The Nature of the Chemical Bond, 3rd ed.,
1960). Pm, Eu, Tb and Yb: the mean of their two neighbours in the period, since Pauling gives all
lanthanides one range, 1.1 to 1.2. NaN at entry 0.
"""
COVALENT_RADII: Final[NDArray[np.float32]] = np.array(
    [
        np.nan,
        *(0.31, 0.28),
        *(1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58),
        *(1.66, 1.41, 1.21, 1.11, 1.07, 1.05, 1.02, 1.06),
        *(2.03, 1.76),
        *(1.70, 1.60, 1.53, 1.39, 1.39, 1.32, 1.26, 1.24, 1.32, 1.22),
        *(1.22, 1.20, 1.19, 1.20, 1.20, 1.16),
        *(2.20, 1.95),
        *(1.90, 1.75, 1.64, 1.54, 1.47, 1.46, 1.42, 1.39, 1.45, 1.44),
        *(1.42, 1.39, 1.39, 1.38, 1.39, 1.40),
        *(2.44, 2.15),
        *(2.07, 2.04, 2.03, 2.01, 1.99, 1.98, 1.98, 1.96, 1.94, 1.92, 1.92, 1.89, 1.90, 1.87),
        *(1.87, 1.75, 1.70, 1.62, 1.51, 1.44, 1.41, 1.36, 1.36, 1.32),
        *(1.45, 1.46, 1.48, 1.40, 1.50, 1.50),
        *(2.60, 2.21),
        *(2.15, 2.06, 2.00, 1.96, 1.90, 1.87, 1.80, 1.69),
    ],
    dtype=np.float32,
)
"""(97,) angstrom; Cordero et al. (Dalton Trans. 2008, 2832).

Carbon's is that of sp3, those of Mn, Fe and Co are those of low spin. NaN at entry 0.
"""

for _table in (ROWS, COLUMNS, ELECTRONEGATIVITIES, COVALENT_RADII):
    _table.setflags(write=False)
