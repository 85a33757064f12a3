"""The reference landscape: a formation energy for every composition.

Kernel ridge regression with a Laplacian kernel on the 10,590 DFT energies of Faber et al. (Phys. Rev.
Lett. 2016, 117, 135502), as Türk et al. use it to judge what a model generates. The kernel is a
product over the four sites, so the energies of all 39^4 compositions are a single matrix product.

Energies are stored as whole steps of a 800th of a class width (1.01 meV/atom). Class edges fall on
step edges, so rounding moves no composition to another class. The mean of two stored energies may fall on
an edge itself; on which side of it the exact mean lies is stored for the few compounds of which it does.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.resources
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.classes import CLASS_WIDTH, ENERGY_MIN, N_CLASSES
from elpa_env.errors import InputError
from elpa_env.files import atomic_path, read_arrays, read_bytes, read_json, sha256
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.table import Table

if TYPE_CHECKING:
    from elpa_env.training import TrainingSet

SPACE: Final = ELPASOLITE_SPACE
LAPLACIAN_LENGTH: Final = 13.0
"""Kernel exp(-d / 13), d the L1 distance of the unscaled 8-digit vectors."""
RIDGE: Final = 1e-3
STEPS_PER_CLASS: Final = 800
ENERGY_STEP: Final = CLASS_WIDTH / STEPS_PER_CLASS
"""eV/atom; resolution of the stored energies."""
CITATION: Final = (
    "F. A. Faber, A. Lindmaa, O. A. von Lilienfeld, R. Armiento, Phys. Rev. Lett. 117, 135502 (2016)"
)
_FORMAT: Final = 1
_RECORD: Final = "landscape.json"
_ARRAYS: Final = "landscape.npz"
_MAX_BYTES: Final = 1 << 25
"""Of a landscape's file, and of its arrays; they take some two and five million."""


