"""What the surrogates of campaigns are told of an element, who have too few labels to find it out.

Beside `agents.properties` these are the numbers of `data/elements.csv`, as pymatgen 2026.10 lists them (Ong
et al., Comput. Mater. Sci. 2013, 68, 314): Mendeleev number (Villars), first ionization energy and electron
affinity in eV, highest and lowest common oxidation state, mean ionic radius (Shannon) and atomic radius
(Slater) in angstrom.
"""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import Final

import numpy as np
import torch as th
from numpy.typing import NDArray
from torch import Tensor

from agents.properties import site_codes, site_properties
from elpa_env.periodic import N_ELEMENTS, NUMBER_OF_SYMBOL
from elpa_env.space import Space

_TABLE: Final = Path(__file__).parent / "data" / "elements.csv"
N_NUMBERS: Final = 11
"""Descriptors that are numbers of a finished element; the others are digits, one-hot."""


def site_descriptors(space: Space) -> Tensor:
    """(n_codes, 11 + n_rows + n_columns) descriptors of a site by its code, 0 for a digit that is unset.

    The first four and the last are those of `site_properties`; between them stand those of the table, each
    with mean 0 and standard deviation 1 over the elements of the space, and 0 where it is not known.
    """
    base, codes = site_properties(space), site_codes(space)
    known = _numbers()[space.atomic_numbers]
    with np.errstate(invalid="ignore"):
        centred = known - _mean(known)
        spread = np.sqrt(_mean(centred**2))
        scaled = np.nan_to_num(centred / np.where(spread > 0, spread, 1))
    more = th.zeros(len(base), known.shape[1])
    more[codes.of_element] = th.as_tensor(scaled, dtype=th.float32)
    return th.cat([base[:, :4], more, base[:, 4:]], dim=1)


def _mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k,) means of (n, k) over what is known; 0 where nothing is."""
    n = np.isfinite(x).sum(axis=0)
    return np.asarray(np.nansum(x, axis=0) / np.maximum(n, 1))


@functools.cache
def _numbers() -> NDArray[np.float64]:
    """(97, 7) the table by atomic number; NaN where a number is not known."""
    numbers = np.full((N_ELEMENTS + 1, N_NUMBERS - 4), np.nan)
    with _TABLE.open(encoding="utf-8", newline="") as lines:
        for symbol, *cells in list(csv.reader(lines))[1:]:
            numbers[NUMBER_OF_SYMBOL[symbol]] = [float(cell) if cell else np.nan for cell in cells]
    return numbers
