"""Conditional discrete diffusion over the digits, D3PM (Austin et al. 2021, arXiv 2107.03006).

Noise replaces digits, each by itself, until nothing is left of a composition; a network that sees noisy
digits guesses the composition, and drawing goes back from pure noise step by step. Digits are noised either
by unset ones ("absorbing") or by any value in range ("uniform"). Both are one transition matrix for a digit,

    Q_t = a_t I + (1 - a_t) 1 πᵀ,    Q_1 Q_2 ... Q_t = A_t I + (1 - A_t) 1 πᵀ,    A_t = a_1 a_2 ... a_t,

with π all on "unset", or even over the values. The class enters with classifier-free guidance (Ho and
Salimans 2022, arXiv 2207.12598).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import torch as th
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from elpa_env.errors import at_least, check_choice, in_range
from elpa_env.ranges import Between, Choice, SearchSpace
from elpa_env.sampler import FEWER, SEARCHED, Preset, Progress, check_n_samples
from elpa_env.seeds import torch_seed
from elpa_env.training import ClassBalancedSampler, TrainingSet
from generative.conditional import ConditionalModel, Streams
from generative.networks import labelled_rows, linear, uniform

Transition = Literal["absorbing", "uniform"]

_CHUNK: Final = 4096
"""Samples drawn side by side."""
_TINY: Final = 1e-30
"""Below any probability that counts; keeps logarithms finite."""


@dataclass(frozen=True)
class DiffusionConfig:
    """Hyperparameters; the defaults are those that a search picked.

    Attributes:
        transition: what noise makes of a digit, "absorbing" or "uniform".
        steps: T, of noise.
        hidden: nodes of each hidden layer.
        layers: hidden layers behind the first.
        dropout: share of the nodes of a hidden layer that are left out of an update.
        class_dropout: share of the rows that are trained on without their class.
        guidance: w; the logits of drawing are (1 + w) those with the class less w those without.
        auxiliary: λ, weight of the cross entropy of the guessed composition beside the variational bound.
        n_updates: network updates.
        batch_size: compositions an update.
        learning_rate: AdamW's, at its height.
        weight_decay: decoupled, AdamW's.

    Raises:
        InputError: a value out of range.
    """

    transition: Transition = "uniform"
    steps: int = 16
    hidden: int = 256
    layers: int = 2
    dropout: float = 0.337
    class_dropout: float = 0.1
    guidance: float = 1.04
    auxiliary: float = 0.1
    n_updates: int = 2_000
    batch_size: int = 250
    learning_rate: float = 5.51e-4
    weight_decay: float = 0.0582

    def __post_init__(self) -> None:
        check_choice("transition", self.transition, get_args(Transition))
        at_least(self, 1, "steps", "hidden", "layers", "n_updates", "batch_size")
        in_range(self, 0, math.inf, "guidance", "auxiliary", "learning_rate", "weight_decay")
        in_range(self, 0, 0.9, "dropout", "class_dropout")


PRESETS: Final = {
    "quick": Preset(DiffusionConfig(n_updates=1_000), f"{SEARCHED}, with fewer updates to save time"),
    "small": Preset(DiffusionConfig(n_updates=1_000), FEWER),
    "default": Preset(DiffusionConfig(), SEARCHED),
}
"""Hyperparameters that ship with the diffusion model."""
SEARCH: Final[SearchSpace] = {
    "transition": Choice(("absorbing", "uniform")),
    "dropout": Between(0.0, 0.5),
    "guidance": Between(0.0, 2.0),
    "auxiliary": Choice((0.0, 0.1, 1.0)),
    "n_updates": Choice((2_000, 3_000, 4_000)),
    "learning_rate": Between(5e-4, 8e-3, log=True),
    "weight_decay": Between(1e-2, 1.0, log=True),
}
"""Where a search looks."""


class Noise:
    """The transition matrices of all steps, and what follows from them in closed form.

    A digit is a number 0..V, 0 = unset and V the most that any digit takes; a distribution over its values is
    a row of V + 1 entries.

    Args:
        transition: "absorbing" or "uniform".
        steps: T.
        limits: (2 S,) values of each digit.
        device: of the tables.

    Attributes:
        kept: (T + 1,) A_0 = 1 to A_T = 0, so that nothing is left of a composition at the end. It falls
            along a line for "absorbing", whose steps then each unset as many digits, and along a cosine for
            "uniform".
        target: (2 S, V + 1) π of each digit.
    """

    def __init__(
        self,
        transition: Transition,
        steps: int,
        limits: tuple[int, ...],
        device: th.device | str = "cpu",
    ) -> None:
        self.steps = steps
        time = th.linspace(0, 1, steps + 1, dtype=th.float64)
        kept = 1 - time if transition == "absorbing" else th.cos(math.pi / 2 * time) ** 2
        kept[-1] = 0
        values = th.arange(max(limits) + 1)
        if transition == "absorbing":
            target = (values == 0).expand(len(limits), -1).float()
        else:
            in_range_ = (values > 0) & (values <= th.tensor(limits)[:, None])
            target = in_range_ / th.tensor(limits)[:, None]
        self.kept = kept.float().to(device)
        self.target = target.to(device)

    def marginal(self, x_0: Tensor, t: Tensor) -> Tensor:
        """(n, 2 S, V + 1) q(x_t | x_0), eq. 3.

        Args:
            x_0: (n, 2 S, V + 1) distributions at the start, one-hot for known digits.
            t: (n,) steps 0..T.
        """
        kept = self.kept[t][:, None, None]
        return kept * x_0 + (1 - kept) * self.target

    def posterior(self, x_t: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
        """(n, 2 S, V + 1) q(x_(t-1) | x_t, x_0), eq. 3; of guesses x_0, p(x_(t-1) | x_t) by eq. 4.

        Both are q(x_t | x_(t-1)) q(x_(t-1) | x_0) over their sum: the second factor is linear in x_0, so that
        its mean over guesses is that of the mean guess.

        Args:
            x_t: (n, 2 S) noisy digits.
            t: (n,) steps 1..T.
            x_0: (n, 2 S, V + 1) distributions of the digits at the start.
        """
        before, now = self.kept[t - 1], self.kept[t]
        alpha = (now / before)[:, None, None]
        noisy = F.one_hot(x_t, x_0.shape[2])  # (n, 2 S, V + 1)
        came_by_noise = (noisy * self.target).sum(dim=2, keepdim=True)  # (n, 2 S, 1): π at x_t
        weight = (alpha * noisy + (1 - alpha) * came_by_noise) * self.marginal(x_0, t - 1)
        return weight / weight.sum(dim=2, keepdim=True)


class Denoiser(nn.Module):
    """Logits of the digits at the start, given noisy ones, the step and the class.

    Args:
        config: hyperparameters.
        limits: (2 S,) values of each digit.
        n_classes: k.
        generator: of the weights.
    """

    def __init__(
        self, config: DiffusionConfig, limits: tuple[int, ...], n_classes: int, generator: th.Generator
    ) -> None:
        super().__init__()
        width, n_steps, self.n_values = config.hidden, len(limits), max(limits) + 1
        self.dropout = config.dropout
        fan_in = n_steps + 2
        self.of_digit = uniform((n_steps * self.n_values, width), fan_in, generator)
        self.of_class = uniform((n_classes + 1, width), fan_in, generator)  # the last: no class
        self.of_time = uniform((config.steps + 1, width), fan_in, generator)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(config.layers + 1)])
        self.hidden = nn.ModuleList([linear(width, width, generator) for _ in range(config.layers)])
        self.head = linear(width, n_steps * self.n_values, generator)

    def forward(
        self, x_t: Tensor, t: Tensor, classes: Tensor, generator: th.Generator | None = None
    ) -> Tensor:
        """(n, 2 S, V + 1) logits; those of values that no digit has are to be left aside.

        Args:
            x_t: (n, 2 S) noisy digits, 0..V.
            t: (n,) steps 1..T.
            classes: (n,) 0..k-1, k = none.
            generator: of dropout; without one nothing is left out.
        """
        first_row = self.n_values * th.arange(x_t.shape[1], device=x_t.device)
        x = F.embedding_bag(x_t + first_row, self.of_digit, mode="sum")  # (n, hidden)
        x = x + F.embedding(t, self.of_time) + F.embedding(classes, self.of_class)
        for layer, norm in zip(self.hidden, self.norms, strict=False):
            y = F.silu(norm(x))
            if generator is not None and self.dropout:
                kept = th.rand(y.shape, generator=generator) >= self.dropout
                y = y * (kept / (1 - self.dropout)).to(y.device)
            x = x + layer(y)
        logits: Tensor = self.head(F.silu(self.norms[-1](x)))
        return logits.view(len(x_t), x_t.shape[1], self.n_values)


class DiffusionModel(ConditionalModel[DiffusionConfig]):
    """Conditional discrete diffusion, see `ConditionalModel` for its arguments.

    What it draws need not be a composition: digits are noised each by itself. Its distribution, a sum over
    all paths of noise, is not stated.
    """

    name = "diffusion"
    config_type = DiffusionConfig
    presets = PRESETS

    def _build(self, generator: th.Generator) -> None:
        limits = self.space.states.widths
        self.network = Denoiser(self.config, limits, self.n_classes, generator)

    @property
    def noise(self) -> Noise:
        """What the digits go through."""
        return Noise(self.config.transition, self.config.steps, self.space.states.widths, self.device)

    def loss(
        self,
        x_0: Tensor,
        x_t: Tensor,
        t: Tensor,
        classes: Tensor,
        generator: th.Generator | None = None,
    ) -> Tensor:
        """Mean over a batch of T KL(q(x_(t-1) | x_t, x_0) || p(x_(t-1) | x_t)) - λ log p(x_0 | x_t), eq. 5.

        With t even over 1..T its mean is the variational bound on -log p(x_0 | c), in nats, and λ times the
        cross entropy. At t = 1 the divergence is -log p(x_0 | x_1), and at T, where nothing is left of x_0,
        the prior is exact.

        Args:
            x_0: (n, 2 S) compositions.
            x_t: (n, 2 S) the same noised.
            t: (n,) steps 1..T.
            classes: (n,) 0..k-1, k = none.
            generator: of dropout; None leaves nothing out.
        """
        guess = self._guess(self.network(x_t, t, classes, generator), x_t)
        known = F.one_hot(x_0, guess.shape[2]).float()
        noise = self.noise
        q, p = noise.posterior(x_t, t, known), noise.posterior(x_t, t, guess)
        divergence = (q * (q.clamp_min(_TINY).log() - p.clamp_min(_TINY).log())).sum(dim=(1, 2))
        surprise = -(known * guess.clamp_min(_TINY).log()).sum(dim=(1, 2))
        return (self.config.steps * divergence + self.config.auxiliary * surprise).mean()

    def _guess(self, logits: Tensor, x_t: Tensor) -> Tensor:
        """(n, 2 S, V + 1) guesses of the digits at the start; what absorbing noise left set is known."""
        values = th.arange(logits.shape[2], device=logits.device)
        limits = th.tensor(self.space.states.widths, device=logits.device)[:, None]
        guess = logits.masked_fill((values == 0) | (values > limits), -math.inf).softmax(dim=2)
        if self.config.transition == "uniform":
            return guess
        return th.where((x_t == 0)[..., None], guess, F.one_hot(x_t, logits.shape[2]).float())

    def _train(self, training_set: TrainingSet, streams: Streams, progress: Progress | None) -> None:
        config, device = self.config, self.device
        noise = self.noise
        one_hot = labelled_rows(training_set, device)[:, self.n_digits :]
        # a row in no class teaches what compositions are like
        of_row = th.where(one_hot.any(dim=1), one_hot.argmax(dim=1), self.n_classes)
        digits = th.as_tensor(training_set.digits, dtype=th.int64, device=device)
        balanced = ClassBalancedSampler(training_set.energy_class)
        optimizer = th.optim.AdamW(
            self.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        schedule = th.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.n_updates)
        batches = balanced.batches(config.batch_size, config.n_updates, streams.batches)
        for update, chosen in enumerate(batches, start=1):
            rows = th.as_tensor(chosen, device=device)
            x_0, t = digits[rows], self._times(len(rows), streams.noise)
            x_t = draw(noise.marginal(F.one_hot(x_0, self.network.n_values), t), streams.noise)
            told = th.rand(len(rows), generator=streams.noise).to(device) >= config.class_dropout
            classes = th.where(told, of_row[rows], self.n_classes)
            optimizer.zero_grad()
            loss = self.loss(x_0, x_t, t, classes, streams.noise)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if progress and (update % 50 == 0 or update == config.n_updates):
                progress(update, config.n_updates)

    def _times(self, n: int, generator: th.Generator) -> Tensor:
        """(n,) steps 1..T, each as likely and spread evenly over a batch, for a quieter loss."""
        spread = (th.arange(n) / n + th.rand(1, generator=generator)) % 1
        return (1 + (spread * self.config.steps).long()).clamp_max(self.config.steps).to(self.device)

    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw (n, 2 S) digits; see `elpa_env.Sampler`."""
        check_n_samples(n)
        target_class = self.space.targets.check(target_class)
        generator = th.Generator().manual_seed(torch_seed(np.random.SeedSequence(seed)))
        starts = range(0, n, _CHUNK)
        parts = [self._denoise(min(_CHUNK, n - start), target_class, generator) for start in starts]
        return np.concatenate(parts)

    @th.no_grad()
    def _denoise(self, n: int, target_class: int, generator: th.Generator) -> NDArray[np.int8]:
        """(n, 2 S) digits, from pure noise back to compositions."""
        noise = self.noise
        x = draw(noise.target.expand(n, -1, -1), generator)  # (n, 2 S)
        for step in range(noise.steps, 0, -1):
            uniform_numbers = th.rand(x.shape, generator=generator).to(x.device)
            rows = th.arange(n, device=x.device)
            if self.config.transition == "absorbing":
                # an unset digit stays so, whatever the network says, with this probability
                stays = (1 - noise.kept[step - 1]) / (1 - noise.kept[step])
                rows = rows[((x == 0) & (uniform_numbers >= stays)).any(dim=1)]
            if len(rows):
                now = x[rows]
                t = th.full((len(rows),), step, device=x.device)
                guess = self._guess(self._guided(now, t, target_class), now)
                x[rows] = _pick(noise.posterior(now, t, guess), uniform_numbers[rows])
        return x.to(th.int8).cpu().numpy()

    def _guided(self, x_t: Tensor, t: Tensor, target_class: int) -> Tensor:
        """(n, 2 S, V + 1) logits with the class, away from those without."""
        weight = self.config.guidance
        logits: Tensor = self.network(x_t, t, th.full_like(t, target_class - 1))
        if weight:
            logits = (1 + weight) * logits - weight * self.network(x_t, t, th.full_like(t, self.n_classes))
        return logits


def draw(probabilities: Tensor, generator: th.Generator) -> Tensor:
    """(...) values drawn by (..., V + 1) probabilities."""
    numbers = th.rand(probabilities.shape[:-1], generator=generator).to(probabilities.device)
    return _pick(probabilities, numbers)


def _pick(probabilities: Tensor, numbers: Tensor) -> Tensor:
    """(...) values at (...) numbers in [0, 1) along the cumulative sums of (..., V + 1) probabilities."""
    cumulative = probabilities.cumsum(dim=-1)
    # scaled to the sum, so that no rounding leads to a value without probability
    return (numbers[..., None] * cumulative[..., -1:] >= cumulative[..., :-1]).sum(dim=-1)
