"""The training set as a dataset of episodes in the form of Minari, for offline reinforcement learning."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from elpa_env import catalogue
from elpa_env.env import CompositionEnv, ElpasoliteEnv, PerovskiteEnv
from elpa_env.errors import InputError
from elpa_env.files import atomic_folder, write_text
from elpa_env.rules import sparse_reward
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.training import TrainingSet

AUTHORS: Final = frozenset({"F. A. Faber", "A. Lindmaa", "O. A. von Lilienfeld", "R. Armiento"})
"""Of the DFT energies, Phys. Rev. Lett. 117, 135502 (2016)."""

_ENV_IDS: Final = {catalogue.ELPASOLITE_NAME: "Elpasolite-v0", catalogue.ABO3_NAME: "Perovskite-v0"}
_OTHER_ENV_ID: Final = "Composition-v0"
_OWN: Final = "own-"
_NAMESPACE_FILE: Final = "namespace_metadata.json"
_BLOCK: Final = 1000


def dataset_id(name: str, target_class: int, space: Space = ELPASOLITE_SPACE) -> str:
    """The Minari id of a training set's episodes, for example ``elpasolite/dft-class1-v0``.

    Args:
        name: short name of the training set; what an id cannot hold becomes a dash.
        target_class: 1..k.
        space: of the compositions.

    Raises:
        InputError: there is no such class.
    """
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name).strip("-")
    shipped = any(space == catalogue.load_space(known).space for known in catalogue.spaces())
    namespace = space.name if shipped or space.name not in catalogue.spaces() else f"{_OWN}{space.name}"
    return f"{namespace}/{plain or 'data'}-class{space.targets.check(target_class)}-v0"


def dataset_folder(root: str | Path, name: str, target_class: int, space: Space = ELPASOLITE_SPACE) -> Path:
    """Where `export_minari` puts a dataset under the folder `root`."""
    return Path(root) / dataset_id(name, target_class, space)


def export_minari(
    training_set: TrainingSet,
    root: str | Path,
    *,
    name: str,
    target_class: int,
    citation: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Write a training set as a Minari dataset of episodes of its environment, one for each row.

    An episode holds (2 S + 1, 2 S) float32 observations (eq. 1, the initial state included), (2 S,) int64
    actions, and (2 S,) float64 rewards by eq. 12 from the row's own energy; it terminates at the last
    step and is never truncated. Its Minari metadata hold the row's formula, energy and
    energy class. Episode i is row i.

    The dataset stands in ``root/<space>/<name>-class<target_class>-v0`` once it is complete. There
    ``minari.load_dataset`` finds it if ``MINARI_DATASETS_PATH`` names `root`; ``MinariDataset`` takes
    the path of its folder ``data`` as well.

    Args:
        training_set: the rows.
        root: a folder of Minari datasets, new or not; what it holds under another id stays.
        name: short name of the training set, for the id.
        target_class: 1..k, decides the rewards.
        citation: of the energies; names Faber et al. 2016 as authors too if given.
        progress: called with episodes written and their number.

    Returns:
        The dataset's own folder; one that stood there before is replaced.

    Raises:
        InputError: a class outside 1..k, no rows, a folder that cannot be written to, a disk that is
            full, or Minari is not installed.
    """
    space = training_set.space
    target_class = space.targets.check(target_class)
    folder = dataset_folder(root, name, target_class, space)
    if not len(training_set):
        raise InputError("the training set has no rows: there is no episode to export")
    h5py, storage_class, version = _import_minari()
    spec, env = _environment(space, target_class)
    metadata = _metadata(training_set, name, target_class, citation, version)
    # Absolute, because Minari fails to measure the size of a dataset at a relative path.
    with atomic_folder(folder.absolute()) as temporary:
        storage = storage_class.new(
            temporary / "data",
            observation_space=env.observation_space,
            action_space=env.action_space,
            env_spec=spec,
            data_format="hdf5",
        )
        # Minari's own writer makes every array resizable: five times the room, three times the time.
        file = temporary / "data" / "main_data.hdf5"
        file.write_bytes(_episodes(h5py, training_set, target_class, progress))
        storage.update_metadata(metadata)
        storage.update_metadata({"dataset_size": float(storage.get_size())})
    if not (folder.parent / _NAMESPACE_FILE).exists():
        write_text(folder.parent / _NAMESPACE_FILE, json.dumps({}))
    return folder


def _environment(space: Space, target_class: int) -> tuple[Any, CompositionEnv]:
    """The environment that the episodes are of, and what makes it again; without a user's energies."""
    env_id = _ENV_IDS.get(space.name, _OTHER_ENV_ID)
    spec = copy.deepcopy(gym.spec(env_id))
    if env_id == _ENV_IDS[catalogue.ELPASOLITE_NAME] and space == ELPASOLITE_SPACE:
        spec.kwargs = {"target_class": target_class}
        return spec, ElpasoliteEnv(target_class)
    if space == catalogue.load_space(catalogue.ABO3_NAME).space:
        spec.kwargs = {"target": space.targets.names[target_class - 1]}
        return spec, PerovskiteEnv(target_class)
    spec = copy.deepcopy(gym.spec(_OTHER_ENV_ID))
    # Minari keeps arguments as JSON, which holds neither a prototype nor an energy model
    spec.kwargs = {}
    return spec, CompositionEnv(
        space, target=target_class, energy_model=lambda numbers: np.zeros(len(numbers))
    )


