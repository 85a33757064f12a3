"""The judge: what decides energy and class of every composition whenever something is scored."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elpa_env.classes import N_CLASSES, energy_to_class
from elpa_env.errors import InputError
from elpa_env.files import sha256
from elpa_env.landscape import load_landscape
from elpa_env.space import N_TABLE, composition_mask, mirrored

PAPER: Final = "paper"
"""The landscape that ships: the regression by which Türk et al. 2022 judge. It is not A/B-symmetric."""
SYMMETRIC: Final = "symmetric"
"""The same with the energies of both A/B orders averaged: they are one compound."""


@dataclass(frozen=True, eq=False)
class Judge:
    """Energy and class of every composition, by which samples and distributions are scored.

    Attributes:
        name: as the user named it: "paper", "symmetric" or the folder of a landscape.
        what: what the energies are, in a sentence.
        table_energy: (39^4,) float32, eV/atom; NaN where an element stands twice.
        table_class: (39^4,) int8, energy class 1..10; 0 where an element stands twice.
        source: what `load_judge` takes to make it again; empty for a judge made by hand.
    """

    name: str
    what: str
    table_energy: NDArray[np.float32]
    table_class: NDArray[np.int8]
    source: str = ""

    def __post_init__(self) -> None:
        for table in (self.table_energy, self.table_class):
            if table.shape != (N_TABLE,):
                raise InputError(f"a judge needs {N_TABLE:,} energies and classes, got {table.shape}")
        if ((self.table_class > 0) != composition_mask()).any():
            raise InputError("a judge needs a class 1..10 for every composition, and 0 where there is none")

    @classmethod
    def from_energy(cls, name: str, what: str, energy: NDArray[np.floating[Any]], source: str = "") -> Judge:
        """The judge by energies of all compositions.

        Args:
            name: what results call it.
            what: what the energies are, in a sentence.
            energy: (39^4,) eV/atom; what stands where an element stands twice means nothing.
            source: what `load_judge` takes to make it again; empty for a judge made by hand.

        Raises:
            InputError: another shape, or a composition without an energy.
        """
        if energy.shape != (N_TABLE,):
            raise InputError(f"a judge needs {N_TABLE:,} energies, got {energy.shape}")
        real = composition_mask()
        table_energy = np.where(real, energy, np.nan).astype(np.float32)
        table_class = np.zeros(N_TABLE, dtype=np.int8)
        table_class[real] = energy_to_class(table_energy[real])
        for table in (table_energy, table_class):
            table.setflags(write=False)
        return cls(name, what, table_energy, table_class, source)

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of energies and classes."""
        return sha256(self.table_energy.tobytes() + self.table_class.tobytes())

    @functools.cached_property
    def class_counts(self) -> NDArray[np.int64]:
        """(11,) compositions in each class; entry 0 counts table entries that are no composition."""
        return np.bincount(self.table_class, minlength=N_CLASSES + 1)

    @functools.cached_property
    def compound_counts(self) -> NDArray[np.int64]:
        """(11,) compounds with at least one A/B order in each class; entry 0 is 0."""
        other = mirrored(self.table_class)
        pairs = np.bincount(self.table_class[self.table_class == other], minlength=N_CLASSES + 1) // 2
        split = np.bincount(self.table_class[self.table_class != other], minlength=N_CLASSES + 1)
        counts: NDArray[np.int64] = pairs + split
        counts[0] = 0
        return counts

    def energy(self, index: ArrayLike) -> NDArray[np.float32]:
        """(n,) eV/atom at (n,) index; NaN where index is -1."""
        # the last entry of the table repeats an element, so that -1 finds what it should
        return self.table_energy.take(np.asarray(index))

    def energy_class(self, index: ArrayLike) -> NDArray[np.int8]:
        """(n,) energy class 1..10 at (n,) index; 0 where index is -1."""
        return self.table_class.take(np.asarray(index))

    def members(self, target_class: int) -> NDArray[np.int64]:
        """(n,) index of every composition in `target_class`, ascending."""
        return np.flatnonzero(self.table_class == target_class)

    def record(self) -> dict[str, Any]:
        """For results files: who judged, and the compositions in classes 1..10."""
        return {
            "name": self.name,
            "what": self.what,
            "sha256": self.sha256,
            "class_counts": self.class_counts[1:].tolist(),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """A judge that `load_judge` made travels by name, not as megabytes."""
        if self.source:
            return _reload, (self.name, self.source, self.sha256)
        return Judge, (self.name, self.what, self.table_energy, self.table_class)


def load_judge(name: str | Path = PAPER) -> Judge:
    """The judge of that name; made once in a process and shared.

    Args:
        name: "paper", the landscape that ships; "symmetric", the same with the energies of both A/B orders
            averaged; else the folder of a landscape that ``elpa data build-landscape`` has written.

    Raises:
        InputError: there is no such judge, or the files in the folder are altered.
    """
    name = str(name)
    if name in (PAPER, SYMMETRIC):
        return _load(name, name)
    folder = Path(name)
    if not (folder / "landscape.json").is_file():
        raise InputError(
            f"judge must be {PAPER}, {SYMMETRIC} or the folder of a landscape, got {name!r}: "
            "build one with `elpa data build-landscape`"
        )
    return _load(name, str(folder.resolve()))


@functools.lru_cache(maxsize=4)
def _load(name: str, source: str) -> Judge:
    """The judge that `source`, a name of ours or an absolute folder, stands for."""
    if source == SYMMETRIC:
        what = "the paper's landscape, energies of both A/B orders averaged"
        return Judge.from_energy(name, what, load_landscape().symmetric_energy, source)
    landscape = load_landscape(None if source == PAPER else source)
    of = landscape.provenance
    what = f"{of.get('what', 'a landscape')}, fitted to {of.get('fitted_to', 'unknown rows')}"
    return Judge(name, what, landscape.table_energy, landscape.table_class, source)


def _reload(name: str, source: str, digest: str) -> Judge:
    """The judge that a pickle names.

    Raises:
        InputError: it is not here, or not the one that was pickled.
    """
    judge = _load(name, source)
    if judge.sha256 != digest:
        raise InputError(f"the judge {name} is not what it was: build it anew, or copy its folder here")
    return judge
