"""Searching hyperparameters by what the training set alone can tell, as section 2.2 of Türk et al. 2022.

A trial draws hyperparameters at random, trains, and is judged by two figures: the JS distance of what it
draws for the target to the training set's own rows of it, and how many different compositions it draws that
the training set lacks. Part of the rows may be held out; two further figures are then precision and coverage
on these: what share of the held-out rows that it draws are right, and what share of the right ones it finds.
Of an agent that acts against a reward model both are also stated as that model expects them over the whole
space; how far its class probabilities can be trusted is its log loss on the rows that each of its networks
left out, by which a reward model itself is searched. No judge is asked, and no energy but those of the
training set.

A single trial may look good by luck. The best few are therefore trained again, with other seeds and other
rows held out, and the pick is the best mean of these.

Trials are kept in Optuna's storage: a file that processes share, or a database that machines share.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from agents.gflownet import NAME as GFLOWNET
from agents.reward_model import SEARCH as REWARD_MODEL_SEARCH
from agents.reward_model import RewardModel, RewardModelConfig
from agents.train import VARIANTS
from agents.vec_env import CompositionVecEnv
from elpa_env.errors import InputError, at_least, check_choice
from elpa_env.ranges import Choice, SearchSpace
from elpa_env.sampler import Sampler
from elpa_env.seeds import small_seed
from elpa_env.training import TrainingSet
from eval.exact import Drawn, draw
from eval.figures import SearchPoints
from eval.metrics import METRICS, element_distribution, hit_probability, js_distance
from eval.study.plan import config_record
from eval.study.registry import ModelSpec, Task, model_spec

if TYPE_CHECKING:
    import optuna

SAMPLERS: Final = ("random", "tpe", "nsgaii")
"""How the next trial is chosen: at random as in the paper, or by Optuna from those before."""
FRONT_SHARE: Final = 0.5
"""The pick shows at least this share of the new compositions that the best trial shows."""
REWARD_MODEL: Final = "reward-model"
"""Name of the search of the reward model alone, by its log loss on left-out rows."""
DEMANDED: Final = 0.9
"""Precision that an agent is to have by the expectation of its reward model."""
_PAIRS: Final = ("held_out", "expected")
"""What precisions and coverages are from; the last of them that there is decides."""
RULES: Final = {
    "": "of the trials on the front with at least half as many new compositions as the best of them, that of "
    "the smallest JS distance",
    "held_out": "the highest harmonic mean of precision and coverage on the held-out rows",
    "expected": f"of the trials with an expected precision of at least {100 * DEMANDED:g} %, that of the "
    "highest expected coverage; else the highest harmonic mean of the two",
    REWARD_MODEL: "the smallest log loss of classes on left-out rows",
}
"""How `pick` picks, in words, by what the search has to go by."""
_DIRECTIONS: Final = {
    "js_distance": "minimize",
    "new": "maximize",
    "held_out_precision": "maximize",
    "held_out_coverage": "maximize",
    "expected_precision": "maximize",
    "expected_coverage": "maximize",
    "class_log_loss": "minimize",
}
_TITLES: Final = {
    "js_distance": "JS distance to the training set",
    "new": "new compositions",
    "held_out_precision": "held-out precision / %",
    "held_out_coverage": "held-out coverage / %",
    "expected_precision": "expected precision / %",
    "expected_coverage": "expected coverage / %",
    "class_log_loss": "log loss of classes / nats",
    "mae": "left-out error / (eV/atom)",
}
PAIR: Final = ("precision", "coverage")
"""What is stated on held-out rows, and as a reward model expects it."""
_PATIENCE: Final = 10
"""Times the longest trial after which one that still runs is given up."""
_FURTHER: Final = ("class_log_loss", "mae")
"""Figures of trials beside their objectives."""
_MORE: Final = 10
"""Times as many samples, of a model that states no distribution, as are drawn otherwise: few of them are
held-out rows."""


@dataclass(frozen=True)
class SearchPlan:
    """What is searched; a storage holds trials of one plan alone.

    Attributes:
        model: name in the registry.
        preset: hyperparameters that the search leaves as they are where it does not look.
        target_class: 1..k.
        n_samples: valid samples that a trial draws.
        held_out: share of the compounds of the training set that no trial trains on.
        seed: of trials, of their training, and of the rows held out.

    Raises:
        InputError: a value out of range.
    """

    model: str
    preset: str = "default"
    target_class: int = 1
    n_samples: int = 10_000
    held_out: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, 1, "n_samples")
        if not 0 <= self.held_out <= 0.5:
            raise InputError(f"--held-out must be 0..0.5, got {self.held_out:g}")
        if self.model == REWARD_MODEL and self.held_out:
            raise InputError(
                f"--held-out does not go with {REWARD_MODEL}, whose networks leave out rows anyway"
            )
        if not self.ranges:
            raise InputError(
                f"{self.model} has nothing to search: take vae, gan, a dqn, an agent with -model, or "
                f"{REWARD_MODEL}"
            )
        if self.model != REWARD_MODEL and self.preset not in self.spec.presets:
            raise InputError(
                f"{self.model} has no preset {self.preset!r}: take {', '.join(self.spec.presets)}"
            )

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return model_spec(self.model)

    @property
    def ranges(self) -> SearchSpace:
        """Where the search looks."""
        return ranges_of(self.model)

    @property
    def config(self) -> Any:
        """Hyperparameters that stay where the search does not look."""
        return RewardModelConfig() if self.model == REWARD_MODEL else self.spec.presets[self.preset].config

    @property
    def objectives(self) -> list[str]:
        """What trials are judged by."""
        if self.model == REWARD_MODEL:
            return ["class_log_loss"]
        pairs = ["held_out"] if self.held_out else []
        variant = VARIANTS.get(self.model)
        if self.model == GFLOWNET or (variant is not None and variant.source == "model"):
            pairs.append("expected")
        return ["js_distance", "new", *(f"{pair}_{what}" for pair in pairs for what in PAIR)]

    def record(self, training_set: TrainingSet) -> dict[str, Any]:
        """What the storage keeps, and what a search that goes on must be the same in."""
        return {**dataclasses.asdict(self), "training_set": training_set.sha256}


def ranges_of(model: str) -> SearchSpace:
    """Where a search of a model looks; nowhere for one that is not searched."""
    return REWARD_MODEL_SEARCH if model == REWARD_MODEL else model_spec(model).search


def open_study(storage: str, plan: SearchPlan, training_set: TrainingSet) -> optuna.Study:
    """The trials in a storage, which is made where it is not there yet.

    Args:
        storage: a file, or the address of a database as Optuna takes it (``postgresql://...``).
        plan: what is searched.
        training_set: what it is searched on.

    Raises:
        InputError: the storage cannot be used, or holds trials of another plan.
    """
    library = import_optuna()
    try:
        study: optuna.Study = library.create_study(
            storage=_storage(storage),
            study_name=plan.model,
            directions=[_DIRECTIONS[name] for name in plan.objectives],
            load_if_exists=True,
        )
        known = study.user_attrs.get("plan")
    except InputError:
        raise
    except Exception as error:  # a database has many words for what it is not
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"cannot use the storage {storage} ({reason}): name another one") from error
    record = plan.record(training_set)
    if known is None:
        study.set_user_attr("plan", record)
    elif known != record:
        different = next(key for key in record if known.get(key) != record[key])
        raise InputError(
            f"{storage} holds a search of {plan.model} with {different} {known.get(different)!r}, "
            f"not {record[different]!r}: name another storage"
        )
    return study


def existing_study(storage: str, model: str) -> optuna.Study:
    """The trials of a model in a storage that must have some.

    Raises:
        InputError: there are none.
    """
    library = import_optuna()
    if "://" not in storage and not Path(storage).is_file():
        raise InputError(f"no search in {storage}: make one with `elpa search {model} --storage {storage}`")
    try:
        study: optuna.Study = library.load_study(study_name=model, storage=_storage(storage))
        return study
    except Exception as error:
        raise InputError(f"{storage} holds no search of {model}") from error


def import_optuna() -> Any:
    """The library, told to print nothing.

    Raises:
        InputError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError("a search needs Optuna: pip install 'elpasolite[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _storage(storage: str) -> Any:
    """Optuna's storage of that name."""
    if "://" in storage:
        return storage
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = Path(storage)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"--storage must be a file in a folder that is there, got {storage}")
    if path.exists() and path.stat().st_size and not path.read_bytes()[:1] == b"{":
        raise InputError(f"{storage} is no storage of a search: name another file")
    return JournalStorage(JournalFileBackend(str(path)))


def run_trials(
    storage: str,
    plan: SearchPlan,
    training_set: TrainingSet,
    n_trials: int,
    *,
    sampler: str = "random",
    finalists: int = 5,
    repeats: int = 0,
    device: str = "cpu",
    report: Callable[[int, int, str], None] | None = None,
) -> None:
    """Run trials until the storage holds `n_trials` that are complete, those of other processes included.

    Then the best `finalists` of them are trained `repeats` times more.

    With the sampler "random" the hyperparameters of a trial depend on the seed and on its number alone,
    however many processes there are. A trial that fails, as one whose model makes no real composition, is
    kept as such.

    Args:
        storage: see `open_study`.
        plan: what is searched.
        training_set: what it is searched on.
        n_trials: complete trials wanted.
        sampler: one of `SAMPLERS`.
        finalists: how many of the best are trained again.
        repeats: how often.
        device: a torch device.
        report: called after each trial with those complete, those wanted, and a line about it.

    Raises:
        InputError: see `open_study`; numbers out of range.
    """
    check_choice("sampler", sampler, SAMPLERS)
    if finalists < 1 or repeats < 0:
        raise InputError(f"--finalists must be at least 1 and --repeats 0, got {finalists} and {repeats}")
    optuna = import_optuna()
    study = open_study(storage, plan, training_set)
    failed = 0
    while True:
        done = sum("repeat" not in trial.user_attrs for trial in complete(study))
        if done >= n_trials:
            missing = _missing_repeats(study, finalists, repeats)
            if not missing:
                return
            params, repeat = missing[0]
            study.enqueue_trial(params, user_attrs={"repeat": repeat})
        study.sampler = _sampler(optuna, sampler, plan.seed, len(study.trials))
        trial = study.ask()
        if sampler == "random":
            study.sampler = _sampler(optuna, sampler, plan.seed, trial.number)
        repeat = int(trial.user_attrs.get("repeat", 0))
        what = f"trial {trial.number}" + (f" (repeat {repeat})" if repeat else "")
        try:
            values = _run_trial(study, trial, plan, training_set, device)
        except InputError as error:
            trial.set_user_attr("failed", str(error))
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            failed += 1
            shown = f"{what} failed: {error}"
            if failed > 10 + 5 * n_trials:
                raise InputError(f"{failed} trials failed, the last one since {error}") from error
        else:
            done += not repeat
            figures = (f"{_TITLES[name]} {show_figure(name, values[name])}" for name in plan.objectives)
            shown = f"{what}: {', '.join(figures)}"
        if report:
            report(done, n_trials, shown)


def _run_trial(
    study: optuna.Study, trial: Any, plan: SearchPlan, training_set: TrainingSet, device: str
) -> dict[str, float]:
    """Train with what a trial suggests, and tell the study what came of it."""
    config = suggest(trial, plan.ranges, plan.config)
    repeat = int(trial.user_attrs.get("repeat", 0))
    values = judge_trial(plan, training_set, config, trial.number, device, repeat)
    trial.set_user_attr("config", config_record(config))
    for name in values.keys() - set(plan.objectives):
        trial.set_user_attr(name, values[name])
    study.tell(trial, [values[name] for name in plan.objectives])
    return values


def _missing_repeats(study: optuna.Study, finalists: int, repeats: int) -> list[tuple[dict[str, Any], int]]:
    """Parameters and number of the repeats of the best trials that nobody has made or is making."""
    best = ranked(
        study, [_setting_of([trial]) for trial in complete(study) if "repeat" not in trial.user_attrs]
    )
    taken = {
        (_of(trial), trial.user_attrs["repeat"])
        for trial in study.trials
        if "repeat" in trial.user_attrs and not _given_up(trial, study)
    }
    wanted = [(setting, repeat) for repeat in range(1, repeats + 1) for setting in best[:finalists]]
    return [
        (setting.params, repeat) for setting, repeat in wanted if (_text(setting.params), repeat) not in taken
    ]


def _given_up(trial: Any, study: optuna.Study) -> bool:
    """Whether a trial that is said to run has outlived every other by far, so that its process is gone."""
    if trial.state.name != "RUNNING" or trial.datetime_start is None:
        return False
    longest = max((t.duration for t in complete(study) if t.duration), default=None)
    since: datetime.timedelta = datetime.datetime.now() - trial.datetime_start
    return longest is not None and since > _PATIENCE * longest


def _sampler(optuna: Any, name: str, seed: int, number: int) -> Any:
    """Optuna's sampler; what it draws for a trial depends on the seed and the number of the trial."""
    own = small_seed(np.random.SeedSequence(seed, spawn_key=(number, 0)))
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=own)
    if name == "nsgaii":
        return optuna.samplers.NSGAIISampler(seed=own)
    return optuna.samplers.RandomSampler(seed=own)


