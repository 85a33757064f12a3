"""The judge: what decides energy and class of every composition whenever something is scored."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from elpa_env import catalogue
from elpa_env.catalogue import Benchmark
from elpa_env.errors import InputError
from elpa_env.files import sha256
from elpa_env.landscape import load_landscape
from elpa_env.space import ELPASOLITE_SPACE, Space
from elpa_env.table import EnergyTable, Table

PAPER: Final = "paper"
"""The landscape that ships: the regression by which Türk et al. 2022 judge. It is not A/B-symmetric."""
SYMMETRIC: Final = "symmetric"
"""The same with the energies of both A/B orders averaged: they are one compound."""
TABLE: Final = "table"
"""The calculated energies of a space that has a table of them."""
HELD_OUT: Final = "held-out"
"""The same without the rows of the training set that ships with the space: what no model has seen."""


@dataclass(frozen=True, eq=False)
class Judge(Table):
    """Energy and class of every composition, by which samples and distributions are scored.

    Where a judge knows of no class, nothing is scored: such samples count as valid, but for no figure.

    Attributes:
        name: as the user named it: "paper", "symmetric", "table", "held-out" or the folder of a landscape.
        what: what the energies are, in a sentence.
        table_energy: (n_table,) float32, see `elpa_env.Table`.
        table_class: (n_table,) int8, see there.
        source: what `load_judge` takes to make it again; empty for a judge made by hand.
        space: of the compositions.
        space_name: by which `elpa_env.load_space` finds it.
    """

    name: str
    what: str
    table_energy: NDArray[np.float32]
    table_class: NDArray[np.int8]
    source: str = ""
    space: Space = ELPASOLITE_SPACE
    space_name: str = catalogue.ELPASOLITE_NAME

    def __post_init__(self) -> None:
        n_table = self.space.n_table
        for table in (self.table_energy, self.table_class):
            if table.shape != (n_table,):
                raise InputError(f"a judge needs {n_table:,} energies and classes, got {table.shape}")
        known = np.isfinite(self.table_energy)
        if not self.known_in_part and ((self.table_class > 0) != self.space.composition_mask).any():
            k = self.space.targets.n
            raise InputError(f"a judge needs a class 1..{k} for every composition, and 0 where there is none")
        if (self.table_class[~(known & self.space.composition_mask)] != 0).any():
            raise InputError("a judge must not name a class where there is no composition, or no energy")

    @property
    def known_in_part(self) -> bool:
        """Whether the energies of some compositions are not known, or in no target."""
        return self.space != ELPASOLITE_SPACE

    @classmethod
    def from_energy(
        cls,
        name: str,
        what: str,
        energy: NDArray[np.floating[Any]],
        source: str = "",
        space: Space = ELPASOLITE_SPACE,
        space_name: str = catalogue.ELPASOLITE_NAME,
    ) -> Judge:
        """The judge by energies of all compositions.

        Args:
            name: what results call it.
            what: what the energies are, in a sentence.
            energy: (n_table,) the quantity of the targets; what stands where there is no composition means
                nothing.
            source: what `load_judge` takes to make it again; empty for a judge made by hand.
            space: of the compositions.
            space_name: by which `elpa_env.load_space` finds it.

        Raises:
            InputError: another shape, or an elpasolite composition without an energy.
        """
        if energy.shape != (space.n_table,):
            raise InputError(f"a judge needs {space.n_table:,} energies, got {energy.shape}")
        real = space.composition_mask
        table_energy = np.where(real, energy, np.nan).astype(np.float32)
        if space == ELPASOLITE_SPACE and np.isnan(table_energy[real]).any():
            raise InputError("energy must be a number in eV/atom, got NaN")
        table_class = space.targets.classify(table_energy)
        for table in (table_energy, table_class):
            table.setflags(write=False)
        return cls(name, what, table_energy, table_class, source, space, space_name)

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of energies and classes."""
        return sha256(self.table_energy.tobytes() + self.table_class.tobytes())

    @functools.cached_property
    def compound_counts(self) -> NDArray[np.int64]:
        """(k + 1,) compounds with any order of their equivalent sites in each class; entry 0 is 0."""
        n = self.space.targets.n + 1
        known = np.flatnonzero(self.table_class)
        pairs = self.space.compound_table[known].astype(np.int64) * n + self.table_class[known]
        return np.bincount(np.unique(pairs) % n, minlength=n)

    def record(self) -> dict[str, Any]:
        """For results files: who judged, and the compositions in each class."""
        return {
            "name": self.name,
            "what": self.what,
            "sha256": self.sha256,
            "class_counts": self.class_counts[1:].tolist(),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """A judge that `load_judge` made travels by name, not as megabytes."""
        if self.source:
            return _reload, (self.name, self.source, self.space_name, self.sha256)
        given = self.name, self.what, self.table_energy, self.table_class, "", self.space, self.space_name
        return Judge, given


def default_judge(benchmark: Benchmark) -> str:
    """Name of the judge of a space unless the user names another."""
    return PAPER if benchmark.name == catalogue.ELPASOLITE_NAME else TABLE


def load_judge(name: str | Path | None = None, space: str | Path = catalogue.ELPASOLITE_NAME) -> Judge:
    """The judge of that name; made once in a process and shared.

    Args:
        name: of elpasolite "paper", the landscape that ships and the default; "symmetric", the same with the
            energies of both A/B orders averaged; else the folder of a landscape that
            ``elpa data build-landscape`` has written. Of a space with a table of energies "table", the
            default, or "held-out", the same without the rows of the training set that ships with it.
        space: name or TOML file, see `elpa_env.load_space`.

    Raises:
        InputError: there is no such judge, or the files in the folder are altered.
    """
    benchmark = catalogue.load_space(space)
    name = default_judge(benchmark) if name is None else str(name)
    if benchmark.name != catalogue.ELPASOLITE_NAME:
        if benchmark.energies is None:
            raise InputError(
                f"{benchmark.title} has no table of energies to judge by: name one in {benchmark.name} as "
                "energies"
            )
        if name not in (TABLE, HELD_OUT):
            raise InputError(f"judge must be {TABLE} or {HELD_OUT} for {benchmark.title}, got {name!r}")
        return _of_table(name, benchmark.name, benchmark.energies())
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
def _of_table(name: str, space_name: str, table: EnergyTable) -> Judge:
    """The judge by a table of calculated energies."""
    benchmark = catalogue.load_space(space_name)
    energy, what = table.table_energy, benchmark.what
    if name == HELD_OUT:
        known = benchmark.training_index()
        energy = energy.copy()
        for orders in (known, *table.space.images(known)):
            energy[orders] = np.nan
        what = f"{what}, the {len(known):,} rows of the training set that ships left out"
    return Judge.from_energy(name, what, energy, name, table.space, space_name)


@functools.lru_cache(maxsize=4)
def _load(name: str, source: str) -> Judge:
    """The judge of elpasolite that `source`, a name of ours or an absolute folder, stands for."""
    if source == SYMMETRIC:
        what = "the paper's landscape, energies of both A/B orders averaged"
        return Judge.from_energy(name, what, load_landscape().symmetric_energy, source)
    landscape = load_landscape(None if source == PAPER else source)
    of = landscape.provenance
    what = f"{of.get('what', 'a landscape')}, fitted to {of.get('fitted_to', 'unknown rows')}"
    return Judge(name, what, landscape.table_energy, landscape.table_class, source)


def _reload(name: str, source: str, space_name: str, digest: str) -> Judge:
    """The judge that a pickle names.

    Raises:
        InputError: it is not here, or not the one that was pickled.
    """
    of_elpasolite = space_name == catalogue.ELPASOLITE_NAME
    judge = _load(name, source) if of_elpasolite else load_judge(name, space_name)
    if judge.sha256 != digest:
        raise InputError(f"the judge {name} is not what it was: build it anew, or copy its folder here")
    return judge