@dataclass(frozen=True, eq=False)
class Landscape(Table):
    """Formation energy in eV/atom and class of every elpasolite composition.

    Attributes:
        levels: (39^4,) int16, energy in steps of `ENERGY_STEP` above `ENERGY_MIN`, rounded down;
            what stands where an element is repeated means nothing.
        training_index: (n,) compositions of the embedded training set, drawn from the landscape
            with the size and class counts of the table it was fitted to, as far as it has so many.
        provenance: what the landscape was fitted to, how, and its held-out error.
        above_edge: (k,) int32 compounds of which the mean energy of both A/B orders falls on an edge between
            classes as it is stored, but lies above it, see `symmetric_energy`.
    """

    levels: NDArray[np.int16]
    training_index: NDArray[np.int64]
    provenance: dict[str, Any]
    above_edge: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))

    space: ClassVar[Space] = SPACE  # type: ignore[misc]

    @functools.cached_property
    def table_class(self) -> NDArray[np.int8]:  # type: ignore[override]
        """(39^4,) energy class 1..10; 0 where an element stands twice."""
        bins = np.clip(self.levels // STEPS_PER_CLASS, 0, N_CLASSES - 1) + 1
        table = np.where(SPACE.composition_mask, bins, 0).astype(np.int8)
        table.setflags(write=False)
        return table

    @functools.cached_property
    def table_energy(self) -> NDArray[np.float32]:  # type: ignore[override]
        """(39^4,) eV/atom; NaN where an element stands twice."""
        energy = (ENERGY_MIN + (self.levels + 0.5) * ENERGY_STEP).astype(np.float32)
        energy[~SPACE.composition_mask] = np.nan
        energy.setflags(write=False)
        return energy

    @functools.cached_property
    def symmetric_energy(self) -> NDArray[np.float32]:
        """(39^4,) eV/atom, mean of a composition and its A/B mirror image; NaN where an element stands twice.

        A mean that falls on an edge between classes is moved a quarter of `ENERGY_STEP` to the side of it on
        which that of the energies before they were rounded lies.
        """
        both = self.levels.astype(np.int32) + _mirrored(self.levels)
        mean = (both + 1) / 2
        edge = _on_edge(both)
        above = np.zeros(len(both), dtype=bool)
        above[self.above_edge] = True
        mean[edge] += np.where((above | _mirrored(above))[edge], 0.25, -0.25)
        energy: NDArray[np.float32] = (ENERGY_MIN + mean * ENERGY_STEP).astype(np.float32)
        energy[~SPACE.composition_mask] = np.nan
        energy.setflags(write=False)
        return energy

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles of the landscape that ships are that landscape, not megabytes."""
        if self is load_landscape():
            return load_landscape, ()
        return Landscape, (self.levels, self.training_index, self.provenance, self.above_edge)

    def save(self, folder: str | Path) -> None:
        """Write ``landscape.npz`` and its provenance ``landscape.json`` into `folder`, both or neither.

        Raises:
            InputError: they cannot be written; what was there stays as it was.
        """
        planes = _difference(self.levels).view(np.uint8).reshape(-1, 2).T
        blob = io.BytesIO()
        np.savez_compressed(
            blob, planes=planes, training_index=self.training_index, above_edge=self.above_edge
        )
        data = blob.getvalue()
        provenance = {**self.provenance, "format": _FORMAT, "sha256": sha256(data)}
        with atomic_path(Path(folder) / _RECORD) as record, atomic_path(Path(folder) / _ARRAYS) as arrays:
            record.write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
            arrays.write_bytes(data)


def _mirrored(table: NDArray[Any]) -> NDArray[Any]:
    """(39^4,) values of every table entry's A/B mirror image."""
    (image,) = SPACE.mirrored(table)
    return image


def _difference(levels: NDArray[np.int16]) -> NDArray[np.int16]:
    """Difference the table along all four sites, modulo 2^16; what is left compresses best."""
    table = levels.reshape(SPACE.table_shape)
    for site in range(SPACE.n_sites):
        table = np.diff(table, axis=site, prepend=np.int16(0))
    return np.ascontiguousarray(table, dtype="<i2").ravel()


def _undifference(differences: NDArray[np.int16]) -> NDArray[np.int16]:
    table = differences.reshape(SPACE.table_shape)
    for site in range(SPACE.n_sites):
        table = np.cumsum(table, axis=site, dtype=np.int16)
    return table.ravel()


def load_landscape(folder: str | Path | None = None) -> Landscape:
    """The landscape that ships with the package, or one saved in `folder`.

    It is read once in a process and shared.

    Raises:
        InputError: the files are missing, altered or of another format.
    """
    return _load(os.path.abspath(folder) if folder is not None else None)


@functools.lru_cache(maxsize=4)
def _load(folder: str | None) -> Landscape:
    root = Path(folder) if folder else importlib.resources.files("elpa_env") / "data"
    with contextlib.ExitStack() as stack:
        record, arrays = (
            stack.enter_context(importlib.resources.as_file(root / name)) for name in (_RECORD, _ARRAYS)
        )
        try:
            provenance = read_json(record)
            data = read_bytes(arrays, max_bytes=_MAX_BYTES)
        except InputError as error:
            raise InputError(f"no landscape in {root} ({error}): run `elpa data build-landscape`") from error
    if not isinstance(provenance, dict):
        raise InputError(f"no landscape in {root}: run `elpa data build-landscape`")
    if provenance.get("format") != _FORMAT or provenance.get("sha256") != sha256(data):
        raise InputError(f"the landscape in {root} is altered: run `elpa data build-landscape`")
    levels, training_index, above_edge = _checked_arrays(
        read_arrays(data, arrays, max_bytes=_MAX_BYTES), arrays
    )
    return Landscape(levels, training_index, provenance, above_edge)


def _checked_arrays(
    arrays: dict[str, NDArray[Any]], path: Path
) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int32]]:
    """Levels, training index and compounds above an edge, from what a landscape's file holds.

    Its hash stands in the file beside it, so that who alters one can alter the other.
    """
    planes, training_index = arrays.get("planes"), arrays.get("training_index")
    above_edge = arrays.get("above_edge", np.zeros(0, dtype=np.int32))
    if planes is None or planes.dtype != np.uint8 or planes.shape != (2, SPACE.n_table):
        raise InputError(f"{path} is damaged: its levels must be (2, {SPACE.n_table}) bytes")
    for index in (training_index, above_edge):
        if index is None or index.ndim != 1 or index.dtype.kind not in "iu" or not _are_compositions(index):
            raise InputError(
                f"{path} is damaged: it must hold compositions by their index 0..{SPACE.n_table - 1}"
            )
    differences = np.ascontiguousarray(planes.T).view("<i2").ravel()
    return (
        _undifference(differences).astype(np.int16, copy=False),
        np.asarray(training_index, dtype=np.int64),
        above_edge.astype(np.int32),
    )


def _are_compositions(index: NDArray[Any]) -> bool:
    within = bool(((index >= 0) & (index < SPACE.n_table)).all())
    return within and bool(SPACE.composition_mask[index].all())


def fit_landscape(
    training_set: TrainingSet, *, held_out: int = 2000, seed: int = 0
) -> tuple[Landscape, float]:
    """Fit the regression to a training set as it is (no A/B swaps) and predict the whole table.

    Args:
        training_set: the rows; the paper's landscape takes the 10,590 DFT rows.
        held_out: rows left out of a second fit that measures the error.
        seed: of the choice of those rows and of the embedded training set.

    Returns:
        The landscape, and the mean absolute error in eV/atom on the held-out rows.

    Raises:
        InputError: `held_out` is not 1..len(training_set) - 1, or the fit predicts an energy beyond what
            a landscape holds.
    """
    rng = np.random.default_rng(seed)
    error = held_out_error(training_set, held_out, rng)
    elements = SPACE.index_to_elements(training_set.index)
    weights, offset = _fit(training_set.index, training_set.energy)
    site = _site_kernel()
    left = (site[:, None, elements[:, 0]] * site[None, :, elements[:, 1]]).reshape(SPACE.n_elements**2, -1)
    right = (site[:, None, elements[:, 2]] * site[None, :, elements[:, 3]]).reshape(SPACE.n_elements**2, -1)
    energy = (left * weights) @ right.T + offset
    levels = _levels(energy.ravel())
    table_class = Landscape(levels, np.zeros(0, np.int64), {}).table_class
    landscape = Landscape(
        levels,
        _draw_like(table_class, np.bincount(training_set.energy_class, minlength=11), rng),
        {
            "what": "kernel ridge regression of all ABC2D6 compositions",
            "fitted_to": training_set.name,
            "fitted_to_sha256": training_set.sha256,
            "rows": len(training_set),
            "kernel": f"exp(-d / {LAPLACIAN_LENGTH:g}), d = L1 distance of (row, group) of the four sites",
            "ridge": RIDGE,
            "energy_step_eV_per_atom": ENERGY_STEP,
            "held_out_rows": held_out,
            "held_out_mae_eV_per_atom": round(error, 4),
            "seed": seed,
            "citation": CITATION,
        },
        _above_edge(energy.ravel(), levels),
    )
    return landscape, error