def suggest(trial: Any, ranges: SearchSpace, config: Any) -> Any:
    """A configuration with what a trial suggests in the place of the fields that are searched."""
    changes: dict[str, dict[str, Any]] = {}
    for name, where in ranges.items():
        if isinstance(where, Choice):
            # Optuna keeps numbers and words alone: a tuple is chosen by its place
            value = where.values[trial.suggest_categorical(name, list(range(len(where.values))))]
        elif where.whole:
            value = trial.suggest_int(name, int(where.low), int(where.high), log=where.log)
        else:
            value = trial.suggest_float(name, where.low, where.high, log=where.log)
        owner, _, field = name.rpartition(".")
        changes.setdefault(owner, {})[field] = value
    for owner, fields in changes.items():
        if owner:
            config = dataclasses.replace(
                config, **{owner: dataclasses.replace(getattr(config, owner), **fields)}
            )
    return dataclasses.replace(config, **changes.get("", {}))


@functools.lru_cache(maxsize=4)
def _split(
    training_set: TrainingSet, held_out: float, seed: int, repeat: int = 0
) -> tuple[TrainingSet, TrainingSet]:
    """Rows to train on, and rows held out, others for every repeat; all orders of a compound together."""
    groups = np.unique(training_set.space.index_to_compound(training_set.index), return_inverse=True)[1]
    key = (1 << 21, repeat) if repeat else (1 << 21,)
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key)).permutation(groups.max() + 1)
    out = np.isin(groups, order[: round(held_out * len(order))])
    kept, left = (training_set.take(np.flatnonzero(rows), training_set.name) for rows in (~out, out))
    return kept, left


