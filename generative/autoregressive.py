"""Conditional autoregressive network: the digits of a composition one by one, each given those before.

The chain rule p(x | c) = Π p(d_t | d_1 ... d_(t-1), c) with one network for every step (as NADE, Larochelle
and Murray 2011, or a decoder of text), trained by likelihood. A digit that no composition could follow has no
probability, so that every sample is a composition; and since all states can be visited, the distribution is
known exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch as th
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from elpa_env.errors import at_least, in_range
from elpa_env.ranges import Between, Choice, SearchSpace
from elpa_env.rules import action_masks
from elpa_env.sampler import FEWER, SEARCHED, Preset, Progress
from elpa_env.sampling import sample_policy
from elpa_env.training import ClassBalancedSampler, TrainingSet
from generative.conditional import ConditionalModel, Streams
from generative.networks import labelled_rows, linear, uniform


@dataclass(frozen=True)
class AutoregressiveConfig:
    """Hyperparameters; the defaults are those that a search picked.

    Attributes:
        hidden: nodes of each hidden layer.
        layers: hidden layers.
        dropout: share of the nodes of a hidden layer that are left out of an update.
        n_updates: network updates.
        batch_size: compositions an update.
        learning_rate: AdamW's, at its height.
        weight_decay: decoupled, AdamW's.

    Raises:
        InputError: a value out of range.
    """

    hidden: int = 128
    layers: int = 3
    dropout: float = 0.379
    n_updates: int = 2_000
    batch_size: int = 125
    learning_rate: float = 7.3e-4
    weight_decay: float = 0.231

    def __post_init__(self) -> None:
        at_least(self, 1, "hidden", "layers", "n_updates", "batch_size")
        in_range(self, 0, math.inf, "learning_rate", "weight_decay")
        in_range(self, 0, 0.9, "dropout")


PRESETS: Final = {
    "quick": Preset(AutoregressiveConfig(n_updates=1_000), f"{SEARCHED}, with fewer updates to save time"),
    "small": Preset(AutoregressiveConfig(n_updates=500), FEWER),
    "default": Preset(AutoregressiveConfig(), SEARCHED),
}
"""Hyperparameters that ship with the autoregressive network."""
SEARCH: Final[SearchSpace] = {
    "hidden": Choice((128, 256)),
    "layers": Choice((2, 3)),
    "dropout": Between(0.1, 0.6),
    "n_updates": Choice((1_000, 2_000, 3_000)),
    "learning_rate": Between(5e-4, 8e-3, log=True),
    "weight_decay": Between(1e-2, 1.0, log=True),
}
"""Where a search looks."""


class DigitNetwork(nn.Module):
    """Logits of the next digit of compositions that are begun.

    The first layer is a sum over what every digit is (or that it is unset) and the class, so that the states
    that a composition passes through differ in one term each and cost one running sum.

    Args:
        config: hyperparameters.
        limits: (2 S,) values of each digit.
        n_classes: k.
        generator: of the weights.
    """

    def __init__(
        self, config: AutoregressiveConfig, limits: tuple[int, ...], n_classes: int, generator: th.Generator
    ) -> None:
        super().__init__()
        width, n_steps = config.hidden, len(limits)
        self.dropout = config.dropout
        self.of_digit = uniform((n_steps, max(limits) + 1, width), n_steps + 1, generator)  # value 0 = unset
        self.of_class = uniform((n_classes, width), n_steps + 1, generator)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(config.layers)])
        self.hidden = nn.ModuleList([linear(width, width, generator) for _ in range(config.layers - 1)])
        self.head = linear(width, max(limits), generator)

    def forward(self, digits: Tensor, one_hot: Tensor) -> Tensor:
        """(n, A) logits of the next digit of (n, 2 S) digits, 0 = unset, and (n, k) classes."""
        return self._above(self._of_digits(digits).sum(dim=1) + one_hot @ self.of_class)

    def along(self, digits: Tensor, one_hot: Tensor, generator: th.Generator | None = None) -> Tensor:
        """(n, 2 S, A) logits of every digit of complete compositions given those before it.

        Args:
            digits: (n, 2 S), all set.
            one_hot: (n, k) classes.
            generator: of dropout; without one nothing is left out.
        """
        unset = self.of_digit[:, 0]  # (2 S, hidden)
        gain = self._of_digits(digits) - unset  # (n, 2 S, hidden): what setting a digit changes
        before = gain.cumsum(dim=1) - gain
        start = one_hot @ self.of_class + unset.sum(dim=0)  # (n, hidden)
        return self._above(start[:, None] + before, generator)

    def _of_digits(self, digits: Tensor) -> Tensor:
        """(n, 2 S, hidden) terms of (n, 2 S) digits."""
        first_row = th.arange(digits.shape[1], device=digits.device) * self.of_digit.shape[1]
        return F.embedding(digits + first_row, self.of_digit.flatten(end_dim=1))

    def _above(self, x: Tensor, generator: th.Generator | None = None) -> Tensor:
        """(..., A) logits of (..., hidden) sums of the first layer."""
        for layer, norm in enumerate(self.norms):
            if layer:
                x = self.hidden[layer - 1](x)
            x = F.silu(norm(x))
            if generator is not None and self.dropout:
                # the same nodes for all steps of a composition, eight times fewer random numbers
                kept = th.rand(x.shape[0], 1, x.shape[-1], generator=generator) >= self.dropout
                x = x * (kept / (1 - self.dropout)).to(x.device)
        logits: Tensor = self.head(x)
        return logits


class AutoregressiveModel(ConditionalModel[AutoregressiveConfig]):
    """Conditional autoregressive network, see `ConditionalModel` for its arguments.

    It states its distribution, see `elpa_env.ExactSampler`, where the states of its space can be visited.
    """

    name = "autoregressive"
    config_type = AutoregressiveConfig
    presets = PRESETS

    @property
    def exact(self) -> bool:
        """Whether it can state its distribution."""
        return self.space.solvable

    def _build(self, generator: th.Generator) -> None:
        self.network = DigitNetwork(self.config, self.space.states.widths, self.n_classes, generator)

    def loss(
        self, digits: Tensor, one_hot: Tensor, masks: Tensor, generator: th.Generator | None = None
    ) -> Tensor:
        """Mean of -log p(x | c) over a batch, in nats.

        Args:
            digits: (n, 2 S) complete compositions.
            one_hot: (n, k) their classes.
            masks: (n, 2 S, A) True where a digit is open given those before it.
            generator: of dropout; None leaves nothing out.
        """
        logits = self.network.along(digits, one_hot, generator).masked_fill(~masks, -math.inf)
        chosen = logits.log_softmax(dim=2).gather(2, digits[..., None] - 1)
        return -chosen.sum(dim=(1, 2)).mean()

    def _train(self, training_set: TrainingSet, streams: Streams, progress: Progress | None) -> None:
        config = self.config
        one_hot = labelled_rows(training_set, self.device)[:, self.n_digits :]
        digits = th.as_tensor(training_set.digits, dtype=th.int64, device=self.device)
        masks = th.as_tensor(masks_along(training_set), device=self.device)
        balanced = ClassBalancedSampler(training_set.energy_class)
        optimizer = th.optim.AdamW(
            self.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        schedule = th.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.n_updates)
        batches = balanced.batches(config.batch_size, config.n_updates, streams.batches)
        for update, chosen in enumerate(batches, start=1):
            rows = th.as_tensor(chosen, device=self.device)
            optimizer.zero_grad()
            loss = self.loss(digits[rows], one_hot[rows], masks[rows], streams.noise)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if progress and (update % 50 == 0 or update == config.n_updates):
                progress(update, config.n_updates)

    @th.no_grad()
    def probabilities(self, digits: NDArray[np.int8], *, target_class: int) -> NDArray[np.float64]:
        """(m, n_actions) action probabilities of (m, 2 S) unfinished states; 0 where none can follow."""
        one_hot = th.zeros(1, self.n_classes, device=self.device)
        one_hot[:, target_class - 1] = 1
        states = th.as_tensor(digits, dtype=th.int64, device=self.device)
        open_ = th.as_tensor(action_masks(self.space, digits, "composition"), device=self.device)
        logits = self.network(states, one_hot).masked_fill(~open_, -math.inf)
        return np.asarray(logits.double().softmax(dim=1).cpu().numpy())

    def distribution(self, target_class: int) -> NDArray[np.float64]:
        """(n_table,) probability of every composition, exactly; see `elpa_env.ExactSampler`."""
        target_class = self.space.targets.check(target_class)
        return self.space.tree.policy_distribution(
            lambda _, digits: self.probabilities(digits, target_class=target_class)
        )

    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw (n, 2 S) digits; see `elpa_env.Sampler`."""
        target_class = self.space.targets.check(target_class)
        return sample_policy(
            self.space, lambda digits: self.probabilities(digits, target_class=target_class), n, seed=seed
        )


def masks_along(training_set: TrainingSet) -> NDArray[np.bool_]:
    """(n, 2 S, A) True where a composition can follow a value of a digit, given those before it in a row."""
    space, digits = training_set.space, training_set.digits
    begun = (np.where(np.arange(space.n_steps) < step, digits, np.int8(0)) for step in range(space.n_steps))
    return np.stack([action_masks(space, prefix, "composition") for prefix in begun], axis=1)