def _levels(energy: NDArray[np.float64]) -> NDArray[np.int16]:
    """(39^4,) energies in eV/atom as whole steps.

    Raises:
        InputError: an energy of a composition that 16 bits cannot hold, or that is no number.
    """
    levels = np.floor((energy - ENERGY_MIN) / ENERGY_STEP)
    limits = np.iinfo(np.int16)
    held = (levels >= limits.min) & (levels <= limits.max)
    bad = SPACE.composition_mask & ~held
    if bad.any():
        low, high = (ENERGY_MIN + limit * ENERGY_STEP for limit in (limits.min, limits.max + 1))
        raise InputError(
            f"a landscape holds energies of {low:.1f}..{high:.1f} eV/atom, and the fit predicts "
            f"{energy[bad][0]:.1f}: is one of the training set's wrong, or in another unit?"
        )
    return np.where(held, levels, 0).astype(np.int16)


def _on_edge(both: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(39^4,) whether the mean energy of two compositions, (39^4,) their levels' sum, is on a class edge."""
    return np.equal((both + 1) % (2 * STEPS_PER_CLASS), 0)


def _above_edge(energy: NDArray[np.float64], levels: NDArray[np.int16]) -> NDArray[np.int32]:
    """Compounds whose mean energy falls on a class edge once levels are rounded, and lies above it before."""
    both = levels.astype(np.int32) + _mirrored(levels)
    mean = (energy + _mirrored(energy)) / 2
    above = 2 * np.floor((mean - ENERGY_MIN) / ENERGY_STEP) > both
    places = np.flatnonzero(_on_edge(both) & above & SPACE.composition_mask)
    return np.unique(SPACE.index_to_compound(places)).astype(np.int32)


def held_out_error(training_set: TrainingSet, held_out: int, rng: np.random.Generator) -> float:
    """Mean absolute error, eV/atom, on `held_out` random rows of a fit to the other rows."""
    energy, predicted = held_out_predictions(training_set, held_out, rng)
    return float(np.abs(predicted - energy).mean())


def held_out_predictions(
    training_set: TrainingSet, held_out: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(held_out,) energies of random rows, eV/atom, and what a fit to the other rows makes of them.

    Raises:
        InputError: there are not so many rows.
    """
    if not 0 < held_out < len(training_set):
        raise InputError(f"held_out must be 1..{len(training_set) - 1}, got {held_out}")
    order = rng.permutation(len(training_set))
    test, train = order[:held_out], order[held_out:]
    weights, offset = _fit(training_set.index[train], training_set.energy[train])
    kernel = _row_kernel(training_set.index[test], training_set.index[train])
    return training_set.energy[test], kernel @ weights + offset


def _fit(index: NDArray[np.int64], energy: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Dual coefficients and the mean energy that they are relative to."""
    from sklearn.kernel_ridge import KernelRidge

    offset = float(energy.mean())
    model = KernelRidge(alpha=RIDGE, kernel="precomputed")
    model.fit(_row_kernel(index, index), energy - offset)
    return np.asarray(model.dual_coef_), offset


def _row_kernel(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    from sklearn.metrics.pairwise import laplacian_kernel

    return np.asarray(
        laplacian_kernel(
            SPACE.index_to_digits(left), SPACE.index_to_digits(right), gamma=1 / LAPLACIAN_LENGTH
        )
    )


def _site_kernel() -> NDArray[np.float64]:
    """(39, 39) factor of the kernel that one site contributes."""
    rows, groups = SPACE.rows, SPACE.columns
    distance = np.abs(rows[:, None] - rows) + np.abs(groups[:, None] - groups)
    kernel: NDArray[np.float64] = np.exp(-distance / LAPLACIAN_LENGTH)
    return kernel


def _draw_like(
    table_class: NDArray[np.int8], counts: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw `counts[c]` different compositions of each class c from the table, or all where it has fewer."""
    members = [np.flatnonzero(table_class == c) for c in range(1, N_CLASSES + 1)]
    drawn = [
        rng.choice(there, min(count, len(there)), replace=False)
        for there, count in zip(members, counts[1:], strict=True)
    ]
    return rng.permutation(np.concatenate(drawn))
