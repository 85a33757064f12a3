"""What a campaign believes of compounds that nobody has calculated: energies, and how sure it is of them.

Two surrogates share one form of answer, `Belief`: the ensemble of networks of `agents.reward_model`, and a
Gaussian process of scikit-learn. The scale of their errors is fitted to labels that they were not shown, so
that a stated probability means what it says.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from agents.discovery.descriptors import N_NUMBERS, site_descriptors
from agents.properties import site_codes
from agents.reward_model import RewardModel, RewardModelConfig
from elpa_env.errors import InputError, at_least
from elpa_env.sampler import Progress
from elpa_env.seeds import Seed, spawn
from elpa_env.space import Space
from elpa_env.training import TrainingSet

MIN_LABELS: Final = 20
"""Below which a surrogate knows next to nothing."""
CHUNK: Final = 1 << 16
"""Compounds that are judged at a time."""
_LEAST: Final = 1e-6
"""eV/atom; no energy is known better."""
_PRIOR: Final = 1.0
"""Weight, in labels, of leaving probabilities as they are."""


@dataclass(frozen=True)
class Belief:
    """What is believed of n compounds: an equal mixture of m normal distributions each.

    Attributes:
        mean: (m, n) eV/atom.
        scale: (m, n) eV/atom, standard deviation about each of them.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def energy(self) -> NDArray[np.float64]:
        """(n,) eV/atom expected."""
        return np.asarray(self.mean.mean(axis=0))

    @property
    def uncertainty(self) -> NDArray[np.float64]:
        """(n,) eV/atom, standard deviation of the mixture."""
        return np.asarray(np.sqrt(self.mean.var(axis=0) + (self.scale**2).mean(axis=0)))

    def probability(self, low: float, high: float) -> NDArray[np.float64]:
        """(n,) that the energy lies between two limits, of which either may be infinite."""
        total = np.zeros(self.mean.shape[1])
        for mean, scale in zip(self.mean, self.scale, strict=True):
            above = 1.0 if math.isinf(high) else ndtr((high - mean) / scale)
            total += above if math.isinf(low) else above - ndtr((low - mean) / scale)
        return np.asarray(np.clip(total / len(self.mean), 0.0, 1.0))

    def improvement(self, best: float) -> NDArray[np.float64]:
        """(n,) eV/atom, expected improvement E[max(best - energy, 0)].

        About each normal distribution of mean m and deviation s it is (best - m) Φ(z) + s φ(z) with
        z = (best - m) / s (Jones, Schonlau and Welch, J. Global Optim. 1998, 13, 455, eq. 15).
        """
        z = (best - self.mean) / self.scale
        density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return np.asarray(((best - self.mean) * ndtr(z) + self.scale * density).mean(axis=0))

    @classmethod
    def joined(cls, parts: Sequence[Belief]) -> Belief:
        """The belief of all compounds from those of some at a time."""
        mean, scale = ([getattr(part, name) for part in parts] for name in ("mean", "scale"))
        return cls(np.concatenate(mean, axis=1), np.concatenate(scale, axis=1))


class Surrogate(Protocol):
    """What learns from labels and then says what it believes of any compound."""

    def fit(self, labels: TrainingSet, progress: Progress | None = None) -> Self:
        """Learn from labels, a row a compound."""
        ...

    def belief(self, index: NDArray[np.int64]) -> Belief:
        """What is believed of (n,) index."""
        ...

    def held_out(self) -> Belief:
        """What would have been believed of each label without it, in the order of the labels."""
        ...


@dataclass(frozen=True)
class EnsembleConfig:
    """Hyperparameters of the networks of a campaign, which has far fewer labels than a training set.

    Attributes:
        networks: of the ensemble, see `RewardModelConfig`; its updates are those for few labels.
        enough: labels up to which these updates do; for more they grow in proportion.
        most: updates however many labels there are.
    """

    networks: RewardModelConfig
    enough: int = 1_000
    most: int = 2_000

    def __post_init__(self) -> None:
        at_least(self, 1, "enough", "most")

    def updates(self, n: int) -> int:
        """Updates for `n` labels."""
        least = self.networks.n_updates
        return max(min(round(least * n / self.enough), self.most), least)


