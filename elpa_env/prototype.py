"""Crystal prototypes: the sites to fill, the elements that may stand there, and the structure around them.

A `Prototype` says what a composition is: which sites there are, how often each occurs in a formula unit,
which elements may stand on it, and which sites are equivalent. With a `Structure`, every composition
becomes atoms in a cell, or a CIF file with the full symmetry. Prototypes are written to and read from TOML.

ASE and spglib are imported only where atoms are made.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import operator
import re
import tomllib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.errors import InputError
from elpa_env.files import StrPath, read_bytes, write_text
from elpa_env.periodic import N_ELEMENTS, NUMBER_OF_SYMBOL, SYMBOLS

if TYPE_CHECKING:
    from ase import Atoms

MAX_SITES: Final = 7
"""Sites to be filled."""
MAX_FIXED: Final = 20
MAX_POSITIONS: Final = 100
MAX_ATOMS: Final = 2000
"""In the conventional cell."""
MAX_MULTIPLICITY: Final = 999
MAX_BYTES: Final = 1_000_000
"""Of a file."""
IGNORED_KEYS: Final = ("targets", "energies", "training")
"""Keys at the top of a file that are for others to read."""

_LABEL: Final = re.compile(r"[A-Za-z][A-Za-z0-9'_]{0,11}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PARAMETER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
_MAX_TITLE: Final = 200
_MAX_EXPRESSION: Final = 64
_TERM: Final = re.compile(
    r"\s*(?P<sign>[+-])?\s*"
    r"(?:(?P<number>\d+(?:\.\d*)?|\.\d+)(?:\s*/\s*(?P<below>\d+))?(?:\s*\*\s*(?P<factor>[A-Za-z]\w*))?"
    r"|(?P<alone>[A-Za-z]\w*))\s*",
    re.ASCII,
)
_SHORTEST_CELL, _LONGEST_CELL = 1.0, 1000.0
_FLATTEST_CELL: Final = 1e-4
"""Volume of a cell over the product of its lengths, squared."""
_CLOSEST: Final = 0.5
"""Angstrom; no two atoms are as close (H2 has 0.74)."""
_SYMPREC: Final = 1e-3
"""Angstrom; what spglib takes for the same place."""


# --- Reading what users write ---


def _short(value: object) -> str:
    """`value` for a message."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of too many digits, for one
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _finite(value: object, what: str) -> float:
    """A finite number.

    Raises:
        InputError: it is none.
    """
    try:
        if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number):
                return number
    except OverflowError:
        pass
    raise InputError(f"{what} must be a finite number, got {_short(value)}")


def _checked(value: object, pattern: re.Pattern[str], what: str, form: str) -> str:
    """A text that is as a whole of a pattern."""
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InputError(f"{what} must be {form}, got {_short(value)}")
    return value


def _label(value: object) -> str:
    return _checked(value, _LABEL, "the label of a site", "a letter and up to 11 letters, digits, ' or _")


def _multiplicity(value: object, of: str) -> None:
    if not _is_whole(value, 1, MAX_MULTIPLICITY):
        raise InputError(
            f"the multiplicity of {of} must be a whole number of at least 1 and at most {MAX_MULTIPLICITY}, "
            f"got {_short(value)}"
        )


def _number_of(symbol: object) -> int:
    """The atomic number of a symbol."""
    if not isinstance(symbol, str) or symbol not in NUMBER_OF_SYMBOL:
        raise InputError(f"unknown element {_short(symbol)}: symbols are those of H to {SYMBOLS[-1]}")
    return NUMBER_OF_SYMBOL[symbol]


def parse_elements(text: str) -> tuple[str, ...]:
    """The symbols that a text names.

    Args:
        text: symbols and ranges of atomic number with blanks between, such as ``H-Ca Ga-Sr Tl``.

    Returns:
        Symbols in the order in which they are named.

    Raises:
        InputError: an unknown symbol, or a range that runs backwards.
    """
    symbols: list[str] = []
    for word in text.split():
        first, dash, last = word.partition("-")
        low, high = _number_of(first), _number_of(last if dash else first)
        if high < low:
            raise InputError(f"the range of elements {_short(word)} runs backwards: write {last}-{first}")
        symbols += SYMBOLS[low : high + 1]
    return tuple(symbols)


def format_elements(symbols: Iterable[str]) -> str:
    """The text for `parse_elements`, ranges for three elements or more in a row."""
    words: list[str] = []
    numbers = sorted(map(_number_of, symbols))
    for _, run in itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        names = [SYMBOLS[number] for _, number in run]
        words += names if len(names) < 3 else [f"{names[0]}-{names[-1]}"]
    return " ".join(words)