def judge_trial(
    plan: SearchPlan,
    training_set: TrainingSet,
    config: Any,
    number: int,
    device: str = "cpu",
    repeat: int = 0,
) -> dict[str, float]:
    """Train with a configuration, and say what the training set can tell of it.

    Args:
        plan: what is searched.
        training_set: all that is known.
        config: hyperparameters.
        number: of the trial, which with the plan's seed decides everything random.
        device: a torch device.
        repeat: of trials with these hyperparameters; each has other rows held out.

    Returns:
        The figures by the names of the plan's objectives, and more where there are.

    Raises:
        InputError: the model cannot be trained, or hardly makes a real composition.
    """
    from eval.study.job import one_thread

    if plan.model == REWARD_MODEL:
        return _judge_reward_model(plan, training_set, config, number)
    space = training_set.space
    rows, left = training_set, None
    if plan.held_out:
        rows, left = _split(training_set, plan.held_out, plan.seed, repeat)
    training, drawing = (
        small_seed(np.random.SeedSequence(plan.seed, spawn_key=(number, stream))) for stream in (1, 2)
    )
    with one_thread():
        sampler = plan.spec.train(Task(config, rows, plan.target_class, training, device))
        drawn = draw(sampler, plan.n_samples, target_class=plan.target_class, seed=drawing, space=space)
    counts = drawn.tally.counts
    in_class = rows.index[rows.energy_class == plan.target_class]
    if len(in_class) == 0:
        raise InputError(f"the training set has no row of {space.targets.title(plan.target_class)}")
    known = element_distribution(space, np.bincount(in_class, minlength=space.n_table))
    values = {
        "js_distance": js_distance(element_distribution(space, counts), known),
        "new": float((counts > 0).sum() - (counts[np.unique(rows.index)] > 0).sum()),
    }
    if left is not None:
        again = small_seed(np.random.SeedSequence(plan.seed, spawn_key=(number, 3)))
        values |= _on_held_out(sampler, drawn, left, plan, again)
    reward_model = _reward_model(sampler)
    if reward_model is not None:
        assert drawn.distribution is not None
        values |= expected_figures(
            reward_model, drawn.distribution, target_class=plan.target_class, n_samples=plan.n_samples
        )
        values["class_log_loss"] = reward_model.report["log_loss"]
    return values


