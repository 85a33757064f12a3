"""A generative flow network on the tree of states, trained by trajectory balance against a reward model.

A flow network (Bengio et al. 2021, arXiv 2106.04399) is to draw compositions x in proportion to R(x). Where
an episode is x's alone, as in a tree, the backward policy is certain, and trajectory balance (Malkin et al.
2022, arXiv 2201.13259, eq. 14) asks of every episode that

    log Z + Σ_t log P_F(s_(t+1) | s_t) = log R(x),    log R(x) = β reward(x).

With the reward of a `RewardModel` the solution is the exact soft policy that ``plan`` states and that the
soft Q-learning of ``dqn-soft-model`` approaches, too; both may ask the reward model as often.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch as th
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.checkpoint import FORMAT, one_line, read_record
from agents.generators import preserved_generators
from agents.policies import ElementEmbedding
from agents.reward_model import RewardModel, RewardModelConfig
from agents.train import VARIANTS, WARM_UP, DQNConfig, reward_model_seed
from elpa_env.checkpoint import restore, write_checkpoint
from elpa_env.env import observation_space
from elpa_env.errors import InputError, at_least, in_range
from elpa_env.ranges import Between, Choice, SearchSpace
from elpa_env.rules import action_masks, initial_digits, observe
from elpa_env.sampler import FEWER, SEARCHED, Access, Preset, Progress, chosen_by
from elpa_env.sampling import sample_policy
from elpa_env.seeds import spawn, torch_seed
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.training import TrainingSet

_AGENT: Final[DQNConfig] = VARIANTS["dqn-soft-model"].presets["default"].config
"""Whose reward model, β and number of queries are taken over, so that both can be compared."""


@dataclass(frozen=True)
class GFlowNetConfig:
    """Hyperparameters; the defaults are those that a search picked.

    Attributes:
        beta: β; log R(x) = β reward(x).
        hidden: nodes of the hidden layers; the first is the width of the embedding of what stands on the
            sites, see `ElementEmbedding`.
        n_rounds: rounds of new episodes; the first `agents.train.WARM_UP` draw all open actions alike.
        n_episodes: new episodes a round.
        n_updates: network updates, spread over the rounds.
        batch_size: episodes an update, from all that were drawn so far.
        fresh_share: share of a batch that is from the last rounds.
        learning_rate: Adam's, at its height.
        log_z_learning_rate: that of log Z.
        exploration: share of actions drawn from all open ones alike, instead of from P_F.
        reward_model: hyperparameters of the reward model.

    Raises:
        InputError: a value out of range.
    """

    beta: float = _AGENT.beta
    hidden: tuple[int, ...] = (256, 128, 128)
    n_rounds: int = WARM_UP + _AGENT.n_updates // 8
    n_episodes: int = _AGENT.n_envs
    n_updates: int = 3_000
    batch_size: int = 256
    fresh_share: float = 1.0
    learning_rate: float = 4e-3
    log_z_learning_rate: float = 0.1
    exploration: float = 0.418
    reward_model: RewardModelConfig = field(default_factory=lambda: _AGENT.reward_model)

    def __post_init__(self) -> None:
        at_least(self, 1, "n_rounds", "n_episodes", "n_updates", "batch_size")
        in_range(self, 0, math.inf, "beta", "learning_rate", "log_z_learning_rate")
        in_range(self, 0, 1, "exploration", "fresh_share")
        if len(self.hidden) < 2 or min(self.hidden) < 1:
            raise InputError(f"hidden must name two layers or more with nodes, got {self.hidden}")


def _presets() -> Mapping[str, Preset]:
    default, by = GFlowNetConfig(), SEARCHED
    agents = VARIANTS["dqn-soft-model"].presets
    quick = replace(
        default,
        n_rounds=WARM_UP + agents["quick"].config.n_updates // 8,
        n_updates=default.n_updates // 3,
        reward_model=agents["quick"].config.reward_model,
    )
    small = replace(
        default,
        n_rounds=WARM_UP + 125,
        n_episodes=agents["small"].config.n_envs,
        n_updates=1_000,
        reward_model=agents["small"].config.reward_model,
    )
    return {
        "quick": Preset(quick, f"{by}, with fewer updates to save time"),
        "small": Preset(small, FEWER),
        "default": Preset(default, by),
    }


PRESETS: Final = _presets()
"""Hyperparameters that ship with the flow network."""
SEARCH: Final[SearchSpace] = {
    "learning_rate": Between(1e-3, 1e-2, log=True),
    "log_z_learning_rate": Choice((0.03, 0.1, 0.3)),
    "exploration": Between(0.0, 0.6),
    "fresh_share": Choice((0.25, 0.5, 1.0)),
}
"""Where a search looks; β and the reward model are those of ``dqn-soft-model``."""
NAME: Final = "gflownet"


class ForwardPolicy(nn.Module):
    """P_F as logits of the next digit, and log Z.

    Args:
        hidden: nodes of the layers.
        space: of the compositions.
    """

    def __init__(self, hidden: tuple[int, ...], space: Space) -> None:
        super().__init__()
        layers: list[nn.Module] = [ElementEmbedding(observation_space(space), hidden[0], space)]  # type: ignore[arg-type]
        for n_in, n_out in itertools.pairwise(hidden):
            layers += [nn.Linear(n_in, n_out), nn.SiLU()]
        self.network = nn.Sequential(*layers, nn.Linear(hidden[-1], space.n_actions))
        self.log_z = nn.Parameter(th.zeros(()))

    def forward(self, observation: Tensor, masks: Tensor) -> Tensor:
        """(..., A) log P_F of (..., 2 S) states; -inf where (..., A) `masks` is False."""
        logits: Tensor = self.network(observation.flatten(end_dim=-2)).view(masks.shape)
        log_p: Tensor = logits.masked_fill(~masks, -math.inf).log_softmax(dim=-1)
        return log_p

    def along(self, episodes: Episodes) -> Tensor:
        """(n, 2 S) log P_F of every action of episodes."""
        log_p: Tensor = self(episodes.observation, episodes.masks)
        return log_p.gather(2, episodes.actions[..., None])[..., 0]


@dataclass(frozen=True, eq=False)
class Episodes:
    """Finished episodes, each decision of them beside the state that it was made in.

    Attributes:
        observation: (n, 2 S, 2 S) what the states show.
        masks: (n, 2 S, A) True where an action is open.
        actions: (n, 2 S) from 0.
        log_reward: (n,) log R.
    """

    observation: Tensor
    masks: Tensor
    actions: Tensor
    log_reward: Tensor


def trajectory_balance(log_z: Tensor, log_forward: Tensor, log_reward: Tensor) -> Tensor:
    """Mean of (log Z + Σ log P_F - log R)², eq. 14 of Malkin et al. 2022 where log P_B is 0.

    Args:
        log_z: () log Z.
        log_forward: (n, steps) log P_F of the actions of n episodes.
        log_reward: (n,) log R of what they end in.
    """
    return (log_z + log_forward.sum(dim=1) - log_reward).square().mean()


class GFlowNetSampler:
    """A generative flow network for one class, trained against a reward model of a training set.

    Args:
        target_class: 1..k.
        config: hyperparameters.
        space: of the compositions.
        seed: of everything random in `fit`.
        device: a torch device.

    Attributes:
        policy: P_F and log Z.
        reward_model: what it was trained against; None before training and of one that was loaded.
        trained_on: record of the training set; None before training.
        access: what it saw, see `elpa_env.Sampler`.

    Raises:
        InputError: there is no such class.
    """

    name = NAME

    def __init__(
        self,
        target_class: int = 1,
        config: GFlowNetConfig | None = None,
        *,
        space: Space = ELPASOLITE_SPACE,
        seed: int = 0,
        device: th.device | str = "cpu",
    ) -> None:
        self.config = config or GFlowNetConfig()
        self.space = space
        self.exact = space.solvable
        self.target_class = space.targets.check(target_class)
        self.seed = seed
        self.device = th.device(device)
        self.reward_model: RewardModel | None = None
        self.trained_on: dict[str, Any] | None = None
        self.access = Access("model-based")
        self._start()

    def _start(self) -> tuple[np.random.Generator, np.random.Generator]:
        """Make the network anew; return the generators of its episodes and of its batches."""
        weights, episodes, batches = spawn(spawn(self.seed, 2)[0], 3)
        with preserved_generators():
            th.manual_seed(torch_seed(weights))
            self.policy = ForwardPolicy(self.config.hidden, self.space).to(self.device)
        return np.random.default_rng(episodes), np.random.default_rng(batches)

    def fit(self, training_set: TrainingSet, progress: Progress | None = None) -> GFlowNetSampler:
        """Fit the reward model, then train against it; an earlier training is forgotten.

        Args:
            training_set: all that is known.
            progress: called with updates made and updates to make, those of the reward model first.

        Raises:
            InputError: the training set is of another space, or has too few rows for a reward model.
        """
        self.space.check_same(training_set.space, "the training set")
        config = self.config
        first = config.reward_model.n_updates

        def ahead(done: int) -> None:
            if progress:
                progress(done, first + config.n_updates)

        model = RewardModel(config.reward_model, seed=reward_model_seed(self.seed))
        model.fit(training_set, lambda done, _: ahead(done))
        self.learn(model, lambda done, _: ahead(first + done))
        self.reward_model = model
        self.trained_on = {**(model.trained_on or {}), "reward_model": model.report}
        self.access = Access(
            "model-based",
            labels=training_set.n_labels,
            model_queries=config.n_rounds * config.n_episodes,
            chosen_by=chosen_by(config, (preset for preset in PRESETS.values()), self.space),
        )
        return self

    def learn(self, model: RewardModel, progress: Progress | None = None) -> None:
        """Train from the start against a fitted reward model.

        Args:
            model: its method `reward` is asked about every new episode.
            progress: called with updates made and updates to make.
        """
        config = self.config
        acting, batches = self._start()
        networks = {"params": self.policy.network.parameters(), "lr": config.learning_rate}
        log_z = {"params": [self.policy.log_z], "lr": config.log_z_learning_rate}
        optimizer = th.optim.Adam([networks, log_z], fused=True)
        schedule = th.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.n_updates)
        digits = np.zeros((config.n_rounds * config.n_episodes, self.space.n_steps), dtype=np.int8)
        log_reward = np.zeros(len(digits))
        done = 0
        for round_ in range(config.n_rounds):
            have = round_ * config.n_episodes
            new = slice(have, have + config.n_episodes)
            exploration = 1.0 if round_ < WARM_UP else config.exploration
            digits[new] = self._act(config.n_episodes, exploration, acting)
            numbers = self.space.index_to_numbers(self.space.digits_to_index(digits[new]))
            log_reward[new] = config.beta * model.reward(numbers, None, None, self.target_class)
            if round_ == WARM_UP - 1 or (not round_ and config.n_rounds < WARM_UP):
                self._guess_log_z(digits[: new.stop], log_reward[: new.stop])
            due = config.n_updates * (round_ + 1) // config.n_rounds
            for _ in range(done, due):
                rows = self._rows(new.stop, batches)
                episodes = episodes_of(self.space, digits[rows], log_reward[rows], self.device)
                optimizer.zero_grad()
                self.loss(episodes).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            done = due
            if progress:
                progress(done, config.n_updates)

    def loss(self, episodes: Episodes) -> Tensor:
        """Trajectory balance of episodes."""
        return trajectory_balance(self.policy.log_z, self.policy.along(episodes), episodes.log_reward)

    def _rows(self, have: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """(batch_size,) of the episodes so far, a share from the last rounds."""
        config = self.config
        fresh = round(config.fresh_share * config.batch_size)
        last = min(have, 2 * config.n_episodes)
        return np.concatenate(
            [have - 1 - rng.integers(last, size=fresh), rng.integers(have, size=config.batch_size - fresh)]
        )

    def _guess_log_z(self, digits: NDArray[np.int8], log_reward: NDArray[np.float64]) -> None:
        """Start log Z at log of the mean of R / P over episodes of the warm-up, which drew with P."""
        masks = episodes_of(self.space, digits, log_reward, th.device("cpu")).masks
        log_p = -masks.sum(dim=2).double().log().sum(dim=1)
        weight = th.as_tensor(log_reward) - log_p
        with th.no_grad():
            self.policy.log_z.fill_(float(weight.logsumexp(dim=0) - math.log(len(weight))))

    def _act(self, n: int, exploration: float, rng: np.random.Generator) -> NDArray[np.int8]:
        """(n, 2 S) digits of new episodes, actions drawn from P_F or, by a share, from all open ones."""
        digits = initial_digits(self.space, n)
        for step in range(self.space.n_steps):
            p = self.probabilities(digits, target_class=self.target_class)
            even = p > 0
            p = (1 - exploration) * p + exploration * even / even.sum(axis=1, keepdims=True)
            cumulative = p.cumsum(axis=1)
            drawn = rng.random((n, 1)) * cumulative[:, -1:]
            digits[:, step] = (drawn >= cumulative[:, :-1]).sum(axis=1) + 1
        return digits

    @th.no_grad()
    def probabilities(self, digits: NDArray[np.int8], *, target_class: int) -> NDArray[np.float64]:
        """(m, n_actions) P_F of (m, 2 S) unfinished states.

        Raises:
            InputError: it was trained for another class.
        """
        self.check_class(target_class)
        observation = th.as_tensor(observe(self.space, np.ascontiguousarray(digits)), device=self.device)
        masks = th.as_tensor(action_masks(self.space, digits, "composition"), device=self.device)
        return np.asarray(self.policy(observation, masks).double().exp().cpu().numpy())

    def check_class(self, target_class: int) -> None:
        """Raise InputError if it was trained for another class."""
        target_class = self.space.targets.check(target_class)
        if target_class != self.target_class:
            raise InputError(
                f"this flow network was trained for class {self.target_class}, not {target_class}: "
                f"train another with --target-class {target_class}"
            )

    def distribution(self, target_class: int) -> NDArray[np.float64]:
        """(n_table,) probability of every composition, exactly; see `elpa_env.ExactSampler`."""
        self.check_class(target_class)
        return self.space.tree.policy_distribution(
            lambda _, digits: self.probabilities(digits, target_class=target_class)
        )

    def sample(self, n: int, *, target_class: int, seed: int | None = None) -> NDArray[np.int8]:
        """Draw (n, 2 S) digits; see `elpa_env.Sampler`."""
        self.check_class(target_class)
        return sample_policy(
            self.space, lambda digits: self.probabilities(digits, target_class=target_class), n, seed=seed
        )

    def save(self, path: str | Path) -> None:
        """Write a checkpoint, all or nothing; the reward model stays behind."""
        record = {
            "format": FORMAT,
            "model": NAME,
            "config": dataclasses.asdict(self.config),
            "space": self.space.to_dict(),
            "target_class": self.target_class,
            "trained_on": self.trained_on,
            "access": dataclasses.asdict(self.access),
        }
        state = self.policy.state_dict()
        write_checkpoint(path, record, {name: value.cpu().numpy() for name, value in state.items()})

    @classmethod
    def load(cls, path: str | Path, *, device: th.device | str = "cpu") -> GFlowNetSampler:
        """Read a checkpoint; nothing in the file is run.

        Raises:
            InputError: it is none, is damaged, or is not of a flow network.
        """
        record, arrays = read_record(path)
        if record["model"] != NAME:
            raise InputError(f"{path} holds a {str(record['model'])[:60]}, not a {NAME}")
        with one_line(path):
            settings = dict(record["config"])
            reward_model = restore(RewardModelConfig, settings.pop("reward_model"))
            config = replace(restore(GFlowNetConfig, settings), reward_model=reward_model)
            space = Space.from_dict(record["space"])
            sampler = cls(record["target_class"], config, space=space, device=device)
            sampler.policy.load_state_dict({name: th.as_tensor(value) for name, value in arrays.items()})
            sampler.trained_on = record["trained_on"]
            sampler.access = restore(Access, record["access"])
        return sampler


def episodes_of(
    space: Space, digits: NDArray[np.int8], log_reward: NDArray[np.float64], device: th.device
) -> Episodes:
    """The episodes that end in (n, 2 S) compositions; in a tree there is one each."""
    n, steps = digits.shape
    before = np.tril(np.ones((steps, steps), dtype=np.int8), -1)  # (step, digit): whether it is set by then
    states = (digits[:, None] * before).reshape(n * steps, steps)
    observation = observe(space, states).reshape(n, steps, steps)
    masks = action_masks(space, states, "composition").reshape(n, steps, -1)
    return Episodes(
        th.as_tensor(observation, device=device),
        th.as_tensor(masks, device=device),
        th.as_tensor(digits.astype(np.int64) - 1, device=device),
        th.as_tensor(log_reward, dtype=th.float32, device=device),
    )