@functools.lru_cache(maxsize=1 << 10)
def _terms(text: str) -> tuple[float, tuple[tuple[float, str], ...]]:
    """An expression as a constant and factors of parameters.

    Raises:
        InputError: it is none.
    """
    constant, factors, place = 0.0, [], 0
    while place < len(text) or place == 0:
        match = _TERM.match(text, place) if len(text) <= _MAX_EXPRESSION else None
        if match is None or (place and not match["sign"]) or not int(match["below"] or 1):
            raise InputError(
                f"{_short(text)} is no coordinate or length: write a sum of numbers, fractions and "
                "parameters such as 1/4, -x or 1/2+2*x"
            )
        factor = -1.0 if match["sign"] == "-" else 1.0
        if match["number"]:
            factor *= float(match["number"]) / int(match["below"] or 1)
        name = match["factor"] or match["alone"]
        if name:
            factors.append((factor, name))
        else:
            constant += factor
        place = match.end()
    return constant, tuple(factors)


def _evaluate(text: str, values: Mapping[str, float]) -> float:
    """The number that an expression gives.

    Raises:
        InputError: it is not finite.
    """
    constant, factors = _terms(text)
    number = constant + sum(factor * values[name] for factor, name in factors)
    if not math.isfinite(number):
        raise InputError(f"{text} is not finite for these parameters: give them smaller values")
    return number


def _expressions(values: object, n: int, what: str) -> tuple[str, ...]:
    """`n` expressions, numbers among them spelt out."""
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != n:
        raise InputError(f"{what} must be {n} numbers or expressions, got {_short(values)}")
    texts = []
    for value in values:
        text = value if isinstance(value, str) else f"{Decimal(repr(_finite(value, what))).normalize():f}"
        try:
            _terms(text)
        except InputError as error:
            raise InputError(f"{what}: {error}") from error
        texts.append(text)
    return tuple(texts)


class _Parameters(Mapping[str, float]):
    """A mapping that neither changes nor minds being hashed or pickled."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> float:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return repr(self._values)


def _set(instance: object, **values: object) -> None:
    """Give attributes of a frozen dataclass their final form."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


# --- Parts of a prototype ---


@dataclass(frozen=True)
class Site:
    """A site that is to be filled.

    Args:
        label: how it is called, for example ``A``.
        elements: symbols of the elements that may stand there, or one text for `parse_elements`; they are
            kept in the order of their atomic numbers.
        multiplicity: how often it occurs in a formula unit.

    Raises:
        InputError: no such label or multiplicity, no element, an unknown one, or one twice.
    """

    label: str
    elements: tuple[str, ...]
    multiplicity: int = 1

    def __post_init__(self) -> None:
        _label(self.label)
        named = parse_elements(self.elements) if isinstance(self.elements, str) else tuple(self.elements)
        try:
            numbers = sorted(map(_number_of, named))
        except InputError as error:
            raise InputError(f"site {self.label}: {error}") from error
        if not numbers:
            raise InputError(f"site {self.label} has no elements: name one at least")
        twice = next((a for a, b in itertools.pairwise(numbers) if a == b), None)
        if twice is not None:
            raise InputError(f"site {self.label} names the element {SYMBOLS[twice]} twice: name it once")
        _multiplicity(self.multiplicity, f"site {self.label}")
        _set(self, elements=tuple(SYMBOLS[number] for number in numbers))

    @property
    def numbers(self) -> NDArray[np.int16]:
        """(n,) atomic numbers of its elements."""
        return np.array([NUMBER_OF_SYMBOL[symbol] for symbol in self.elements], dtype=np.int16)


@dataclass(frozen=True)
class Fixed:
    """An element that always stands on a site, such as the O of ABO3.

    Args:
        element: its symbol.
        multiplicity: how often it occurs in a formula unit.
        label: how the site is called; by default as the element.

    Raises:
        InputError: no such element, multiplicity or label.
    """

    element: str
    multiplicity: int = 1
    label: str = ""

    def __post_init__(self) -> None:
        _number_of(self.element)
        _multiplicity(self.multiplicity, f"the fixed element {self.element}")
        _set(self, label=self.element if self.label == "" else _label(self.label))


@dataclass(frozen=True)
class Position:
    """One representative of the atoms that the symmetry makes of it.

    Args:
        site: the label of a site, or of a fixed element.
        coordinates: three fractional ones, each a sum of numbers, fractions and parameters, for example
            ``1/4``, ``-x`` or ``1/2+2*x``.

    Raises:
        InputError: no such label or coordinates.
    """

    site: str
    coordinates: tuple[str, str, str]

    def __post_init__(self) -> None:
        _label(self.site)
        what = f"the coordinates of {self.site}"
        _set(self, coordinates=_expressions(self.coordinates, 3, what))