ENSEMBLE: Final = EnsembleConfig(
    RewardModelConfig(
        members=10,
        embedding=24,
        hidden=96,
        n_updates=400,
        batch_size=64,
        learning_rate=1.41e-2,
        weight_decay=0.2,
    )
)
"""Chosen on random subsets of 100, 300 and 1,000 labels of the DFT table and of ABO3, by the likelihood of
the energies of other rows."""


class Ensemble:
    """An ensemble of networks, see `agents.reward_model.RewardModel`, for few labels.

    It is told more of the elements than a reward model, see `site_descriptors`. About each network lies a
    normal distribution whose deviation grows with the predicted energy as that of the reward model does,
    widened as a whole to the errors that the networks make of labels which they left out.

    Args:
        config: hyperparameters.
        seed: of folds, weights and batches.
    """

    def __init__(self, config: EnsembleConfig = ENSEMBLE, *, seed: Seed = 0) -> None:
        self.config = config
        self.seed = seed
        self.model = RewardModel(config.networks, seed=seed, properties=site_descriptors)
        """As it was fitted last."""
        self._widened = 1.0

    def fit(self, labels: TrainingSet, progress: Progress | None = None) -> Self:
        """Train anew on labels, a row a compound in ascending order.

        Raises:
            InputError: there are fewer than `MIN_LABELS`.
        """
        check_labels(len(labels))
        networks = replace(self.config.networks, n_updates=self.config.updates(len(labels)))
        model = RewardModel(networks, seed=self.seed, properties=site_descriptors)
        self.model = model.fit(labels, progress)
        mean, scale = self.model.held_out
        self._widened = float(np.sqrt(np.mean(((labels.energy - mean) / scale) ** 2)))
        return self

    def belief(self, index: NDArray[np.int64]) -> Belief:
        """What is believed of (n,) index."""
        starts = range(0, max(len(index), 1), CHUNK)
        parts = (self.model.members_and_scale(index[start : start + CHUNK]) for start in starts)
        return Belief.joined([Belief(mean, self._widened * scale) for mean, scale in parts])

    def held_out(self) -> Belief:
        """What the networks believe of the labels that they left out, in ascending order of the compounds."""
        mean, scale = self.model.held_out
        return Belief(mean[None], self._widened * scale[None])