def _import_minari() -> tuple[Any, Any, str]:
    """The module h5py, Minari's storage class, and the version of Minari."""
    try:
        import h5py
        import minari
        from minari.dataset.minari_storage import MinariStorage
    except ImportError as error:
        raise InputError(
            f"a Minari dataset needs {error.name or 'Minari'}, which is not installed: "
            "pip install 'elpasolite[minari]'"
        ) from error
    return h5py, MinariStorage, str(minari.__version__)


def _metadata(
    training_set: TrainingSet, name: str, target_class: int, citation: str | None, version: str
) -> dict[str, Any]:
    """What Minari keeps of a dataset beside its episodes."""
    metadata: dict[str, Any] = {
        "dataset_id": dataset_id(name, target_class, training_set.space),
        "minari_version": version,
        "algorithm_name": "none: every row of a training set as one episode",
        "description": _describe(training_set, target_class, citation),
        "total_episodes": len(training_set),
        "total_steps": len(training_set) * training_set.space.n_steps,
        "target_class": target_class,
        "training_set": training_set.record(),
    }
    if citation is not None:
        metadata |= {"author": set(AUTHORS), "citation": citation}
    return metadata


def _describe(training_set: TrainingSet, target_class: int, citation: str | None) -> str:
    source = f" Energies: {citation}." if citation else ""
    space = training_set.space
    return (
        f"Compositions {space.prototype.formula_template} ({space.name}) built in {space.n_steps} steps, one "
        f"episode for each row of the training set '{training_set.name}' ({len(training_set):,} rows, sha256 "
        f"{training_set.sha256}). The last reward is +1 if the row's own {space.targets.quantity} is in "
        f"{space.targets.title(target_class)}, else -1 (eq. 12 of Türk et al., Chem. Mater. 2022, 34, 9455); "
        f"the environment rewards by its own energies, which may "
        f"differ.{source}"
    )


def _episodes(
    h5py: Any,
    training_set: TrainingSet,
    target_class: int,
    progress: Callable[[int, int], object] | None,
) -> bytes:
    """The HDF5 file of the episodes, made in memory: some 2.6 kB a row.

    HDF5 crashes the interpreter where it writes to a disk that is full; a disk that is full when Python
    writes is an error like any other.
    """
    in_memory = {"driver": "core", "backing_store": False, "block_size": 1 << 22}
    with h5py.File("main_data.hdf5", "w", libver="v110", **in_memory) as file:
        _write_episodes(file, training_set, target_class, progress)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _write_episodes(
    file: Any,
    training_set: TrainingSet,
    target_class: int,
    progress: Callable[[int, int], object] | None,
) -> None:
    """Lay the episodes out as Minari's HDF5 storage reads them."""
    import h5py

    n = len(training_set)
    digits, energy, energy_class = training_set.digits, training_set.energy, training_set.energy_class
    space, n_steps = training_set.space, training_set.space.n_steps
    formulas = space.index_to_formula(training_set.index).astype(h5py.string_dtype())
    last_rewards = sparse_reward(energy_class, target_class)
    rewards: NDArray[np.float64] = np.zeros(n_steps)
    terminations: NDArray[np.bool_] = np.arange(n_steps) == n_steps - 1
    truncations: NDArray[np.bool_] = np.zeros(n_steps, dtype=bool)
    steps = np.array(n_steps)
    put = _Writer(h5py)
    for start in range(0, n, _BLOCK):
        states = space.prefixes(digits[start : start + _BLOCK])
        observations = space.scale(states.reshape(-1, n_steps)).reshape(states.shape)
        for row, episode in enumerate(observations, start):
            rewards[-1] = last_rewards[row]
            group = put.group(file.id, f"episode_{row}")
            put.array(group, "observations", episode)
            put.array(group, "actions", digits[row].astype(np.int64) - 1)
            put.array(group, "rewards", rewards)
            put.array(group, "terminations", terminations)
            put.array(group, "truncations", truncations)
            put.group(group, "infos")
            put.attribute(group, "id", np.array(row))
            put.attribute(group, "total_steps", steps)
            put.attribute(group, "formula", formulas[row, ...])
            put.attribute(group, "energy", energy[row, ...])
            put.attribute(group, "energy_class", energy_class[row, ...])
        if progress is not None:
            progress(min(start + _BLOCK, n), n)


class _Writer:
    """Puts small arrays into an HDF5 file through h5py's low-level interface.

    What arrays of one type and shape have in common is made once: for a hundred thousand of them that
    is three times as fast as the high-level interface.
    """

    def __init__(self, h5py: Any) -> None:
        self._h5py = h5py
        self._kinds: dict[tuple[np.dtype[Any], tuple[int, ...]], tuple[Any, Any]] = {}

    def _kind(self, value: NDArray[Any]) -> tuple[Any, Any]:
        """The HDF5 type and shape of a value."""
        key = (value.dtype, value.shape)
        if key not in self._kinds:
            kind = self._h5py.h5t.py_create(value.dtype, logical=True)
            self._kinds[key] = kind, self._h5py.h5s.create_simple(value.shape)
        return self._kinds[key]

    def group(self, parent: Any, name: str) -> Any:
        return self._h5py.h5g.create(parent, name.encode())

    def array(self, group: Any, name: str, value: NDArray[Any]) -> None:
        everything = self._h5py.h5s.ALL
        self._h5py.h5d.create(group, name.encode(), *self._kind(value)).write(everything, everything, value)

    def attribute(self, group: Any, name: str, value: NDArray[Any]) -> None:
        self._h5py.h5a.create(group, name.encode(), *self._kind(value)).write(value)
