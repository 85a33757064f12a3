"""Which actions are open, read off observations on the device that they lie on."""

from __future__ import annotations

import torch as th
from torch import Tensor

from agents.policies import read_digits
from elpa_env.elements import GROUPS, N_GROUPS, N_ROWS, ROWS
from elpa_env.rules import N_ACTIONS, Masking
from elpa_env.space import DIGIT_LIMITS, N_SITES


class ActionMasks:
    """`elpa_env.rules.action_masks` of observations, without a way through the CPU.

    A set of elements is one number, an element one of its bits. Each action stands for a set: a row for
    its elements, a group for the element of that group in the row just chosen. An action is open if its set
    has an element that is not used yet.

    Args:
        masking: what is open.
        device: a torch device.
    """

    def __init__(self, masking: Masking, device: th.device | str = "cpu") -> None:
        self.masking = masking
        self._half_limits = th.as_tensor(DIGIT_LIMITS, device=device) / 2
        bits = th.zeros(N_ROWS + 1, N_GROUPS + 1, dtype=th.int64)
        for element, (row, group) in enumerate(zip(ROWS, GROUPS, strict=True)):
            bits[row, group] = 1 << element
        self._bit = bits.ravel().to(device)
        anything = 1 << 62  # no element, never used
        sets = th.zeros(N_ROWS + 2, N_ACTIONS, dtype=th.int64)
        sets[0, :N_ROWS] = bits.sum(dim=1)[1:] if masking == "composition" else anything
        sets[1:-1] = bits[1:, 1:] if masking == "composition" else anything
        sets[-1] = anything
        self._sets = sets.to(device)
        self._ones = th.ones(N_SITES, device=device)

    def __call__(self, observations: Tensor) -> Tensor:
        """(n, 8) True where an action of (n, 8 or more) observations is open."""
        digits = read_digits(observations, self._half_limits)
        rows, groups = digits[:, ::2], digits[:, 1::2]
        choice = (rows * (groups == 0)) @ self._ones  # the row whose group is next, 0 where a row is next
        choice = th.where(groups[:, -1] > 0, N_ROWS + 1, choice)
        sets = self._sets.index_select(0, choice.long())
        if self.masking == "digits":
            return sets != 0
        a, b, c, d = self._bit.take((rows * (N_GROUPS + 1) + groups).long()).unbind(dim=1)
        return (sets & ~(a | b | c | d)[:, None]) != 0
