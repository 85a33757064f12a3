"""Where candidates come from: all of a space, any generator, an agent that learns on, a genetic algorithm.

A proposer either hands candidates to the surrogate, which ranks them, or chooses the batch itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import numpy as np
import torch as th
from numpy.typing import NDArray

from agents.discovery.acquisition import Goal, lowest_known
from agents.discovery.surrogate import Surrogate
from agents.generators import preserved_generators
from agents.sb3_sampler import AgentSampler
from agents.train import VARIANTS, DQNConfig, train_dqn
from elpa_env.errors import InputError
from elpa_env.sampler import Progress, Sampler, is_exact, unique_sample
from elpa_env.seeds import small_seed, spawn
from elpa_env.space import Space
from elpa_env.training import TrainingSet

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Known:
    """What a proposer may look at.

    Attributes:
        goal: what the campaign looks for, and in which space.
        labels: a row a compound, in ascending order.
        taken: (k,) ascending compounds that must not be proposed: calculated, or asked for already.
        pool: (m,) ascending compounds that may be asked for; None for all of the space.
        surrogate: fitted to the labels; None while there are too few.
    """

    goal: Goal
    labels: TrainingSet
    taken: NDArray[np.int64]
    pool: NDArray[np.int64] | None
    surrogate: Surrogate | None = None

    @property
    def space(self) -> Space:
        """Of the compositions."""
        return self.goal.space

    @property
    def listed(self) -> bool:
        """Whether all that may be asked for can be listed."""
        return self.pool is not None or self.space.enumerable

    def free(self) -> NDArray[np.int64]:
        """(n,) ascending compounds that may be asked for.

        Raises:
            InputError: they are too many to be listed.
        """
        if not self.listed:
            raise InputError(
                f"{self.space.name} has too many compositions to rank them all: choose the proposer agent, "
                "or another generator"
            )
        known = self.pool if self.pool is not None else np.flatnonzero(self.space.compound_mask)
        return known[~np.isin(known, self.taken, assume_unique=True)]

    def allowed(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """(k,) different compounds among (n,) index, -1 for none, that may be asked for; first ones first."""
        compound = self.space.index_to_compound(index[index >= 0])
        found, first = np.unique(compound, return_index=True)
        good = ~np.isin(found, self.taken)
        if self.pool is not None:
            good &= np.isin(found, self.pool)
        return compound[np.sort(first[good])]


@dataclass(frozen=True)
class Proposal:
    """What a proposer hands on.

    Attributes:
        index: (k,) different compounds that may be asked for.
        keep: what the proposer needs in its next round.
    """

    index: NDArray[np.int64]
    keep: Arrays = field(default_factory=dict)


class Proposer(Protocol):
    """Where candidates come from.

    Attributes:
        name: by which it is chosen.
        ranked: whether the surrogate ranks its candidates; else they are taken as they come.
    """

    name: str
    ranked: bool

    def propose(
        self,
        known: Known,
        n: int,
        seed: np.random.SeedSequence,
        kept: Arrays,
        progress: Progress | None = None,
    ) -> Proposal:
        """Candidates for a batch.

        Args:
            known: what it may look at.
            n: compounds of the batch.
            seed: of all that it draws.
            kept: what it kept from its last round; empty in the first.
            progress: called with what is done and what there is to do.
        """
        ...


def random_compounds(known: Known, n: int, seed: np.random.SeedSequence) -> NDArray[np.int64]:
    """(n,) different compounds that may be asked for, each equally likely; fewer where there are no more."""
    rng = np.random.default_rng(seed)
    if known.listed:
        free = known.free()
        return rng.permutation(free)[:n]
    space, found = known.space, np.zeros(0, dtype=np.int64)
    shape = np.array(space.table_shape)
    while len(found) < n:
        places = (rng.random((4 * n, space.n_sites)) * shape).astype(np.int64)
        index = space.index_of_places(np.ravel_multi_index(tuple(places.T), space.table_shape))
        found = known.allowed(np.concatenate([found, index]))
    return found[:n]


def _filled_up(
    index: NDArray[np.int64], known: Known, n: int, seed: np.random.SeedSequence
) -> NDArray[np.int64]:
    """`index`, and as many compounds at random as it lacks to `n`."""
    if len(index) >= n:
        return index
    others = replace(known, taken=np.union1d(known.taken, index))
    return np.concatenate([index, random_compounds(others, n - len(index), seed)])


class RandomProposer:
    """Compounds at random: screening without a model."""

    name = "random"
    ranked = False

    def propose(
        self,
        known: Known,
        n: int,
        seed: np.random.SeedSequence,
        kept: Arrays,
        progress: Progress | None = None,
    ) -> Proposal:
        """See `Proposer`."""
        del kept, progress
        return Proposal(random_compounds(known, n, seed))


class RankProposer:
    """All compounds that may be asked for."""

    name = "rank"
    ranked = True

    def propose(
        self,
        known: Known,
        n: int,
        seed: np.random.SeedSequence,
        kept: Arrays,
        progress: Progress | None = None,
    ) -> Proposal:
        """See `Proposer`.

        Raises:
            InputError: they are too many to be listed.
        """
        del n, seed, kept, progress
        return Proposal(known.free())


class GeneticProposer:
    """A genetic algorithm on the elements of the sites, by DEAP: a baseline without a model.

    Parents are drawn from the calculated compounds by tournament, the nearer to the goal the better. Sites
    are exchanged between two parents, and their elements replaced now and then.

    Args:
        tournament: compounds that a parent is the best of.
        mutation: probability that an element is replaced.
    """

    name = "genetic"
    ranked = False
    MOST_TRIES: Final = 400
    """Offspring for each place in the batch, until compounds at random fill the rest."""

    def __init__(self, tournament: int = 5, mutation: float = 0.2) -> None:
        self.tournament = tournament
        self.mutation = mutation

    def propose(
        self,
        known: Known,
        n: int,
        seed: np.random.SeedSequence,
        kept: Arrays,
        progress: Progress | None = None,
    ) -> Proposal:
        """See `Proposer`.

        Raises:
            InputError: DEAP is not installed.
        """
        del kept, progress
        offspring, rest = spawn(seed, 2)
        index = (
            self._offspring(known, n, small_seed(offspring)) if len(known.labels) > 1 else np.zeros(0, int)
        )
        return Proposal(_filled_up(index, known, n, rest))

    def _offspring(self, known: Known, n: int, seed: int) -> NDArray[np.int64]:
        """(k,) at most `n` new compounds that calculated ones have as offspring."""
        try:
            from deap import tools
        except ImportError as error:
            raise InputError(
                "a genetic algorithm needs deap, which is not installed: pip install 'elpasolite[discovery]'"
            ) from error
        import random

        space = known.space
        depth = known.goal.depth(known.labels.energy)
        parents = _individuals(space, known.labels.index, depth)
        low, high = [0] * space.n_sites, [size - 1 for size in space.table_shape]
        found = np.zeros(0, dtype=np.int64)
        with preserved_generators():
            random.seed(seed)
            for _ in range(self.MOST_TRIES):
                children = []
                for _ in range(n):
                    first, second = (list(one) for one in tools.selTournament(parents, 2, self.tournament))
                    tools.cxUniform(first, second, 0.5)
                    children.append(tools.mutUniformInt(first, low, high, self.mutation)[0])
                places = np.ravel_multi_index(tuple(np.array(children).T), space.table_shape)
                found = known.allowed(np.concatenate([found, space.index_of_places(places)]))
                if len(found) >= n:
                    break
        return found[:n]


class _Fitness:
    """What DEAP's tournament compares."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __gt__(self, other: _Fitness) -> bool:
        return self.value > other.value


