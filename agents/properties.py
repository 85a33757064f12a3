"""What networks are told of an element: the numbers that chemists know it by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch as th
from torch import Tensor

from elpa_env import periodic
from elpa_env.space import Space


@dataclass(frozen=True)
class SiteCodes:
    """States of a site: row and column, each of which may be unset.

    Attributes:
        n: how many; the code of a state is ``(n_columns + 1) * row + column``.
        of_element: (n_elements,) code of a site that holds an element.
        tables: embeddings that the sites use: those of equivalent sites are the same.
        n_tables: different ones.
    """

    n: int
    of_element: Tensor
    tables: tuple[int, ...]
    n_tables: int


def site_codes(space: Space) -> SiteCodes:
    """How networks number what a site of a space holds."""
    width = space.n_columns + 1
    first = {label: group[0] for group in space.prototype.equivalent for label in group}
    shared = [first.get(label, label) for label in space.sites]
    numbered = {label: number for number, label in enumerate(dict.fromkeys(shared))}
    return SiteCodes(
        n=(space.n_rows + 1) * width,
        of_element=th.as_tensor(space.rows.astype(np.int64) * width + space.columns),
        tables=tuple(numbered[label] for label in shared),
        n_tables=len(numbered),
    )


def site_properties(space: Space) -> Tensor:
    """(n_codes, 4 + n_rows + n_columns) properties of a site by its code, 0 for a digit that is unset.

    Of a finished element first its row, column, electronegativity and covalent radius, each with mean 0 and
    standard deviation 1 over the elements of the space; then, as far as they are set, row and column one-hot.
    """
    codes = site_codes(space)
    row, column = np.divmod(np.arange(codes.n), space.n_columns + 1)
    electronegativities = periodic.ELECTRONEGATIVITIES[space.atomic_numbers]
    radii = periodic.COVALENT_RADII[space.atomic_numbers]
    known = np.stack([space.rows, space.columns, electronegativities, radii], axis=1)
    spread = known.std(axis=0)
    numbers = np.zeros((codes.n, known.shape[1]))
    numbers[codes.of_element] = (known - known.mean(axis=0)) / np.where(spread > 0, spread, 1)
    one_hot = (
        row[:, None] == np.arange(1, space.n_rows + 1),
        column[:, None] == np.arange(1, space.n_columns + 1),
    )
    return th.as_tensor(np.concatenate([numbers, *one_hot], axis=1), dtype=th.float32)
