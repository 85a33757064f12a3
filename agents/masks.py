"""Which actions are open, read off observations on the device that they lie on."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch as th
from torch import Tensor

from agents.policies import read_digits
from elpa_env.rules import Masking, action_masks
from elpa_env.space import Space

_MOST_BITS: Final = 62


class ActionMasks:
    """`elpa_env.rules.action_masks` of observations, without a way through the CPU where that can be.

    A set of elements is one number, an element one of its bits. Each action stands for a set: a row for
    its elements, a column for the element of that column in the row just chosen. An action is open if its set
    has an element that is not used yet. Where there are more elements than bits, or sites that take few of
    them, so that more than repeats are to be avoided, the masks come from `elpa_env.states`.

    Args:
        space: of the compositions.
        masking: what is open.
        device: a torch device.
    """

    def __init__(self, space: Space, masking: Masking, device: th.device | str = "cpu") -> None:
        self.space = space
        self.masking = masking
        uniform = bool((space.allowed == space.allowed[0]).all())
        self._by_sets = masking == "digits" or (
            uniform and (space.prototype.repeats or space.n_sites <= space.n_elements < _MOST_BITS)
        )
        self._half_limits = th.as_tensor(space.half_limits, device=device)
        self._ones = th.ones(space.n_sites, device=device)
        bits = th.zeros(space.n_rows + 1, space.n_columns + 1, dtype=th.int64)
        if self._by_sets and masking == "composition":
            for element, (row, column) in enumerate(zip(space.rows, space.columns, strict=True)):
                bits[int(row), int(column)] = 1 if space.prototype.repeats else 1 << element
        self._bit = bits.ravel().to(device)
        anything = 1 << _MOST_BITS  # no element, never used
        sets = th.zeros(space.n_rows + 2, space.n_actions, dtype=th.int64)
        composition = masking == "composition"
        sets[0, : space.n_rows] = bits.sum(dim=1)[1:] if composition else anything
        sets[1:-1, : space.n_columns] = bits[1:, 1:] if composition else anything
        sets[-1] = anything
        self._sets = sets.to(device)

    def __call__(self, observations: Tensor) -> Tensor:
        """(n, n_actions) True where an action of (n, 2 S or more) observations is open."""
        digits = read_digits(observations, self._half_limits)
        if not self._by_sets:
            known = digits.cpu().numpy().astype(np.int8)
            return th.as_tensor(action_masks(self.space, known, self.masking), device=observations.device)
        rows, columns = digits[:, ::2], digits[:, 1::2]
        choice = (rows * (columns == 0)) @ self._ones  # the row whose column is next, 0 where a row is next
        choice = th.where(columns[:, -1] > 0, self.space.n_rows + 1, choice)
        sets = self._sets.index_select(0, choice.long())
        if self.masking == "digits" or self.space.prototype.repeats:
            return sets != 0
        used = self._bit.take((rows * (self.space.n_columns + 1) + columns).long())
        taken = used[:, 0]
        for site in range(1, self.space.n_sites):
            taken = taken | used[:, site]
        return (sets & ~taken[:, None]) != 0
