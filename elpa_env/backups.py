"""The backups of Q-learning, and the Boltzmann policy that draws actions from Q-values.

Training and exact solution share these names and this policy. In the exact solution "double" would be
"max", since there is one table of Q-values only.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from elpa_env.errors import InputError

Backup = Literal["max", "double", "soft", "soft-double"]
"""How the value of the next state comes from its Q-values over the open actions.

"max": the largest (eq. 13 of Türk et al. 2022). "double": the target network's value of the action that the
online network prefers (van Hasselt et al. 2016). "soft": log(sum of exp(β Q)) / β (Haarnoja et al. 2017,
arXiv 1702.08165). "soft-double": the soft value with the policy of the online network.
"""
ExactBackup = Literal["max", "soft"]
"""Those that an exact table of Q-values tells apart."""
SOFT_BACKUPS: Final = ("soft", "soft-double")
"""Those that β has a part in."""


def check_beta(beta: float) -> float:
    """Return the inverse temperature if it is one.

    Raises:
        InputError: it is below 0 or not a number.
    """
    if not beta >= 0:
        raise InputError(f"beta must be at least 0, got {beta}")
    return beta


def boltzmann(q: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Probabilities in proportion to exp(β Q), eq. 16.

    Args:
        q: (n, n_actions); -inf where an action is not open.
        beta: β; 0 = uniform over the open actions, inf = the best of them.

    Returns:
        (n, n_actions); all 0 in a row without an open action.
    """
    gap = q - _finite(q.max(axis=1))[:, None]
    with np.errstate(invalid="ignore"):
        weight = np.where(np.isneginf(gap), 0.0, np.exp(beta * gap))
    weight[gap == 0] = 1
    total = weight.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(weight, total, out=np.zeros_like(weight), where=total > 0))


def state_values(q: NDArray[np.float64], *, backup: ExactBackup, beta: float) -> NDArray[np.float64]:
    """(n,) V of (n, width) Q-values, -inf where the action is closed; -inf where all are.

    Args:
        q: Q-values.
        backup: "max" or "soft".
        beta: inverse temperature of the soft backup, above 0 and finite.
    """
    best: NDArray[np.float64] = q.max(axis=1)
    if backup == "max":
        return best
    top = _finite(best)
    with np.errstate(divide="ignore"):
        return np.asarray(top + np.log(np.exp(beta * (q - top[:, None])).sum(axis=1)) / beta)


def _finite(best: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 for -inf, from which nothing can be subtracted."""
    return np.where(best == -np.inf, 0.0, best)