@dataclass(frozen=True)
class Structure:
    """Where the atoms of a prototype are.

    Args:
        space_group: number 1..230.
        cell: a, b, c in angstrom and alpha, beta, gamma in degrees, of the conventional cell; each a
            number or an expression of parameters.
        positions: representatives of all atoms.
        parameters: what is free, with values to start from.
        setting: 1, or 2 for the other setting of a group that has two: origin at the centre of inversion,
            rhombohedral instead of hexagonal axes.

    Raises:
        InputError: no such group or setting, no such expression, or a parameter that is undefined or used
            nowhere.
    """

    space_group: int
    cell: tuple[str, str, str, str, str, str]
    positions: tuple[Position, ...]
    parameters: Mapping[str, float] = field(default_factory=dict)
    setting: int = 1

    def __post_init__(self) -> None:
        if not _is_whole(self.space_group, 1, 230):
            raise InputError(f"space_group must be a whole number 1..230, got {_short(self.space_group)}")
        if not _is_whole(self.setting, 1, 2):
            raise InputError(f"setting must be 1 or 2, got {_short(self.setting)}")
        cell = _expressions(self.cell, 6, "cell")
        positions = tuple(self.positions)
        if not 1 <= len(positions) <= MAX_POSITIONS:
            raise InputError(f"a structure has 1..{MAX_POSITIONS} positions, got {len(positions)}")
        form = "a letter and up to 31 letters, digits or _"
        parameters = _Parameters(
            {
                _checked(name, _PARAMETER, "the name of a parameter", form): _finite(
                    value, f"the parameter {name}"
                )
                for name, value in self.parameters.items()
            }
        )
        texts = itertools.chain(cell, *(position.coordinates for position in positions))
        used = {name for text in texts for _, name in _terms(text)[1]}
        for name in sorted(used - set(parameters)):
            raise InputError(f"the parameter {name} is undefined: give it a value among the parameters")
        for name in sorted(set(parameters) - used):
            raise InputError(f"the parameter {name} is used nowhere: leave it out")
        _set(self, cell=cell, positions=positions, parameters=parameters)

    def values(self, parameters: Mapping[str, object]) -> dict[str, float]:
        """All parameters, those named replaced.

        Raises:
            InputError: an unknown name, or a value that is no finite number.
        """
        values = dict(self.parameters)
        for name, value in parameters.items():
            if name not in values:
                known = ", ".join(values) or "none"
                raise InputError(f"unknown parameter {_short(name)}: the structure has {known}")
            values[name] = _finite(value, f"the parameter {name}")
        return values

    def at(self, values: Mapping[str, float]) -> tuple[list[float], NDArray[np.float64]]:
        """The six numbers of the cell and the (n, 3) coordinates of the positions, for all parameters.

        Raises:
            InputError: one that is not finite.
        """
        cell = [_evaluate(text, values) for text in self.cell]
        coordinates = [[_evaluate(text, values) for text in p.coordinates] for p in self.positions]
        return cell, np.array(coordinates, dtype=np.float64)


