"""Searching hyperparameters by what the training set alone can tell, as section 2.2 of Türk et al. 2022.

A trial draws hyperparameters at random, trains, and is judged by two figures: the JS distance of what it
draws for the target to the training set's own rows of it, and how many different compositions it draws that
the training set lacks. Part of the rows may be held out; the third figure is then what share of the held-out
rows that it draws are right. No judge is asked, and no energy but those of the training set.

Trials are kept in Optuna's storage: a file that processes share, or a database that machines share.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from elpa_env.errors import InputError, at_least, check_choice
from elpa_env.ranges import Choice, SearchSpace
from elpa_env.seeds import small_seed
from elpa_env.training import TrainingSet
from eval.exact import draw
from eval.metrics import METRICS, element_distribution, js_distance
from eval.study.plan import config_record
from eval.study.registry import ModelSpec, Task, model_spec

if TYPE_CHECKING:
    import optuna

SAMPLERS: Final = ("random", "tpe", "nsgaii")
"""How the next trial is chosen: at random as in the paper, or by Optuna from those before."""
FRONT_SHARE: Final = 0.5
"""The pick shows at least this share of the new compositions that the best trial shows."""
RULE: Final = (
    "on the front, of the trials with at least half as many new compositions as the best, that of the "
    "smallest JS distance, or with rows held out that with the most of these right"
)
"""How `pick` picks, in words."""
_DIRECTIONS: Final = {"js_distance": "minimize", "new": "maximize", "held_out_precision": "maximize"}
_TITLES: Final = {
    "js_distance": "JS distance to the training set",
    "new": "new compositions",
    "held_out_precision": "right of held-out rows / %",
}


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
        if not self.spec.search:
            raise InputError(
                f"{self.model} has nothing to search: take vae, gan, a dqn or an agent with -model"
            )
        if self.preset not in self.spec.presets:
            raise InputError(
                f"{self.model} has no preset {self.preset!r}: take {', '.join(self.spec.presets)}"
            )

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return model_spec(self.model)

    @property
    def objectives(self) -> list[str]:
        """What trials are judged by."""
        return list(_DIRECTIONS)[: 3 if self.held_out else 2]

    def record(self, training_set: TrainingSet) -> dict[str, Any]:
        """What the storage keeps, and what a search that goes on must be the same in."""
        return {**dataclasses.asdict(self), "training_set": training_set.sha256}


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
    device: str = "cpu",
    report: Callable[[int, int, str], None] | None = None,
) -> None:
    """Run trials until the storage holds `n_trials` that are complete, those of other processes included.

    With the sampler "random" the hyperparameters of a trial depend on the seed and on its number alone,
    however many processes there are. A trial that fails, as one whose model makes no real composition, is
    kept as such.

    Args:
        storage: see `open_study`.
        plan: what is searched.
        training_set: what it is searched on.
        n_trials: complete trials wanted.
        sampler: one of `SAMPLERS`.
        device: a torch device.
        report: called after each trial with those complete, those wanted, and a line about it.

    Raises:
        InputError: see `open_study`.
    """
    check_choice("sampler", sampler, SAMPLERS)
    optuna = import_optuna()
    study = open_study(storage, plan, training_set)
    failed = 0
    while (done := len(complete(study))) < n_trials:
        study.sampler = _sampler(optuna, sampler, plan.seed, len(study.trials))
        trial = study.ask()
        if sampler == "random":
            study.sampler = _sampler(optuna, sampler, plan.seed, trial.number)
        try:
            config = suggest(trial, plan.spec.search, plan.spec.presets[plan.preset].config)
            values = judge_trial(plan, training_set, config, trial.number, device)
        except InputError as error:
            trial.set_user_attr("failed", str(error))
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            failed += 1
            if report:
                report(done, n_trials, f"trial {trial.number} failed: {error}")
            if failed > 10 + 5 * n_trials:
                raise InputError(f"{failed} trials failed, the last one since {error}") from error
            continue
        trial.set_user_attr("config", config_record(config))
        study.tell(trial, [values[name] for name in plan.objectives])
        if report:
            shown = ", ".join(f"{_TITLES[name]} {_show(name, values[name])}" for name in plan.objectives)
            report(done + 1, n_trials, f"trial {trial.number}: {shown}")


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


@functools.lru_cache(maxsize=2)
def _split(training_set: TrainingSet, held_out: float, seed: int) -> tuple[TrainingSet, TrainingSet]:
    """Rows to train on, and rows held out; all orders of a compound together."""
    groups = np.unique(training_set.space.index_to_compound(training_set.index), return_inverse=True)[1]
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1 << 21,))).permutation(
        groups.max() + 1
    )
    out = np.isin(groups, order[: round(held_out * len(order))])
    kept, left = (training_set.take(np.flatnonzero(rows), training_set.name) for rows in (~out, out))
    return kept, left


def judge_trial(
    plan: SearchPlan, training_set: TrainingSet, config: Any, number: int, device: str = "cpu"
) -> dict[str, float]:
    """Train with a configuration, and say what the training set can tell of it.

    Args:
        plan: what is searched.
        training_set: all that is known.
        config: hyperparameters.
        number: of the trial, which with the plan's seed decides everything random.
        device: a torch device.

    Returns:
        The figures by the names of the plan's objectives.

    Raises:
        InputError: the model cannot be trained, or hardly makes a real composition.
    """
    from eval.study.job import one_thread

    space = training_set.space
    rows, left = _split(training_set, plan.held_out, plan.seed) if plan.held_out else (training_set, None)
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
        right = counts[left.index] * (left.energy_class == plan.target_class)
        seen = counts[left.index].sum()
        values["held_out_precision"] = float(right.sum() / seen) if seen else 0.0
    return values


def complete(study: optuna.Study) -> list[Any]:
    """The trials that were carried through."""
    return [trial for trial in study.trials if trial.state.name == "COMPLETE"]


def front(study: optuna.Study) -> list[Any]:
    """The trials that no other betters in every figure, the one of the smallest JS distance first."""
    return sorted(study.best_trials, key=lambda trial: (trial.values[0], trial.number))


def pick(study: optuna.Study) -> Any:
    """The trial whose hyperparameters the rule takes.

    Of the trials on the front that show at least half as many new compositions as the best of all, that of
    the smallest JS distance; with rows held out that of the highest share of right ones among them.

    Raises:
        InputError: no trial is complete.
    """
    trials = front(study)
    if not trials:
        raise InputError("no trial is complete yet: run some first")
    most = max(trial.values[1] for trial in trials)
    enough = [trial for trial in trials if trial.values[1] >= FRONT_SHARE * most]
    if len(enough[0].values) > 2:
        return max(enough, key=lambda trial: (trial.values[2], -trial.values[0]))
    return enough[0]


def search_table(study: optuna.Study, ranges: SearchSpace) -> Table:
    """The front as a table, the pick marked, with the hyperparameters of each trial on it."""
    plan = study.user_attrs["plan"]
    names = list(_DIRECTIONS)[: len(study.directions)]
    chosen = pick(study)
    states = [trial.state.name for trial in study.trials]
    table = Table(
        title=escape(f"{plan['model']}: front of {states.count('COMPLETE')} trials, seed {plan['seed']}"),
        caption=f"{states.count('FAIL')} trials failed; judged by the training set alone, "
        f"{plan['n_samples']:,} samples for class {plan['target_class']}, {100 * plan['held_out']:g} % of "
        f"the compounds held out\n* the pick: {RULE}",
        caption_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("trial", justify="right")
    for name in names:
        table.add_column(_TITLES[name], justify="right")
    for name in ranges:
        table.add_column(name.replace("reward_model.", "reward model\n"), justify="right")
    for trial in front(study):
        config = trial.user_attrs["config"]
        table.add_row(
            f"{trial.number}{' *' if trial.number == chosen.number else ''}",
            *(_show(name, value) for name, value in zip(names, trial.values, strict=True)),
            *(_setting(config, name) for name in ranges),
        )
    return table


def _show(name: str, value: float) -> str:
    """A figure of a trial."""
    if name == "js_distance":
        return METRICS["js_distance"].show(value)
    return f"{value:,.0f}" if name == "new" else f"{100 * value:.1f}"


def _setting(config: Mapping[str, Any], name: str) -> str:
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
    """For a results file: the plan, every trial, the front and the pick."""
    names = list(_DIRECTIONS)[: len(study.directions)]
    return {
        "schema_version": 1,
        "plan": study.user_attrs["plan"],
        "trials": [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "config": trial.user_attrs.get("config"),
                "failed": trial.user_attrs.get("failed"),
                **(dict(zip(names, trial.values, strict=True)) if trial.values else {}),
            }
            for trial in study.trials
        ],
        "front": [trial.number for trial in front(study)],
        "pick": pick(study).number,
    }


def default_storage(model: str) -> str:
    """The file of a model's search unless another is named."""
    return f"search-{model.replace(os.sep, '-')}.journal"
