"""The spaces that ship, and those of the user's own in a TOML file: what is known of their energies.

A file holds a prototype, see `elpa_env.prototype`, and may hold beside it ::

    energies = "energies.csv"          # calculated for all compositions or some; beside the file

    [targets]
    quantity = "energy_above_hull"     # a column of the energies, or what an energy model states
    unit = "eV/atom"
    [targets.classes]
    stable = ["-inf", 0.025]           # low < value <= high
    unstable = [0.025, "inf"]
"""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from elpa_env import abo3, dft
from elpa_env.classes import Targets
from elpa_env.errors import InputError
from elpa_env.files import read_bytes, sha256
from elpa_env.landscape import load_landscape
from elpa_env.prototype import ABO3, Prototype
from elpa_env.space import ELPASOLITE_SPACE, Space, make_space
from elpa_env.table import EnergyModel, EnergyTable, Table

ELPASOLITE_NAME: Final = "elpasolite"
ABO3_NAME: Final = "abo3"
LANDSCAPE: Final = "landscape"
"""Name of the embedded training set of elpasolite."""
FIFTH: Final = "fifth"
"""Name of the training set of a space with a table of energies: a seeded fifth of its rows."""
_SHARE: Final = 0.2
_TRAINING_SEED: Final = 0
_MAX_BYTES: Final = 1_000_000


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A space and what is known of its energies.

    Attributes:
        name: by which `load_space` finds it: of one that ships, or the path of a file.
        title: in a few words.
        space: see there.
        what: what is known of its energies, in a sentence.
        data: name of its training set; empty where none ships.
        n_samples: valid samples that a comparison draws unless told otherwise.
        preset: hyperparameters that a comparison takes unless told otherwise.
        reference: what is known of all compositions; None where nothing is.
        energies: the same where it is a table of calculated energies.
    """

    name: str
    title: str
    space: Space
    what: str
    data: str = ""
    n_samples: int = 1_000
    preset: str = "default"
    reference: Callable[[], Table] | None = None
    energies: Callable[[], EnergyTable] | None = None

    def training_index(self) -> NDArray[np.int64]:
        """(n,) ascending compositions of the training set "fifth", of a compound all that are known."""
        assert self.energies is not None
        known = self.energies().known()
        compound = self.space.index_to_compound(known)
        compounds = np.unique(compound)
        order = np.random.default_rng(_TRAINING_SEED).permutation(len(compounds))
        return known[np.isin(compound, compounds[order[: max(1, round(_SHARE * len(compounds)))]])]


HULL: Final = Targets.of(
    {"stable": (-math.inf, 0.025), "metastable": (0.025, 0.1), "unstable": (0.1, math.inf)},
    quantity="energy_above_hull",
)
"""Of ABO3: energy above the hull in eV/atom. Synthesised compounds lie up to some 0.025 eV/atom above it."""


@functools.cache
def _elpasolite() -> Benchmark:
    return Benchmark(
        name=ELPASOLITE_NAME,
        title="elpasolite",
        space=ELPASOLITE_SPACE,
        what="a regression of the DFT formation energies of 10,590 compositions (Faber et al. 2016)",
        data=LANDSCAPE,
        n_samples=10_000,
        reference=load_landscape,
    )


@functools.cache
def _abo3() -> Benchmark:
    return Benchmark(
        name=ABO3_NAME,
        title="ABO3",
        space=make_space(ABO3, HULL),
        what="DFT energies above the hull of 5,276 of the 5,329 compositions (Emery and Wolverton 2017)",
        data=FIFTH,
        preset="small",
        reference=_abo3_energies,
        energies=_abo3_energies,
    )


@functools.cache
def _abo3_energies() -> EnergyTable:
    """The table of ABO3."""
    columns = abo3.read_table()
    space = make_space(ABO3, HULL)
    index = space.numbers_to_index(columns["numbers"])
    known = np.isfinite(columns["energy_above_hull"])
    values = {name: values[known] for name, values in columns.items() if name != "numbers"}
    return EnergyTable.from_rows(space, index[known], values, what=_abo3().what)


_SHIPPED: Final[Mapping[str, Callable[[], Benchmark]]] = {ELPASOLITE_NAME: _elpasolite, ABO3_NAME: _abo3}


def spaces() -> list[str]:
    """Names of the spaces that ship."""
    return list(_SHIPPED)


def load_space(name: str | Path = ELPASOLITE_NAME) -> Benchmark:
    """A space that ships, by its name, or one of the user's own.

    Args:
        name: "elpasolite", "abo3", or the path of a TOML file.

    Raises:
        InputError: there is no such space, or the file does not describe one.
    """
    name = str(name)
    if name in _SHIPPED:
        return _SHIPPED[name]()
    if not name.endswith(".toml"):
        raise InputError(f"space must be {', '.join(_SHIPPED)} or a .toml file, got {name!r}")
    return _read(name, str(Path(name).absolute().parent), read_bytes(Path(name), max_bytes=_MAX_BYTES))


@functools.lru_cache(maxsize=8)
def _read(name: str, folder: str, data: bytes) -> Benchmark:
    """The space in a file of that content; the folder tells files of one name apart."""
    path = Path(folder) / Path(name).name
    prototype = Prototype.read(path)
    content = tomllib.loads(data.decode("utf-8-sig"))
    try:
        targets = Targets.from_dict(content["targets"]) if "targets" in content else None
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if targets is None:
        raise InputError(
            f"{path} names no targets: add [targets.classes] with pairs such as stable = ['-inf', 0.025]"
        )
    space = make_space(prototype, targets)
    named = content.get("energies")
    if named is None:
        return Benchmark(name, prototype.title or prototype.name, space, "nothing")
    if not isinstance(named, str):
        raise InputError(f"{path}: energies must be the path of a .csv file, got {named!r}")
    energies = functools.partial(_energies, str(path.parent / named), space)
    table = energies()
    known = len(table.known())
    return Benchmark(
        name=name,
        title=prototype.title or prototype.name,
        space=space,
        what=f"{targets.quantity} of {known:,} compositions in {named}",
        data=FIFTH,
        reference=energies,
        energies=energies,
    )


def _energies(path: str, space: Space) -> EnergyTable:
    """The table in a .csv file, which is read again when it has changed."""
    return _read_energies(path, space, sha256(read_bytes(Path(path), max_bytes=dft.MAX_BYTES)))


@functools.lru_cache(maxsize=8)
def _read_energies(path: str, space: Space, digest: str) -> EnergyTable:
    """The table in a .csv file of that hash.

    Raises:
        InputError: it cannot be read, or a target of the space is reached by none of its energies.
    """
    rows = dft.read_path(Path(path), space)
    index = space.numbers_to_index(rows.numbers)
    table = EnergyTable.from_rows(space, index, rows.columns, what=Path(path).name)
    for target in range(1, space.targets.n + 1):
        if table.class_counts[target] == 0:
            raise InputError(
                f"no energy in {path} reaches {space.targets.title(target)}, "
                f"{space.targets.interval(target)}: widen this target, or leave it out"
            )
    return table


def reference(space: Space) -> EnergyModel:
    """The energies that ship for a space.

    Raises:
        InputError: none do.
    """
    for make in _SHIPPED.values():
        benchmark = make()
        if benchmark.space == space and benchmark.reference is not None:
            return benchmark.reference()
    raise InputError(f"{space.name} ships no energies for these targets: pass energy_model")