def _on_held_out(
    sampler: Sampler, drawn: Drawn, left: TrainingSet, plan: SearchPlan, seed: int
) -> dict[str, float]:
    """Precision and coverage on rows that were held out; expected ones where a distribution is stated."""
    rows = np.unique(left.index, return_index=True)[1]
    index, right = left.index[rows], left.energy_class[rows] == plan.target_class
    if drawn.distribution is not None:
        shown = drawn.distribution[index]
        found = hit_probability(shown / drawn.distribution.sum(), plan.n_samples)
    else:
        more = draw(
            sampler, _MORE * plan.n_samples, target_class=plan.target_class, seed=seed, space=left.space
        )
        shown = more.tally.counts[index].astype(np.float64)
        found = (drawn.tally.counts[index] > 0).astype(np.float64)
    total = float(shown.sum())
    return {
        "held_out_precision": float(shown[right].sum()) / total if total else 0.0,
        "held_out_coverage": float(found[right].mean()) if right.any() else 0.0,
    }


def _reward_model(sampler: Sampler) -> RewardModel | None:
    """The reward model that an agent acted against; None of anything else."""
    own = getattr(sampler, "reward_model", None)
    if isinstance(own, RewardModel):
        return own
    env = getattr(getattr(sampler, "model", None), "env", None)
    model = env.env.settings.energy_model if isinstance(env, CompositionVecEnv) else None
    return model if isinstance(model, RewardModel) else None