class _Individual(list[int]):
    """Places of the elements among those of their sites, with a fitness."""

    fitness: _Fitness


def _individuals(space: Space, index: NDArray[np.int64], depth: NDArray[np.float64]) -> list[_Individual]:
    places = np.stack(np.unravel_index(index, space.table_shape), axis=1).tolist()
    individuals = []
    for one, value in zip(places, depth.tolist(), strict=True):
        individual = _Individual(one)
        individual.fitness = _Fitness(value)
        individuals.append(individual)
    return individuals


MakeSampler = Callable[[TrainingSet, int, int, Progress | None], Sampler]
"""Trains a generator: labels with all orders of equivalent sites, target 1..k, seed, progress."""


class SamplerProposer:
    """Candidates of any generator, trained anew on the labels in every round.

    Args:
        name: of the generator.
        make: trains it.
        n_candidates: different compounds to draw at most.
    """

    ranked = True
    MOST_DRAWS: Final = 20
    """Draws for each candidate that is wanted, of a generator that repeats itself."""

    def __init__(self, name: str, make: MakeSampler, n_candidates: int = 20_000) -> None:
        self.name = name
        self.n_candidates = n_candidates
        self._make = make

    def propose(
        self,
        known: Known,
        n: int,
        seed: np.random.SeedSequence,
        kept: Arrays,
        progress: Progress | None = None,
    ) -> Proposal:
        """See `Proposer`; compounds at random fill up what the generator draws too few of.

        Raises:
            InputError: the goal is no target of the space, which a generator needs.
        """
        del kept
        check_target_goal(known.goal, self.name)
        training, drawing, rest = spawn(seed, 3)
        sampler = self._make(known.labels.augmented(), known.goal.target, small_seed(training), progress)
        index = draw_candidates(sampler, known, max(self.n_candidates, n), drawing)
        return Proposal(_filled_up(index, known, n, rest))


def check_target_goal(goal: Goal, name: str) -> None:
    """Raise InputError if a generator is to aim at what is no target of the space."""
    if goal.target == 0:
        raise InputError(f"{name} aims at a target of the space, not at the lowest energy: use rank")