class GaussianProcess:
    """A Gaussian process on the descriptors of the elements on the sites; for up to some thousand labels.

    Equivalent sites enter by the sum and the product of each property, so that an exchange of them changes
    nothing. The kernel is Matérn's of order 5/2 with a length for each feature, its parameters those of the
    greatest likelihood of at most `MOST_TUNED` labels. Its uncertainty is then widened or narrowed as a
    whole to what each label makes of the prediction by all others (Rasmussen and Williams 2006, eq. 5.12).

    Args:
        seed: of the labels that the kernel is tuned on.
    """

    MOST_TUNED: Final = 300

    def __init__(self, *, seed: Seed = 0) -> None:
        self.seed = seed
        self._process: Any = None
        self._space: Space | None = None
        self._widened = 1.0

    def fit(self, labels: TrainingSet, progress: Progress | None = None) -> Self:
        """Fit to labels.

        Raises:
            InputError: there are fewer than `MIN_LABELS`.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        check_labels(len(labels))
        self._space = labels.space
        x, y = self._features(labels.index), labels.energy
        self._centre, self._spread = float(y.mean()), float(y.std()) or 1.0
        z = (y - self._centre) / self._spread
        lengths = Matern(np.full(x.shape[1], 3.0), (0.3, 100.0), nu=2.5)
        kernel = ConstantKernel(1.0) * lengths + WhiteKernel(1e-2, (1e-6, 1.0))
        (order,) = spawn(self.seed, 1)
        tuned = np.random.default_rng(order).permutation(len(x))[: self.MOST_TUNED]
        with warnings.catch_warnings():
            # a length at its limit means that a feature plays no part
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = GaussianProcessRegressor(kernel, alpha=1e-8).fit(x[tuned], z[tuned])
        self._process = GaussianProcessRegressor(found.kernel_, alpha=1e-8, optimizer=None).fit(x, z)
        self._leave_one_out(z)
        if progress:
            progress(1, 1)
        return self

    def _leave_one_out(self, z: NDArray[np.float64]) -> None:
        """Predict each label by all others, and widen the deviations to what the errors are."""
        from scipy.linalg import cho_solve

        inverse = cho_solve((self._process.L_, True), np.eye(len(z)))
        variance = 1 / np.diag(inverse)
        error = (inverse @ z) * variance
        self._widened = float(np.sqrt(np.mean(error**2 / variance)))
        mean = (z - error) * self._spread + self._centre
        scale = np.sqrt(variance) * self._widened * self._spread
        self._held_out = Belief(mean[None], np.maximum(scale, _LEAST)[None])

    def held_out(self) -> Belief:
        """What is believed of each label by all others."""
        return self._held_out

    def _features(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, d) properties of the elements on the sites."""
        assert self._space is not None
        space, codes = self._space, site_codes(self._space)
        of_element = site_descriptors(space)[codes.of_element][:, :N_NUMBERS].double().numpy()
        sites = of_element[space.index_to_elements(index)]
        parts = []
        for table in range(codes.n_tables):
            group = sites[:, [site for site, own in enumerate(codes.tables) if own == table]]
            parts.append(group.sum(axis=1))
            if group.shape[1] > 1:
                parts.append(group.prod(axis=1))
        return np.concatenate(parts, axis=1)

    def belief(self, index: NDArray[np.int64]) -> Belief:
        """What is believed of (n,) index.

        Raises:
            InputError: it has not been fitted.
        """
        if self._process is None:
            raise InputError("the surrogate knows nothing yet: call fit(labels) first")
        starts = range(0, max(len(index), 1), CHUNK // 8)
        parts = []
        for start in starts:
            mean, deviation = self._process.predict(
                self._features(index[start : start + CHUNK // 8]), return_std=True
            )
            scale = np.maximum(deviation * self._widened * self._spread, _LEAST)
            parts.append(Belief((mean * self._spread + self._centre)[None], scale[None]))
        return Belief.joined(parts)


@dataclass(frozen=True)
class Calibration:
    """Probabilities as labels bear them out: log odds times `slope` plus `shift` (Platt 1999).

    It keeps their order.
    """

    slope: float = 1.0
    shift: float = 0.0

    @classmethod
    def of(cls, p: NDArray[np.float64], hit: NDArray[np.bool_]) -> Calibration:
        """The calibration under which what came true is likeliest.

        A few labels change little: slope 1 and shift 0 count as much as a label or two.

        Args:
            p: (n,) stated probabilities of labels, each by what was learnt from others.
            hit: (n,) whether they came true.
        """
        from scipy.optimize import minimize

        x, sign = _log_odds(p), np.where(hit, 1.0, -1.0)

        def surprise(values: NDArray[np.float64]) -> float:
            slope, shift = values
            odds = sign * (slope * x + shift)
            prior = _PRIOR * ((slope - 1) ** 2 + shift**2)
            return float(np.logaddexp(0, -odds).sum() + prior)

        slope, shift = minimize(surprise, np.array([1.0, 0.0]), method="Nelder-Mead").x
        return cls(max(float(slope), 1e-3), float(shift))

    def __call__(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) calibrated ones of (n,) probabilities."""
        odds = self.slope * _log_odds(p) + self.shift
        return np.asarray(np.where(p > 0, 1 / (1 + np.exp(-np.clip(odds, -500, 500))), 0.0))


def _log_odds(p: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(p, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(bounded) - np.log1p(-bounded))


def check_labels(n: int) -> None:
    """Raise InputError unless a surrogate can learn from so many labels."""
    if n < MIN_LABELS:
        raise InputError(f"a surrogate needs at least {MIN_LABELS} labels, got {n}")