def expected_figures(
    reward_model: RewardModel, distribution: NDArray[np.float64], *, target_class: int, n_samples: int
) -> dict[str, float]:
    """Precision and coverage of a distribution as a reward model expects them.

    They are eqs. 2 and 4 with its class probabilities p in the place of membership: Σ q p, and the mean of
    1 - (1 - q)^N weighted by p.

    Args:
        reward_model: fitted.
        distribution: (n_table,) that is drawn from.
        target_class: 1..k.
        n_samples: N, valid samples.
    """
    index = np.flatnonzero(reward_model.space.composition_mask)
    q = distribution[index] / distribution[index].sum()
    p = reward_model.class_probability(index, target_class)
    return {
        "expected_precision": float(q @ p),
        "expected_coverage": float(p @ hit_probability(q, n_samples) / p.sum()),
    }


def _judge_reward_model(
    plan: SearchPlan, training_set: TrainingSet, config: RewardModelConfig, number: int
) -> dict[str, float]:
    """Fit a reward model, and say how well each of its networks knows the rows that it left out."""
    from eval.study.job import one_thread

    seed = small_seed(np.random.SeedSequence(plan.seed, spawn_key=(number, 1)))
    with one_thread():
        report = RewardModel(config, seed=seed).fit(training_set).report
    if report["log_loss"] is None:
        raise InputError("the reward model has no row of any class to be judged by")
    return {"class_log_loss": report["log_loss"], "mae": report["mae"]}


def complete(study: optuna.Study) -> list[Any]:
    """The trials that were carried through."""
    return [trial for trial in study.trials if trial.state.name == "COMPLETE"]