def draw_candidates(
    sampler: Sampler, known: Known, n: int, seed: np.random.SeedSequence
) -> NDArray[np.int64]:
    """(k,) at most `n` different compounds that a generator draws and that may be asked for.

    Where it states its distribution, that is what it would draw sooner or later, in the order in which it
    would.
    """
    space = known.space
    if known.listed and is_exact(sampler):
        p = np.asarray(sampler.distribution(known.goal.target), dtype=np.float64)
        allowed = np.zeros(space.n_table, dtype=bool)
        free = known.free()
        for index in (free, *space.images(free)):
            allowed[index] = True
        p = np.where(allowed, p, 0.0)
        reachable = np.unique(space.index_to_compound(np.flatnonzero(p)))
        if not len(reachable):
            return np.zeros(0, dtype=np.int64)
        drawn = unique_sample(space, p, min(n, len(reachable)), seed=small_seed(seed))
        return space.index_to_compound(drawn)
    found = np.zeros(0, dtype=np.int64)
    for part in spawn(seed, SamplerProposer.MOST_DRAWS):
        digits = sampler.sample(n, target_class=known.goal.target, seed=small_seed(part))
        found = known.allowed(np.concatenate([found, space.digits_to_index(digits)]))
        if len(found) >= n:
            break
    return found[:n]


@dataclass(frozen=True)
class AgentConfig:
    """How the acting agent of a campaign learns.

    Attributes:
        dqn: hyperparameters of its first round; its reward model plays no part.
        n_updates: updates of every further round, in which it goes on from its weights.
        learning_rate: of these rounds.
        sharpness: κ of the reward max(-1, 1 + κ log p), p the surrogate's probability.
        n_candidates: different compounds to draw.
    """

    dqn: DQNConfig
    n_updates: int = 400
    learning_rate: float = 4e-3
    sharpness: float = 0.671
    n_candidates: int = 20_000


ACTING: Final = AgentConfig(
    replace(VARIANTS["dqn-soft-model"].presets["default"].config, n_updates=1_200, batch_size=500, n_envs=256)
)
"""The settings of `VARIANTS`, with fewer updates: a campaign trains in every round."""


class AgentProposer:
    """Candidates of an agent that acts in the environment for the surrogate's reward, and learns on.

    From one round to the next it keeps its weights, so that a round takes a few seconds. Where the
    space is too large to be listed it is the way to candidates.

    Args:
        config: see there.
    """

    name = "agent"
    ranked = True

    def __init__(self, config: AgentConfig = ACTING) -> None:
        self.config = config

    def propose(
        self,
        known: Known,
        n: int,
        seed: np.random.SeedSequence,
        kept: Arrays,
        progress: Progress | None = None,
    ) -> Proposal:
        """See `Proposer`.

        Raises:
            InputError: the goal is no target of the space.
        """
        check_target_goal(known.goal, self.name)
        assert known.surrogate is not None
        training, drawing, rest = spawn(seed, 3)
        config = self.config.dqn
        if kept:
            config = replace(config, n_updates=self.config.n_updates, learning_rate=self.config.learning_rate)
        agent = train_dqn(
            config,
            known.goal.target,
            source=_no_energy,
            space=known.space,
            reward=_SurrogateReward(known, self.config.sharpness),
            seed=small_seed(training),
            weights=kept,
            progress=progress,
        )
        index = draw_candidates(AgentSampler(agent), known, max(self.config.n_candidates, n), drawing)
        keep = {name: value.detach().cpu().numpy() for name, value in agent.q_net.state_dict().items()}
        return Proposal(_filled_up(index, known, n, rest), keep)


def _no_energy(numbers: NDArray[np.int16]) -> NDArray[np.float64]:
    """Energies that play no part, since the reward is the surrogate's."""
    return np.zeros(len(numbers))


class _SurrogateReward:
    """max(-1, 1 + κ log p), see `agents.RewardModel.reward`, with the surrogate's p."""

    def __init__(self, known: Known, sharpness: float) -> None:
        self._known = known
        self._sharpness = sharpness
        self._best = lowest_known(known.labels)

    def __call__(
        self,
        numbers: NDArray[np.int16],
        energy: NDArray[np.float32] | None,
        energy_class: NDArray[np.int8] | None,
        target_class: NDArray[np.int8] | int,
    ) -> NDArray[np.float64]:
        """(n,) rewards of (n, S) atomic numbers."""
        del energy, energy_class, target_class
        known = self._known
        assert known.surrogate is not None
        with th.no_grad():
            belief = known.surrogate.belief(known.space.numbers_to_index(numbers))
        p = known.goal.probability(belief, self._best)
        with np.errstate(divide="ignore"):
            return np.maximum(-1.0, 1 + self._sharpness * np.log(p))


PROPOSERS: Final[Mapping[str, Callable[[], Proposer]]] = {
    "rank": RankProposer,
    "agent": AgentProposer,
    "genetic": GeneticProposer,
    "random": RandomProposer,
}
"""Those that need nothing but the campaign."""
