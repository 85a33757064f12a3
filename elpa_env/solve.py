"""The exact solution of an environment: optimal Q-values of every state by one backward pass.

What no agent can beat, and what its Boltzmann policy would draw if it had learned everything. The
solution sees the landscape, which a model trained on a training set must not: it is a reference line.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from elpa_env.backups import ExactBackup, boltzmann, state_values
from elpa_env.errors import InputError, check_choice
from elpa_env.landscape import load_landscape
from elpa_env.rules import Masking, check_masking
from elpa_env.sampler import Access, sample_distribution
from elpa_env.space import Space
from elpa_env.tree import EnergyClasses

NAMES: Final[dict[ExactBackup, str]] = {"max": "optimal-hard", "soft": "optimal-soft"}
"""What the exact solutions are called in comparisons: a max backup is also known as a hard one."""
BETA_MIN: Final = 1e-6
BETA_MAX: Final = 1e6
"""Between them `solve` is exact to rounding."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Optimal Q-values for one class.

    Attributes:
        space: of the environment.
        q: for each step (n_step, width): Q of every state and action, states in the order
            of `elpa_env.tree`; -inf where the action is closed.
        target_class: 1..k.
        backup: "max" or "soft", see `elpa_env.backups`.
        beta: inverse temperature of the Boltzmann policy, and of the soft backup.
        gamma: discount factor.
        masking: which actions are open.
    """

    space: Space
    q: tuple[NDArray[np.float64], ...]
    target_class: int
    backup: ExactBackup
    beta: float
    gamma: float
    masking: Masking

    @property
    def start_value(self) -> float:
        """V of the state with all digits unset."""
        return float(state_values(self.q[0], backup=self.backup, beta=self.beta)[0])

    def action_probabilities(self, digits: NDArray[np.int8]) -> NDArray[np.float64]:
        """Boltzmann policy softmax(beta Q) over the open actions.

        Args:
            digits: (m, 2 S) unfinished states, at any steps.

        Returns:
            (m, n_actions); all 0 where no action is open, in states that open actions never reach.

        Raises:
            InputError: a finished composition, which has no next action.
        """
        space, tree = self.space, self.space.tree
        steps = space.states.steps_taken(digits)
        if (steps == space.n_steps).any():
            raise InputError("action probabilities are of unfinished states, got a finished composition")
        policy = np.zeros((len(digits), space.n_actions))
        for step in np.unique(steps).tolist():
            here = steps == step
            q = self.q[step][tree.digits_to_codes(step, digits[here])]
            policy[here, : tree.widths[step]] = boltzmann(q, self.beta)
        return policy

    def distribution(self) -> NDArray[np.float64]:
        """(n_table,) probability of every composition under the Boltzmann policy.

        It sums to 1 with masking "composition", to the share of real compositions with "digits".
        """
        return self.space.tree.policy_distribution(lambda _, digits: self.action_probabilities(digits))


def solve(
    target_class: int,
    *,
    backup: ExactBackup = "max",
    beta: float = 5.0,
    gamma: float = 1.0,
    masking: Masking = "composition",
    landscape: EnergyClasses | None = None,
) -> Solution:
    """Solve the environment exactly.

    With V the value of the next state, Q = gamma V, and Q = reward for the last action. With the soft
    backup and gamma = 1 the Boltzmann policy draws each composition in proportion to
    exp(beta reward), as a GFlowNet does (Tiapkin et al. 2023, arXiv 2310.12934). With the hard one it
    prefers no branch that holds a composition of the class to another, however few they hold.

    Args:
        target_class: 1..k.
        backup: "max", V = max Q; or "soft", V = log(sum of exp(beta Q)) / beta; over the open actions.
        beta: inverse temperature, 1e-6..1e6.
        gamma: discount factor, above 0, at most 1.
        masking: which actions are open, "digits" or "composition", see `rules.action_masks`.
        landscape: of the classes, and so of the space: a `Table` or a judge; that of elpasolite by default.

    Raises:
        InputError: a value that cannot be used.
    """
    check_choice("backup", backup, get_args(ExactBackup))
    check_masking(masking)
    if not BETA_MIN <= beta <= BETA_MAX:
        raise InputError(f"beta must be 1e-6..1e6, got {beta}")
    if not 0 < gamma <= 1:
        raise InputError(f"gamma must be above 0 and at most 1, got {gamma}")
    energies = landscape if landscape is not None else load_landscape()
    target_class = energies.space.targets.check(target_class)
    tree = energies.space.tree
    after = tree.leaf_rewards(target_class, energies)
    levels: list[NDArray[np.float64]] = []
    for step in reversed(range(tree.space.n_steps)):
        rewards = after.reshape(tree.sizes[step], tree.widths[step])
        q = np.where(tree.level_masks(step, masking), rewards, -np.inf)
        levels.append(q)
        after = gamma * state_values(q, backup=backup, beta=beta)
    return Solution(tree.space, tuple(reversed(levels)), target_class, backup, beta, gamma, masking)


class OptimalSampler:
    """Draws from the Boltzmann policy of the exact solution: ``optimal-hard`` or ``optimal-soft``.

    It sees the energy class of every composition, so it is no competitor of a trained model but the
    line that an agent with the same backup, beta and gamma approaches.

    Args:
        backup: "max" or "soft", see `elpa_env.backups`.
        beta: inverse temperature.
        gamma: discount factor.
        masking: which actions are open.
        landscape: of the classes, and so of the space: a `Table` or a judge; that of elpasolite by default.

    Raises:
        InputError: no such backup.
    """

    def __init__(
        self,
        backup: ExactBackup,
        *,
        beta: float = 5.0,
        gamma: float = 1.0,
        masking: Masking = "composition",
        landscape: EnergyClasses | None = None,
    ) -> None:
        check_choice("backup", backup, get_args(ExactBackup))
        self.name = NAMES[backup]
        self.space = landscape.space if landscape is not None else load_landscape().space
        self.access = Access("reference", landscape_queries=self.space.n_compositions)
        self._solve = functools.partial(
            solve, backup=backup, beta=beta, gamma=gamma, masking=masking, landscape=landscape
        )
        self.distribution = functools.lru_cache(maxsize=1)(self._distribution)

    def _distribution(self, target_class: int) -> NDArray[np.float64]:
        """(n_table,) probability of every composition."""
        return self._solve(target_class).distribution()

    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw (n, 2 S) digits; see `elpa_env.Sampler` and `elpa_env.sampler.sample_distribution`."""
        return sample_distribution(self.space, self.distribution(target_class), n, seed=seed)