@dataclass(frozen=True)
class Setting:
    """Hyperparameters with what their trials came to.

    Attributes:
        number: of the first trial.
        trials: how many there are.
        params: as Optuna knows them.
        config: the same as hyperparameters, in the form of a record.
        values: means of the objectives, in the order of the plan.
        further: means of other figures.
    """

    number: int
    trials: int
    params: dict[str, Any]
    config: Mapping[str, Any]
    values: tuple[float, ...]
    further: Mapping[str, float]


def settings(study: optuna.Study) -> list[Setting]:
    """What was tried, repeats of the same hyperparameters as one, in the order of the first trials."""
    groups: dict[str, list[Any]] = {}
    for trial in complete(study):
        groups.setdefault(_of(trial), []).append(trial)
    return [_setting_of(trials) for trials in groups.values()]


def _setting_of(trials: Sequence[Any]) -> Setting:
    first = trials[0]
    return Setting(
        first.number,
        len(trials),
        first.params,
        first.user_attrs.get("config", {}),
        tuple(float(v) for v in np.mean([trial.values for trial in trials], axis=0)),
        {
            name: float(np.mean([trial.user_attrs[name] for trial in trials]))
            for name in _FURTHER
            if name in first.user_attrs
        },
    )


def _of(trial: Any) -> str:
    """What tells the hyperparameters of a trial from others; of one in a queue those that it will have."""
    return _text(trial.params or trial.system_attrs.get("fixed_params", {}))


