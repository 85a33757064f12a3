"""What networks are told of an element: the numbers that chemists know it by."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch as th
from torch import Tensor

from elpa_env.elements import COVALENT_RADII, ELECTRONEGATIVITIES, GROUPS, N_GROUPS, N_ROWS, ROWS

N_SITE_CODES: Final = (N_ROWS + 1) * (N_GROUPS + 1)
"""States of a site: row and group, each of which may be unset."""
CODE_OF_ELEMENT: Final = th.as_tensor(ROWS.astype(np.int64) * (N_GROUPS + 1) + GROUPS)
"""(39,) state of a site that holds an element."""
TABLE_OF_SITE: Final = (0, 0, 1, 2)
"""Embeddings that A, B, C and D use: those of the equivalent sites A and B are the same."""
N_TABLES: Final = 3


def site_properties() -> Tensor:
    """(63, 18) properties of a site by ``9 * row + group``, 0 for a digit that is unset.

    Of a finished element first its row, group, electronegativity and covalent radius, each with mean 0 and
    standard deviation 1 over the 39 elements; then, as far as they are set, row and group one-hot.
    """
    row, group = np.divmod(np.arange(N_SITE_CODES), N_GROUPS + 1)
    known = np.stack([ROWS, GROUPS, ELECTRONEGATIVITIES, COVALENT_RADII], axis=1)
    numbers = np.zeros((N_SITE_CODES, known.shape[1]))
    numbers[CODE_OF_ELEMENT] = (known - known.mean(axis=0)) / known.std(axis=0)
    one_hot = row[:, None] == np.arange(1, N_ROWS + 1), group[:, None] == np.arange(1, N_GROUPS + 1)
    return th.as_tensor(np.concatenate([numbers, *one_hot], axis=1), dtype=th.float32)