def parameters_of(structure: Structure) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Names of the free parameters of a structure: lengths of the cell, its angles, internal coordinates.

    One that serves for several counts for the first of these.
    """

    def named(texts: Iterable[str]) -> set[str]:
        return {name for text in texts for _, name in _terms(text)[1]}

    lengths, angles = named(structure.cell[:3]), named(structure.cell[3:])
    names = tuple(structure.parameters)
    return (
        tuple(name for name in names if name in lengths),
        tuple(name for name in names if name in angles - lengths),
        tuple(name for name in names if name not in lengths | angles),
    )


# --- Prototypes ---


@dataclass(frozen=True, repr=False)
class Prototype:
    """What a composition is: sites, the elements that may stand there, and perhaps the structure.

    Args:
        name: letters, digits, ``.``, ``_`` and ``-``.
        sites: the sites that are to be filled, 1..7.
        fixed: elements that always stand on further sites.
        equivalent: groups of labels of sites that the structure does not tell apart.
        repeats: whether one element may stand on two of the `sites`; fixed elements do not count.
        structure: where the atoms are.
        title: one line about it.
        check: whether to find out, with ASE and spglib, that the structure has the atoms and the space
            group that it claims.

    Raises:
        InputError: whatever of this cannot be.
    """

    name: str
    sites: tuple[Site, ...]
    fixed: tuple[Fixed, ...] = ()
    equivalent: tuple[tuple[str, ...], ...] = ()
    repeats: bool = False
    structure: Structure | None = None
    title: str = ""
    check: InitVar[bool] = field(default=True, kw_only=True)

    def __post_init__(self, check: bool) -> None:
        form = "a letter or digit and up to 63 letters, digits, '.', '_' or '-'"
        _checked(self.name, _NAME, "the name of a prototype", form)
        equivalent = tuple(map(tuple, self.equivalent))
        _set(self, sites=tuple(self.sites), fixed=tuple(self.fixed), equivalent=equivalent)
        if not (isinstance(self.title, str) and self.title.isprintable() and len(self.title) <= _MAX_TITLE):
            raise InputError(
                f"title must be one line of at most {_MAX_TITLE} characters, got {_short(self.title)}"
            )
        if not isinstance(self.repeats, bool):
            raise InputError(f"repeats must be true or false, got {_short(self.repeats)}")
        try:
            self._check_sites()
            self._check_equivalent()
            self._check_elements()
            if self.structure is not None:
                self._check_positions(self.structure)
                if check:
                    self._check_symmetry(self.structure)
        except InputError as error:
            raise InputError(f"prototype {self.name}: {error}") from error

    # --- what it holds ---

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the sites that are to be filled."""
        return tuple(site.label for site in self.sites)

    @property
    def _parts(self) -> tuple[Site | Fixed, ...]:
        return (*self.sites, *self.fixed)

    @property
    def n_atoms(self) -> int:
        """Atoms of a formula unit, fixed ones included."""
        return sum(part.multiplicity for part in self._parts)

    @property
    def formula_template(self) -> str:
        """The formula with labels for elements, such as ``ABC2D6`` or ``ABO3``."""
        return self._formula(self.labels)

    def site(self, label: str) -> Site:
        """The site of this label.

        Raises:
            InputError: there is none.
        """
        for site in self.sites:
            if site.label == label:
                return site
        raise InputError(f"{self.name} has no site {_short(label)}: it has {', '.join(self.labels)}")

    def __str__(self) -> str:
        parts = []
        for symbols, sites in itertools.groupby(self.sites, key=lambda site: site.elements):
            labels = ", ".join(site.label for site in sites)
            parts.append(f"{labels} of {len(symbols)} element{'s' * (len(symbols) > 1)}")
        parts += [f"{fixed.label} always {fixed.element}" for fixed in self.fixed]
        parts += [f"{' and '.join(group)} equivalent" for group in self.equivalent]
        if self.repeats:
            parts.append("elements may repeat")
        if self.structure is not None:
            parts.append(f"space group {self.structure.space_group}")
        return f"{self.name} {self.formula_template}: {', '.join(parts)}"

    def __repr__(self) -> str:
        return f"<Prototype {self}>"

    def _formula(self, names: Sequence[str]) -> str:
        """The formula with these names on the sites."""
        names = [*names, *(fixed.element for fixed in self.fixed)]
        formula = ""
        for name, part in zip(names, self._parts, strict=True):
            count = str(part.multiplicity) if part.multiplicity > 1 else ""
            formula += f"({name}){count}" if count and name[-1].isdigit() else f"{name}{count}"
        return formula

    # --- what has to hold ---

    def _check_sites(self) -> None:
        if not 1 <= len(self.sites) <= MAX_SITES:
            raise InputError(f"it needs 1..{MAX_SITES} sites to fill, got {len(self.sites)}")
        if len(self.fixed) > MAX_FIXED:
            raise InputError(f"it may have up to {MAX_FIXED} fixed elements, got {len(self.fixed)}")
        counts = Counter(part.label for part in self._parts)
        for label, count in counts.items():
            if count > 1:
                raise InputError(f"the label {label} stands {count} times: give every site one of its own")

    def _check_equivalent(self) -> None:
        grouped: set[str] = set()
        for group in self.equivalent:
            if len(group) < 2:
                raise InputError(f"equivalent must hold groups of at least two sites, got {_short(group)}")
            for label in group:
                self.site(label)
                if label in grouped:
                    raise InputError(f"site {label} is named twice in equivalent: name it once")
                grouped.add(label)
            first, *others = map(self.site, group)
            for other in others:
                for what in ("elements", "multiplicity"):
                    if getattr(first, what) != getattr(other, what):
                        raise InputError(
                            f"sites {first.label} and {other.label} cannot be equivalent: their {what} differ"
                        )

    def _check_elements(self) -> None:
        """By Hall's condition: any sites together have to have as many elements as they are."""
        if self.repeats:
            return
        for n in range(2, len(self.sites) + 1):
            for sites in itertools.combinations(self.sites, n):
                symbols = {symbol for site in sites for symbol in site.elements}
                if len(symbols) < n:
                    labels = ", ".join(site.label for site in sites)
                    raise InputError(
                        f"the sites {labels} need {n} different elements and have {format_elements(symbols)} "
                        "alone: allow more, or set repeats"
                    )

    def _check_positions(self, structure: Structure) -> None:
        labels = [part.label for part in self._parts]
        placed = [position.site for position in structure.positions]
        for label in placed:
            if label not in labels:
                raise InputError(
                    f"the structure names an unknown site {label}: there are {', '.join(labels)}"
                )
        for label in labels:
            if label not in placed:
                raise InputError(f"the structure leaves out site {label}: give it a position")

    def _check_symmetry(self, structure: Structure) -> None:
        """Find out the space group with a different element on every site."""
        atoms = self._atoms(["H"] * len(self.sites), structure, {})
        kinds = {label: number for number, label in enumerate(self.labels, start=1)}
        for fixed in self.fixed:
            kinds[fixed.label] = len(self.sites) + NUMBER_OF_SYMBOL[fixed.element]
        sites = [kinds[position.site] for position in structure.positions]
        number, symbol = _space_group(atoms, [sites[place] for place in atoms.arrays["spacegroup_kinds"]])
        if number != structure.space_group:
            found = f"{number} ({symbol})" if number else "none"
            raise InputError(
                f"the structure claims space group {structure.space_group}, and has {found}: mend "
                "space_group, setting, cell or positions"
            )

    # --- atoms ---

    def atoms(self, numbers: Sequence[int] | NDArray[np.integer[Any]], /, **parameters: float) -> Atoms:
        """The atoms of a composition in the conventional cell.

        Args:
            numbers: atomic numbers on the sites, in their order; whether an element repeats is not asked.
            parameters: values of free parameters, instead of those to start from.

        Returns:
            An `ase.Atoms` that knows its space group (``info["spacegroup"]``).

        Raises:
            InputError: the prototype has no structure, an element does not belong on its site, a
                parameter is unknown or not finite, the cell does not fit the space group, or atoms
                collide.
        """
        structure = self._structure()
        return self._atoms(self._symbols(numbers), structure, parameters)

    def cif(self, numbers: Sequence[int] | NDArray[np.integer[Any]], /, **parameters: float) -> str:
        """The text of a CIF file of a composition, with the space group and one atom of every position.

        Args:
            numbers: see `atoms`.
            parameters: see `atoms`.

        Raises:
            InputError: see `atoms`.
        """
        structure = self._structure()
        symbols = self._symbols(numbers)
        atoms = self._atoms(symbols, structure, parameters)
        of_label = self._symbol_of_label(symbols)
        _, coordinates = structure.at(structure.values(parameters))
        counts = np.bincount(atoms.arrays["spacegroup_kinds"], minlength=len(coordinates))
        rows = []
        for i, (position, xyz) in enumerate(zip(structure.positions, coordinates % 1.0, strict=True)):
            symbol = of_label[position.site]
            places = " ".join(f"{value:.10f}" for value in xyz)
            rows.append(f"  {symbol + str(i + 1):6} {symbol:2} {counts[i]:4} {places}")
        return _cif_text(self.name, self._formula(symbols), atoms, len(atoms) / self.n_atoms, rows)

    def _structure(self) -> Structure:
        if self.structure is None:
            raise InputError(f"prototype {self.name} has no structure: give it one to make atoms")
        return self.structure

    def _symbols(self, numbers: Sequence[int] | NDArray[np.integer[Any]]) -> list[str]:
        """Symbols on the sites."""
        try:
            whole = [operator.index(number) for number in numbers]
        except TypeError as error:
            raise InputError(f"numbers must be atomic numbers, got {_short(numbers)}") from error
        if len(whole) != len(self.sites):
            raise InputError(
                f"numbers must be {len(self.sites)}, one for each of {', '.join(self.labels)}, "
                f"got {len(whole)}"
            )
        symbols = []
        for number, site in zip(whole, self.sites, strict=True):
            symbol = SYMBOLS[number] if 1 <= number <= N_ELEMENTS else ""
            if symbol not in site.elements:
                raise InputError(
                    f"atomic number {_short(number)} ({symbol or 'none'}) is none of site {site.label}: "
                    f"it takes {format_elements(site.elements)}"
                )
            symbols.append(symbol)
        return symbols

    def _symbol_of_label(self, symbols: Sequence[str]) -> dict[str, str]:
        return dict(zip(self.labels, symbols, strict=True)) | {f.label: f.element for f in self.fixed}

    def _atoms(self, symbols: Sequence[str], structure: Structure, parameters: Mapping[str, object]) -> Atoms:
        """Atoms with these symbols on the sites, checked."""
        from ase.spacegroup import Spacegroup, crystal
        from ase.spacegroup.spacegroup import SpacegroupNotFoundError

        cell, coordinates = structure.at(structure.values(parameters))
        _check_cell(cell)
        try:
            group = Spacegroup(structure.space_group, structure.setting)
        except SpacegroupNotFoundError as error:
            raise InputError(
                f"space group {structure.space_group} has no setting {structure.setting}: take 1"
            ) from error
        of_label = self._symbol_of_label(symbols)
        atoms = crystal(
            [of_label[position.site] for position in structure.positions],
            basis=coordinates,
            spacegroup=group,
            cellpar=cell,
            onduplicates="keep",
        )
        metric = np.asarray(atoms.cell) @ np.asarray(atoms.cell).T
        for rotation in group.get_rotations():
            if not np.allclose(rotation.T @ metric @ rotation, metric, rtol=0, atol=1e-5 * metric.max()):
                spelt = ", ".join(f"{value:g}" for value in cell)
                raise InputError(f"the cell {spelt} does not fit space group {structure.space_group}")
        self._check_atoms(atoms, structure)
        return atoms

    def _check_atoms(self, atoms: Atoms, structure: Structure) -> None:
        """Raise InputError if atoms collide, or are not as many as the multiplicities say."""
        from ase.neighborlist import neighbor_list

        sites = [position.site for position in structure.positions]
        kinds: NDArray[np.int64] = atoms.arrays["spacegroup_kinds"]
        for place, position in enumerate(structure.positions):
            if place not in kinds:
                spelt = ", ".join(position.coordinates)
                raise InputError(f"the position {spelt} of {position.site} falls onto another position")
        if len(atoms) > MAX_ATOMS:
            raise InputError(f"the cell has {len(atoms):,} atoms: it may have {MAX_ATOMS:,}")
        first, second, distance = neighbor_list("ijd", atoms, _CLOSEST)
        if len(distance):
            near = int(distance.argmin())
            names = sites[kinds[first[near]]], sites[kinds[second[near]]]
            raise InputError(
                f"atoms of {names[0]} and {names[1]} are {distance[near]:.2f} angstrom from each other: "
                "change the positions or the parameters"
            )
        found = Counter(sites[kind] for kind in kinds)
        for part in self._parts:
            if found[part.label] * self.n_atoms != part.multiplicity * len(atoms):
                counts = ", ".join(f"{label} {count}" for label, count in found.items())
                raise InputError(
                    f"the atoms in the cell ({counts}) are not in the ratio of the multiplicities, "
                    f"{self.formula_template}"
                )

    # --- to and from text ---

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain types that JSON knows; `from_dict` takes it back."""
        content: dict[str, Any] = {
            "name": self.name,
            "title": self.title,
            "repeats": self.repeats,
            "equivalent": [list(group) for group in self.equivalent],
            "sites": [
                {"label": s.label, "elements": list(s.elements), "multiplicity": s.multiplicity}
                for s in self.sites
            ],
            "fixed": [
                {"element": f.element, "multiplicity": f.multiplicity, "label": f.label} for f in self.fixed
            ],
        }
        if self.structure is not None:
            content["structure"] = {
                "space_group": self.structure.space_group,
                "setting": self.structure.setting,
                "cell": list(self.structure.cell),
                "parameters": dict(self.structure.parameters),
                "positions": [
                    {"site": position.site, "coordinates": list(position.coordinates)}
                    for position in self.structure.positions
                ],
            }
        return content

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any], *, check: bool = True) -> Prototype:
        """What `to_dict` gives, or a TOML file holds; keys for others (`IGNORED_KEYS`) are passed over.

        Args:
            mapping: see `to_dict`; elements may also be one text for `parse_elements`.
            check: see `Prototype`.

        Raises:
            InputError: a key is unknown, missing or of a wrong type, or the prototype cannot be.
        """
        top = _Table(mapping, "", (*_KEYS, *IGNORED_KEYS))
        name = top.take("name", str)
        sites = [
            Site(
                table.take("label", str),
                _symbols_of(table),
                table.take("multiplicity", int, 1),
            )
            for table in top.tables("sites", ("label", "elements", "multiplicity"))
        ]
        fixed = [
            Fixed(
                table.take("element", str), table.take("multiplicity", int, 1), table.take("label", str, "")
            )
            for table in top.tables("fixed", ("element", "multiplicity", "label"), [])
        ]
        equivalent = top.take("equivalent", list, [])
        for i, group in enumerate(equivalent):
            if not isinstance(group, list) or not all(isinstance(label, str) for label in group):
                raise InputError(f"equivalent[{i}] must be a list of labels, got {_short(group)}")
        return cls(
            name,
            tuple(sites),
            tuple(fixed),
            tuple(map(tuple, equivalent)),
            top.take("repeats", bool, False),
            _structure_of(top),
            top.take("title", str, ""),
            check=check,
        )

    def to_toml(self) -> str:
        """The text of a TOML file; `from_toml` takes it back."""
        lines = [
            f"name = {_toml(self.name)}",
            f"title = {_toml(self.title)}",
            f"repeats = {_toml(self.repeats)}",
            f"equivalent = {_toml([list(group) for group in self.equivalent])}",
        ]
        for site in self.sites:
            elements = format_elements(site.elements)
            table = {"label": site.label, "elements": elements, "multiplicity": site.multiplicity}
            lines += ["", "[[sites]]", *_toml_lines(table)]
        for table in self.to_dict()["fixed"]:
            lines += ["", "[[fixed]]", *_toml_lines(table)]
        if self.structure is not None:
            table = self.to_dict()["structure"]
            parameters, positions = table.pop("parameters"), table.pop("positions")
            lines += ["", "[structure]", *_toml_lines(table)]
            lines += ["", "[structure.parameters]", *_toml_lines(parameters)]
            for position in positions:
                lines += ["", "[[structure.positions]]", *_toml_lines(position)]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, text: str, *, check: bool = True) -> Prototype:
        """The prototype of the text of a TOML file.

        Args:
            text: the text.
            check: see `Prototype`.

        Raises:
            InputError: it is no TOML, or see `from_dict`.
        """
        try:
            content = tomllib.loads(text)
        except RecursionError as error:
            raise InputError("it is nested too deeply for a prototype") from error
        except ValueError as error:
            reason = (str(error).splitlines() or ["it cannot be read"])[0]
            raise InputError(f"it is no TOML ({reason})") from error
        return cls.from_dict(content, check=check)

    def write(self, path: StrPath) -> None:
        """Write it to a TOML file, all or nothing.

        Raises:
            InputError: the file cannot be written.
        """
        write_text(path, self.to_toml())

    @classmethod
    def read(cls, path: StrPath, *, check: bool = True) -> Prototype:
        """The prototype that a TOML file holds.

        Args:
            path: the file.
            check: see `Prototype`.

        Raises:
            InputError: the file cannot be read, is larger than 1 MB, no UTF-8 or no TOML, or what it holds
                cannot be.
        """
        data = read_bytes(path, max_bytes=MAX_BYTES)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"cannot read {path}: it is no text in UTF-8") from error
        try:
            return cls.from_toml(text, check=check)
        except InputError as error:
            raise InputError(f"cannot read {path}: {error}") from error


# --- Tables of a file ---

_KEYS: Final = ("name", "title", "repeats", "equivalent", "sites", "fixed", "structure")
_STRUCTURE_KEYS: Final = ("space_group", "setting", "cell", "parameters", "positions")
_TYPE_NAMES: Final = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


class _Table:
    """A table of a file: a mapping that knows where it stands, with none but the keys it may have."""

    def __init__(self, content: object, where: str, keys: tuple[str, ...]) -> None:
        if not isinstance(content, Mapping):
            raise InputError(f"{where or 'a prototype'} must be a table, got {_short(content)}")
        self.content = content
        self.where = f"{where}." if where else ""
        for key in content:
            if key not in keys:
                known = ", ".join(known for known in keys if known not in IGNORED_KEYS)
                spelt = key if isinstance(key, str) and len(key) <= 60 else _short(key)
                raise InputError(f"unknown key {self.where}{spelt}: the keys are {known}")

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        """The value of a key, of a type; without a default it has to be there."""
        if key not in self.content:
            if default is None:
                raise InputError(f"the key {self.where}{key} is missing")
            return default
        value = self.content[key]
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not right:
            raise InputError(f"{self.where}{key} must be {_TYPE_NAMES[kind]}, got {_short(value)}")
        return value

    def tables(self, key: str, keys: tuple[str, ...], default: Any = None) -> list[_Table]:
        """The tables of a list of tables."""
        parts = self.take(key, list, default)
        return [_Table(part, f"{self.where}{key}[{i}]", keys) for i, part in enumerate(parts)]


def _symbols_of(table: _Table) -> tuple[str, ...]:
    """The elements of a site, a list of symbols or one text."""
    elements = table.content.get("elements")
    if isinstance(elements, str):
        return parse_elements(elements)
    symbols = table.take("elements", list)
    if not all(isinstance(symbol, str) for symbol in symbols):
        raise InputError(f"{table.where}elements must be symbols, got {_short(symbols)}")
    return tuple(symbols)


def _structure_of(top: _Table) -> Structure | None:
    if top.content.get("structure") is None:
        return None
    table = _Table(top.content["structure"], "structure", _STRUCTURE_KEYS)
    positions = [
        Position(part.take("site", str), part.take("coordinates", list))
        for part in table.tables("positions", ("site", "coordinates"))
    ]
    return Structure(
        table.take("space_group", int),
        table.take("cell", list),
        tuple(positions),
        table.take("parameters", dict, {}),
        table.take("setting", int, 1),
    )


def _toml(value: object) -> str:
    """A text, number, truth value or list in TOML; JSON spells them alike."""
    return json.dumps(value, ensure_ascii=False)


def _toml_lines(table: Mapping[str, object]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in table.items()]


# --- Crystals ---


def _check_cell(cell: Sequence[float]) -> None:
    """Raise InputError unless six numbers are lengths and angles of a cell."""
    spelt = ", ".join(f"{value:g}" for value in cell)
    if not all(_SHORTEST_CELL <= length <= _LONGEST_CELL for length in cell[:3]):
        raise InputError(
            f"the lengths of the cell must be {_SHORTEST_CELL:g}..{_LONGEST_CELL:g} angstrom, got {spelt}"
        )
    if all(0 < angle < 180 for angle in cell[3:]):
        a, b, c = (math.cos(math.radians(angle)) for angle in cell[3:])
        if 1 - a * a - b * b - c * c + 2 * a * b * c >= _FLATTEST_CELL:
            return
    raise InputError(f"the angles of the cell must be degrees that span a volume, got {spelt}")


def _space_group(atoms: Atoms, kinds: Sequence[int]) -> tuple[int, str]:
    """Number and symbol of the space group of atoms of these kinds; 0 if spglib finds none."""
    import spglib

    cell: Any = (np.asarray(atoms.cell), atoms.get_scaled_positions(), kinds)
    with warnings.catch_warnings():
        # from version 2.7 on every call warns that errors will be raised one day
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            dataset = spglib.get_symmetry_dataset(cell, symprec=_SYMPREC)
        except Exception:  # which ones it raises depends on its version
            dataset = None
    return (0, "") if dataset is None else (int(dataset.number), str(dataset.international))


def _cif_text(name: str, formula: str, atoms: Atoms, units: float, rows: Sequence[str]) -> str:
    """A CIF file; `rows` describe the atoms that stand for all others."""
    group = atoms.info["spacegroup"]
    counts: Counter[str] = Counter(atoms.get_chemical_symbols())
    per_unit = {symbol: Fraction(count / units).limit_denominator(1000) for symbol, count in counts.items()}
    leading = ["C", "H"] if "C" in per_unit else []
    order = [s for s in leading if s in per_unit] + sorted(set(per_unit) - set(leading))
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = [
        f"# prototype {name}",
        f"data_{formula}",
        f"_chemical_formula_sum '{' '.join(f'{s}{per_unit[s]}' for s in order)}'",
        *(f"_cell_{key} {value:.10g}" for key, value in zip(names, atoms.cell.cellpar(), strict=True)),
        f"_cell_volume {atoms.get_volume():.10g}",
        *([f"_cell_formula_units_Z {units:.0f}"] if units == int(units) else []),
        f"_space_group_name_H-M_alt '{group.symbol}'",
        f"_space_group_IT_number {group.no}",
        "",
        "loop_",
        "  _space_group_symop_operation_xyz",
        *(f"  '{_operation(rotation, shift)}'" for rotation, shift in group.get_symop()),
        "",
        "loop_",
        "  _atom_site_label",
        "  _atom_site_type_symbol",
        "  _atom_site_symmetry_multiplicity",
        "  _atom_site_fract_x",
        "  _atom_site_fract_y",
        "  _atom_site_fract_z",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def _operation(rotation: NDArray[np.int64], shift: NDArray[np.float64]) -> str:
    """An operation as CIF writes it, for example ``-x+1/2, y, -z``."""
    parts = []
    for row, offset in zip(rotation, shift, strict=True):
        text = "".join(("+" if n > 0 else "-") + axis for n, axis in zip(row, "xyz", strict=True) if n)
        fraction = Fraction(float(offset)).limit_denominator(24) % 1
        parts.append(text.removeprefix("+") + (f"+{fraction}" if fraction else ""))
    return ", ".join(parts)


# --- Those that ship ---

_MAIN_GROUP: Final = parse_elements("H-Ca Ga-Sr In-Ba Tl-Bi")
_PEROVSKITE: Final = parse_elements("Li-B Na-Si K-As Rb-Te Cs-Bi Ac-Pu")

ELPASOLITE: Final = Prototype(
    "elpasolite",
    (Site("A", _MAIN_GROUP), Site("B", _MAIN_GROUP), Site("C", _MAIN_GROUP, 2), Site("D", _MAIN_GROUP, 6)),
    equivalent=(("A", "B"),),
    structure=Structure(
        225,
        ("a", "a", "a", "90", "90", "90"),
        (
            Position("A", ("0", "0", "0")),
            Position("B", ("1/2", "1/2", "1/2")),
            Position("C", ("1/4", "1/4", "1/4")),
            Position("D", ("x", "0", "0")),
        ),
        {"a": 8.5, "x": 0.25},
    ),
    title="elpasolites of 39 main-group elements",
    check=False,
)
"""ABC2D6 of the 39 main-group elements H-Ba, Tl, Pb and Bi, all different; Fm-3m."""

ABO3: Final = Prototype(
    "abo3",
    (Site("A", _PEROVSKITE), Site("B", _PEROVSKITE)),
    (Fixed("O", 3),),
    repeats=True,
    structure=Structure(
        221,
        ("a", "a", "a", "90", "90", "90"),
        (
            Position("A", ("1/2", "1/2", "1/2")),
            Position("B", ("0", "0", "0")),
            Position("O", ("1/2", "0", "0")),
        ),
        {"a": 3.9},
    ),
    title="cubic oxide perovskites of 73 metals and metalloids",
    check=False,
)
"""ABO3 of the 73 elements of Emery and Wolverton (Sci. Data 2017, 4, 170153), which may repeat; Pm-3m."""
