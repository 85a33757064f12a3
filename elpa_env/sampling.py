"""Drawing compositions from a policy, every state that samples share evaluated once.

Ten thousand or ten million episodes start in the same state and pass through the same few prefixes,
so a policy is asked only about the different states of each step, for elpasolite at most 663,552 of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.rules import initial_digits
from elpa_env.space import Space

Policy = Callable[[NDArray[np.int8]], NDArray[np.float64]]
"""Action probabilities (m, n_actions) of unfinished states, digits (m, 2 S) all at the same step."""

_STATE_CHUNK: Final = 1 << 15
_SAMPLE_CHUNK: Final = 1 << 19
_COUNTED: Final = 1 << 23
"""Codes that are counted in a table at most."""


def sample_policy(space: Space, policy: Policy, n: int, *, seed: int | None = None) -> NDArray[np.int8]:
    """Draw `n` independent episodes.

    Args:
        space: of the compositions.
        policy: action probabilities of states.
        n: episodes.
        seed: same seed, same episodes.

    Returns:
        (n, 2 S) digits; an episode that ends in an action out of range leaves the rest 0.
    """
    rng = np.random.default_rng(seed)
    digits = initial_digits(space, n)
    code = np.zeros(n, dtype=np.int64)
    alive = np.arange(n)
    n_codes = 1
    for step in range(space.n_steps):
        first, inverse = _unique(code[alive], n_codes)
        cumulative = np.cumsum(_in_chunks(policy, digits[alive[first]], space.n_actions), axis=1)
        action = np.empty(len(alive), dtype=np.int64)
        for start in range(0, len(alive), _SAMPLE_CHUNK):
            part = slice(start, start + _SAMPLE_CHUNK)
            action[part] = draw_categories(cumulative[inverse[part]], rng)
        limit = int(space.digit_limits[step])
        legal = action < limit
        alive, action = alive[legal], action[legal]
        digits[alive, step] = action + 1
        code[alive] = code[alive] * limit + action
        n_codes *= limit
    return digits


def draw_categories(cumulative: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """(n,) one category a row, drawn by (n, k) cumulative weights, which need not end in 1."""
    uniform = rng.random((len(cumulative), 1)) * cumulative[:, -1:]
    return np.asarray((uniform >= cumulative[:, :-1]).sum(axis=1))


def _unique(code: NDArray[np.int64], n_codes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First places and inverse as of `np.unique`, by counting instead of sorting where that is quicker."""
    if n_codes > max(_COUNTED, 8 * len(code)):
        _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
        return first, inverse.reshape(-1)
    first = np.full(n_codes, -1, dtype=np.int64)
    first[code[::-1]] = np.arange(len(code) - 1, -1, -1)
    states = np.flatnonzero(first >= 0)
    rank = np.empty(n_codes, dtype=np.int64)
    rank[states] = np.arange(len(states))
    return first[states], rank[code]


def _in_chunks(policy: Policy, digits: NDArray[np.int8], n_actions: int) -> NDArray[np.float64]:
    """(m, n_actions) probabilities, `_STATE_CHUNK` states at a time."""
    if len(digits) == 0:
        return np.zeros((0, n_actions))
    starts = range(0, len(digits), _STATE_CHUNK)
    return np.concatenate([policy(digits[start : start + _STATE_CHUNK]) for start in starts])