def _text(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def front(study: optuna.Study) -> list[Setting]:
    """The settings that no other betters in every figure, the one of the smallest first figure first."""
    return _front(study, settings(study))


def _front(study: optuna.Study, found: Sequence[Setting]) -> list[Setting]:
    if not found:
        return []
    signs = [1 if _DIRECTIONS[name] == "minimize" else -1 for name in _names(study)]
    values = np.array([setting.values for setting in found]) * signs
    no_worse = (values[:, None] <= values[None]).all(axis=2)
    bettered: NDArray[np.bool_] = np.any(no_worse & ~no_worse.T, axis=0)
    best = [setting for setting, out in zip(found, bettered, strict=True) if not out]
    return sorted(best, key=lambda setting: (setting.values[0], setting.number))


def pick(study: optuna.Study) -> Setting:
    """The hyperparameters that the rule takes, see `RULES`; where some were trained again, of these.

    Raises:
        InputError: no trial is complete.
    """
    found = settings(study)
    if not found:
        raise InputError("no trial is complete yet: run some first")
    again = [setting for setting in found if setting.trials > 1]
    return ranked(study, again or found)[0]


def ranked(study: optuna.Study, found: Sequence[Setting]) -> list[Setting]:
    """Settings by the rule of a search, the best first; of a rule that takes from the front these alone."""
    rule = _rule(study)
    if rule == REWARD_MODEL:
        return sorted(found, key=lambda setting: (setting.values[0], setting.number))
    if not rule:
        best = _front(study, found)
        most = max((setting.values[1] for setting in best), default=0)
        return [setting for setting in best if setting.values[1] >= FRONT_SHARE * most]

    def key(setting: Setting) -> tuple[float, ...]:
        precision, coverage = setting.values[-2:]
        good = rule == "expected" and precision >= DEMANDED
        return -good, -(coverage if good else _harmonic(precision, coverage)), setting.number

    return sorted(found, key=key)


def _names(study: optuna.Study) -> list[str]:
    """What the trials of a study are judged by, from its plan."""
    plan = study.user_attrs["plan"]
    known = {field.name for field in dataclasses.fields(SearchPlan)}
    return SearchPlan(**{key: value for key, value in plan.items() if key in known}).objectives


def _rule(study: optuna.Study) -> str:
    """Which of `RULES` picks."""
    names = _names(study)
    if names == ["class_log_loss"]:
        return REWARD_MODEL
    return next((pair for pair in reversed(_PAIRS) if f"{pair}_precision" in names), "")


def _harmonic(one: float, other: float) -> float:
    """Harmonic mean of two shares; 0 where either is."""
    return 2 * one * other / (one + other) if one and other else 0.0


def search_table(study: optuna.Study) -> Table:
    """The front as a table, the pick marked, with the hyperparameters of each setting on it."""
    record = search_record(study)
    plan = record["plan"]
    how = (
        "each network's own left-out rows"
        if plan["model"] == REWARD_MODEL
        else f"{plan['n_samples']:,} samples for class {plan['target_class']}, {100 * plan['held_out']:g} % "
        "of the compounds held out"
    )
    states = [trial["state"] for trial in record["trials"]]
    table = Table(
        title=escape(f"{plan['model']}: front of {states.count('complete')} trials, seed {plan['seed']}"),
        caption=f"{states.count('fail')} trials failed; judged by the training set alone, {how}; means where "
        f"a setting was trained more than once\n* the pick: {record['rule']}",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    columns, rows = trial_rows(record)
    for column in columns:
        table.add_column(column.replace("reward_model.", "reward model\n"), justify="right")
    for row in rows:
        if row[0].endswith(("*", "+")):
            table.add_row(*row)
    return table


def show_figure(name: str, value: float) -> str:
    """A figure of a trial."""
    if name in ("js_distance", "class_log_loss", "mae"):
        return METRICS["js_distance"].show(value)
    return f"{value:,.0f}" if name == "new" else f"{100 * value:.1f}"


def _field(config: Mapping[str, Any], name: str) -> str:
    """A hyperparameter of a trial."""
    value: Any = config
    for part in name.split("."):
        value = value[part]
    if isinstance(value, float):
        return f"{value:.3g}"
    return (
        " ".join(map(str, value))
        if isinstance(value, Sequence) and not isinstance(value, str)
        else str(value)
    )


def search_record(study: optuna.Study) -> dict[str, Any]:
    """For a results file: the plan, every trial, the settings with their means, the front and the pick."""
    names = _names(study)
    return {
        "schema_version": 2,
        "plan": study.user_attrs["plan"],
        "objectives": names,
        "ranges": {name: str(where) for name, where in ranges_of(study.user_attrs["plan"]["model"]).items()},
        "trials": [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "repeat": trial.user_attrs.get("repeat", 0),
                "failed": trial.user_attrs.get("failed"),
                **(dict(zip(names, trial.values, strict=True)) if trial.values else {}),
                **{key: trial.user_attrs[key] for key in _FURTHER if key in trial.user_attrs},
            }
            for trial in study.trials
        ],
        "settings": [
            {
                "number": setting.number,
                "trials": setting.trials,
                "config": setting.config,
                **dict(zip(names, setting.values, strict=True)),
                **setting.further,
            }
            for setting in settings(study)
        ],
        "front": [setting.number for setting in front(study)],
        "pick": pick(study).number,
        "rule": RULES[_rule(study)],
    }


def trial_rows(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table of all settings of a `search_record`, the pick first; + is on the front."""
    tried = record["settings"]
    names = [*record["objectives"], *(name for name in _FURTHER if name not in record["objectives"])]
    names = [name for name in names if all(name in setting for setting in tried)]
    columns = ["trial", "trained", *(_TITLES[name] for name in names), *record["ranges"]]
    marks = {number: "+" for number in record["front"]} | {record["pick"]: "*"}
    rows = [
        [
            f"{setting['number']} {marks.get(setting['number'], '')}".strip(),
            str(setting["trials"]),
            *(show_figure(name, setting[name]) for name in names),
            *(_field(setting["config"], name) for name in record["ranges"]),
        ]
        for setting in sorted(tried, key=lambda each: (each["number"] != record["pick"], each[names[0]]))
    ]
    return columns, rows


def search_points(record: Mapping[str, Any]) -> SearchPoints:
    """What a picture shows of a `search_record`: the first two objectives."""
    x, y = (*record["objectives"], "mae")[:2]
    return SearchPoints(
        _TITLES[x],
        _TITLES[y],
        {setting["number"]: (setting[x], setting[y]) for setting in record["settings"]},
        record["front"],
        record["pick"],
    )


def default_storage(model: str) -> str:
    """The file of a model's search unless another is named."""
    return f"search-{model.replace(os.sep, '-')}.journal"
