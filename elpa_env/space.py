"""The compositions of a prototype and their conversions, all batched.

Six forms of the same thing, always under these names, for a prototype of S sites:

========== ==================== ==========================================================
`digits`   (n, 2 S) int8        row, column of each site; 1-based; 0 = unset
`scaled`   (n, 2 S) float32     eq. 1 of `digits`; 0.0 where unset
`index`    (n,) int64           position in the table of all compositions, first site slowest;
                                -1 = no such composition
`numbers`  (n, S) int16         atomic numbers on the sites
`compound` (n,) int64           the same for compositions that differ only by an exchange of
                                equivalent sites
`formula`  (n,) str             for example ``AlNaK2F6``
========== ==================== ==========================================================

Rows and columns are those of the periodic table in its long form, without those that hold none of the
prototype's elements, numbered from 1: of the 39 elements of elpasolite 6 rows and 8 columns, their main
groups. Equation numbers are those of Türk et al., Chem. Mater. 2022, 34, 9455.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elpa_env import periodic
from elpa_env.classes import ENERGY_CLASSES, Targets
from elpa_env.errors import InputError
from elpa_env.prototype import ELPASOLITE, Prototype

if TYPE_CHECKING:
    from elpa_env.states import States
    from elpa_env.tree import Tree

MOST_TABULATED: Final = 1 << 24
"""Entries of the largest table of compositions that is held in memory."""
MOST_LEAVES: Final = 1 << 25
"""Leaves of the largest tree of states that is followed as a whole."""
_MOST_ENTRIES: Final = 1 << 59
"""Of a table whose index fits into 64 bits whatever is added up."""
_ROW_BITS: Final = 3
_MAIN_GROUPS: Final = (1, 2, *range(27, 33))
"""Their columns in the long form of the periodic table."""
_PART: Final = 1 << 12
"""Entries of the tables that several sites share, beyond which each site has its own."""


class Space:
    """All compositions of a prototype, and the targets that they may be aimed at.

    Two spaces of the same prototype and targets are equal; `make_space` gives the one that is shared.

    Args:
        prototype: sites, elements, equivalences.
        targets: intervals of a quantity; the ten energy classes of elpasolite by default.

    Attributes:
        prototype: see there.
        targets: see there.
        sites: (S,) their labels.
        n_sites: S.
        n_steps: 2 S, the digits of a composition.
        symbols: of all elements that any site may hold, by their `element` 0..n_elements - 1, in the order of
            their atomic numbers.
        atomic_numbers: (n_elements,) int16.
        rows: (n_elements,) int8, digit 1..n_rows.
        columns: (n_elements,) int8, digit 1..n_columns.
        allowed: (S, n_elements) whether a site may hold an element.
        digit_limits: (2 S,) int8, the largest digit at each step.
        table_shape: (S,) elements that each site may hold.
        n_table: entries of the table of compositions, those that repeat an element included.
        enumerable: whether tables of all compositions are held in memory.
        solvable: whether the tree of all states can be followed, too.

    Raises:
        InputError: the prototype has more compositions, or a state more bits, than 64 bits hold.
    """

    def __init__(self, prototype: Prototype, targets: Targets = ENERGY_CLASSES) -> None:
        self.prototype = prototype
        self.targets = targets
        self.sites = tuple(site.label for site in prototype.sites)
        self.n_sites = len(self.sites)
        self.n_steps = 2 * self.n_sites
        number = periodic.NUMBER_OF_SYMBOL
        palettes = [sorted(number[symbol] for symbol in site.elements) for site in prototype.sites]
        self.atomic_numbers = np.array(sorted(set().union(*palettes)), dtype=np.int16)
        self.symbols = tuple(periodic.SYMBOLS[z] for z in self.atomic_numbers)
        self.n_elements = len(self.symbols)
        self.rows, self.n_rows = _compressed(periodic.ROWS[self.atomic_numbers])
        self.columns, self.n_columns = _compressed(periodic.COLUMNS[self.atomic_numbers])
        self.allowed = np.array([np.isin(self.atomic_numbers, palette) for palette in palettes])
        self.digit_limits = np.array([self.n_rows, self.n_columns] * self.n_sites, dtype=np.int8)
        self.table_shape = tuple(map(len, palettes))
        self.n_table = math.prod(self.table_shape)
        if self.n_table > _MOST_ENTRIES:
            raise InputError(
                f"{prototype.name} has {self.n_table:.1e} compositions, more than an index holds"
            )
        self.n_actions = max(self.n_rows, self.n_columns)
        self.enumerable = self.n_table <= MOST_TABULATED
        self.solvable = self.enumerable and (self.n_rows * self.n_columns) ** self.n_sites <= MOST_LEAVES
        self._hash = hash((prototype, targets))
        self._prepare()

    def _prepare(self) -> None:
        """The small tables that conversions look things up in."""
        # odd limits are rounded up, so that no digit that is set is scaled to 0
        self._float_limits = (self.digit_limits + self.digit_limits % 2).astype(np.float32)
        self._places = self.digit_limits.astype(np.float32)
        self._shape_by_site = np.array(self.table_shape, dtype=np.int64)
        strides = np.cumprod([1, *self.table_shape[:0:-1]], dtype=np.int64)[::-1]
        dtype = np.int32 if (self.n_sites + 1) * self.n_table < 1 << 31 else np.int64
        self._bits = _ROW_BITS + self.n_columns.bit_length()
        element_dtype = np.int8 if self.n_elements < 1 << 7 else np.int16
        self.element_of_row_column = np.full((self.n_rows + 1, self.n_columns + 1), -1, dtype=element_dtype)
        self.element_of_row_column[self.rows, self.columns] = np.arange(self.n_elements)
        self.element_of_number = np.full(len(periodic.SYMBOLS), -1, dtype=element_dtype)
        self.element_of_number[self.atomic_numbers] = np.arange(self.n_elements)
        self._elements_of_site = [np.flatnonzero(row).astype(element_dtype) for row in self.allowed]
        # what an element adds to the index on each site; what it must not hold adds so much below zero that
        # no sum reaches zero. The last column is for no element.
        self._place_of_element = np.full((self.n_sites, self.n_elements + 1), -self.n_table, dtype=dtype)
        for site, elements in enumerate(self._elements_of_site):
            self._place_of_element[site, elements] = strides[site] * np.arange(len(elements))
        self._place_of_codes = list(self._by_codes(dtype))
        self._parts = self._table_parts()
        for array in (
            *(self.atomic_numbers, self.rows, self.columns, self.allowed, self.digit_limits),
            *(self.element_of_row_column, self.element_of_number),
        ):
            array.setflags(write=False)

    def _by_codes(self, dtype: type[np.signedinteger[Any]]) -> Iterator[NDArray[Any]]:
        """For each site, or for each two where that makes small tables, what their codes add to the index.

        The code of a site is ``row + 8 * column``, that of two the second's behind the first's.
        """
        code = self.rows + (self.columns.astype(np.int64) << _ROW_BITS)
        by_site = np.full((self.n_sites, 1 << self._bits), -self.n_table, dtype=dtype)
        by_site[:, code] = self._place_of_element[:, :-1]
        self._coded_pairs = self.n_sites % 2 == 0 and 2 * self._bits <= 18
        if not self._coded_pairs:
            yield from by_site
            return
        for first, second in zip(by_site[0::2], by_site[1::2], strict=True):
            yield (first + second[:, None]).ravel()

    def _table_parts(self) -> list[slice]:
        """Runs of neighbouring sites that share a table of all that they may hold together."""
        parts: list[slice] = []
        for site in range(self.n_sites):
            joined = slice(parts[-1].start, site + 1) if parts else slice(0, 1)
            if parts and math.prod(self.table_shape[joined]) <= _PART:
                parts[-1] = joined
            else:
                parts.append(slice(site, site + 1))
        return parts

    @property
    def name(self) -> str:
        """Of the prototype."""
        return self.prototype.name

    @functools.cached_property
    def column_word(self) -> str:
        """What texts call a column: a group where all are main groups."""
        columns = periodic.COLUMNS[self.atomic_numbers]
        return "group" if np.isin(columns, _MAIN_GROUPS).all() else "column"

    @functools.cached_property
    def n_compositions(self) -> int:
        """Compositions that exist: entries of the table that repeat no element, unless that is allowed."""
        if self.prototype.repeats:
            return self.n_table
        return _different_choices([frozenset(elements.tolist()) for elements in self._elements_of_site])

    @functools.cached_property
    def n_compounds(self) -> int:
        """Different compounds among them."""
        return int(self.compound_mask.sum())

    @functools.cached_property
    def states(self) -> States:
        """The states of its environment."""
        from elpa_env.states import States

        return States(self)

    @functools.cached_property
    def tree(self) -> Tree:
        """The tree of these states.

        Raises:
            InputError: it is too large.
        """
        from elpa_env.tree import Tree

        return Tree(self)

    def require_table(self, what: str, instead: str = "score samples under an energy model") -> None:
        """Refuse what needs all compositions where there are too many of them.

        Raises:
            InputError: the space is too large.
        """
        if not self.enumerable:
            raise InputError(
                f"{what} needs a table of all compositions, and {self.name} has {self.n_table:.3g}: {instead}"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Space):
            return NotImplemented
        return self is other or (self.prototype, self.targets) == (other.prototype, other.targets)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Space({self.prototype}; {self.targets.n} targets of {self.targets.quantity})"

    def __reduce__(self) -> tuple[Any, ...]:
        return make_space, (self.prototype, self.targets)

    def to_dict(self) -> dict[str, Any]:
        """In types that JSON knows, for checkpoints and records."""
        return {**self.prototype.to_dict(), "targets": self.targets.to_dict()}

    @staticmethod
    def from_dict(content: object) -> Space:
        """The space that `to_dict` describes; an empty or missing description is elpasolite's.

        Raises:
            InputError: it describes none.
        """
        if content is None:
            return ELPASOLITE_SPACE
        if not isinstance(content, dict):
            raise InputError(f"a space is described by a table, got {content!r}")
        targets = content.get("targets")
        if {key: value for key, value in content.items() if key != "targets"} == ELPASOLITE.to_dict():
            prototype = ELPASOLITE
        else:
            prototype = Prototype.from_dict(content)
        return make_space(prototype, ENERGY_CLASSES if targets is None else Targets.from_dict(targets))

    def check_same(self, other: Space, what: str) -> None:
        """Raise InputError unless something is of this space."""
        if other == self:
            return
        if other.prototype == self.prototype:
            raise InputError(f"{what} has other targets than are asked for: {', '.join(other.targets.names)}")
        raise InputError(
            f"{what} is of {other.name} ({other.prototype.formula_template}), not of {self.name}"
        )

    # digits

    def as_digits(self, digits: ArrayLike) -> NDArray[np.int8]:
        """Check and convert to (n, 2 S) int8.

        Raises:
            InputError: wrong shape, non-integers, or a row or column out of range.
        """
        array = np.asarray(digits)
        if array.ndim != 2 or array.shape[1] != self.n_steps:
            raise InputError(f"digits must have shape (n, {self.n_steps}), got {array.shape}")
        if array.dtype.kind not in "iu":
            raise InputError(f"digits must be integers, got {array.dtype}")
        bad = (array < 0) | (array > self.digit_limits)
        if bad.any():
            where = np.argwhere(bad)[0]
            kind = self.column_word if where[1] % 2 else "row"
            limit = self.digit_limits[where[1]]
            raise InputError(
                f"digits[{where[0]}, {where[1]}] must be a {kind} 0..{limit}, got {array[tuple(where)]}"
            )
        return array.astype(np.int8, copy=False)

    def scale(self, digits: ArrayLike) -> NDArray[np.float32]:
        """Map row and column numbers to (-1, 1), eq. 1.

        Args:
            digits: (n, 2 S) row, column of the sites; 0 = unset.

        Returns:
            (n, 2 S); 0.0 where unset. No digit that is set maps to 0.0: where the limit of eq. 1 is odd, it
            is raised by one.

        Raises:
            InputError: a row or column out of range.
        """
        array = self.as_digits(digits)
        scaled = (2 * array.astype(np.float32) - 1) / self._float_limits - 1
        return np.where(array == 0, np.float32(0), scaled)

    def prefixes(self, digits: NDArray[np.int8]) -> NDArray[np.int8]:
        """(n, 2 S + 1, 2 S) the states that lead to compositions (n, 2 S), the one with none set first."""
        unset = np.arange(self.n_steps) >= np.arange(self.n_steps + 1)[:, None]
        return np.where(unset, np.int8(0), digits[:, None, :])

    def decode(self, vectors: ArrayLike) -> NDArray[np.int8]:
        """Round generated vectors to the nearest digits, the inverse of eq. 1.

        Args:
            vectors: (n, 2 S) real numbers, as a decoder or generator emits them.

        Returns:
            (n, 2 S) digits, clipped to the rows and columns that there are; never 0.

        Raises:
            InputError: wrong shape, or a value that is not a number.
        """
        array = np.asarray(vectors, dtype=np.float32)
        if array.ndim != 2 or array.shape[1] != self.n_steps:
            raise InputError(f"vectors must have shape (n, {self.n_steps}), got {array.shape}")
        places = array + np.float32(1)
        places *= self._float_limits / 2
        places += np.float32(0.5)
        np.minimum(places, self._places, out=places)
        np.maximum(places, np.float32(1), out=places)
        if np.isnan(places.sum()):
            raise InputError("vectors must be numbers, got NaN: the model that made them has diverged")
        np.rint(places, out=places)
        return places.astype(np.int8)

    def unscale(self, scaled: ArrayLike) -> NDArray[np.int8]:
        """Exact inverse of `scale`: (n, 2 S) digits, 0 where `scaled` is 0.0."""
        return np.where(np.asarray(scaled) == 0, np.int8(0), self.decode(scaled))

    @property
    def half_limits(self) -> NDArray[np.float32]:
        """(2 S,) half the limits of eq. 1: ``digit = (scaled + 1) * half_limits + 0.5``."""
        return np.asarray(self._float_limits / 2)

    # index

    def elements_to_index(self, elements: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Position in the table of compositions.

        Args:
            elements: (n, S) element on each site, negative = does not exist.

        Returns:
            (n,) index; -1 where a site must not hold its element, or one stands twice.
        """
        places = (self.place_of_element(site, elements[:, site]) for site in range(self.n_sites))
        return self.index_of_places(
            sum(places, start=np.zeros(len(elements), dtype=self._place_of_element.dtype))
        )

    def index_of_places(self, index: NDArray[np.signedinteger[Any]]) -> NDArray[np.int64]:
        """(n,) sums of what the sites add to the index; -1 where that is no composition."""
        if self.prototype.repeats:
            return np.where(index >= 0, index, -1).astype(np.int64)
        if self.enumerable:
            real = self.composition_mask.take(np.maximum(index, 0))
            if self._first_is_real:
                real &= index >= 0
            return np.where(real, index, -1).astype(np.int64)
        found = np.where(index >= 0, index, -1).astype(np.int64)
        there = np.flatnonzero(found >= 0)
        found[there[_repeats(self.index_to_elements(found[there]))]] = -1
        return found

    def place_of_element(
        self, site: int, elements: NDArray[np.integer[Any]]
    ) -> NDArray[np.signedinteger[Any]]:
        """(n,) what elements on a site add to the index, far below zero where it must not hold them."""
        return np.asarray(self._place_of_element[site].take(elements, mode="wrap"))

    @functools.cached_property
    def _first_is_real(self) -> bool:
        """Whether the first entry of the table is a composition; where it is none, it stands for no entry."""
        return bool(self.composition_mask[0])

    @functools.cached_property
    def _last_is_real(self) -> bool:
        """The same for the last, which -1 finds."""
        return bool(self.composition_mask[-1])

    def look_up(self, table: NDArray[Any], index: ArrayLike) -> NDArray[Any]:
        """(n,) what a (n_table,) table says of (n,) index; where that is -1, what it says of no composition.

        Tables hold NaN, 0 or False for what is no composition.
        """
        array = np.asarray(index)
        if not self._last_is_real:
            return np.asarray(table.take(array))
        missing = np.nan if table.dtype.kind == "f" else 0
        return np.where(array >= 0, table.take(array), np.array(missing, dtype=table.dtype))

    def checked_index(self, index: ArrayLike) -> NDArray[np.integer[Any]]:
        """(n,) index as an array.

        Raises:
            InputError: another shape or type, or an index outside the table; -1 is outside.
        """
        array = np.asarray(index)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise InputError(f"index must be (n,) integers, got {array.dtype} of shape {array.shape}")
        if array.size and not (0 <= array.min() and array.max() < self.n_table):
            bad = (array < 0) | (array >= self.n_table)
            raise InputError(f"index must be 0..{self.n_table - 1}, got {array[bad][0]}")
        return array

    def index_to_elements(self, index: ArrayLike) -> NDArray[np.integer[Any]]:
        """(n, S) element on each site.

        Raises:
            InputError: an index outside the table; -1 (no such composition) has no elements.
        """
        return self._of_parts(self._element_parts, index)

    @functools.cached_property
    def _element_parts(self) -> list[NDArray[Any]]:
        """For each part (n_part, sites) elements."""
        tables = []
        for part in self._parts:
            grid = np.indices(self.table_shape[part]).reshape(part.stop - part.start, -1)
            elements = [self._elements_of_site[part.start + i][local] for i, local in enumerate(grid)]
            tables.append(np.stack(elements, axis=1))
        return tables

    @functools.cached_property
    def _number_parts(self) -> list[NDArray[Any]]:
        return [self.atomic_numbers[elements] for elements in self._element_parts]

    @functools.cached_property
    def _digit_parts(self) -> list[NDArray[Any]]:
        both = np.stack([self.rows, self.columns], axis=1)
        return [both[elements].reshape(len(elements), -1) for elements in self._element_parts]

    def _places_in_parts(self, index: ArrayLike) -> list[NDArray[np.int64]]:
        """The place of (n,) index in the table of each part."""
        rest: NDArray[Any] = self.checked_index(index)
        places: list[NDArray[np.int64]] = []
        for part in self._parts[:0:-1]:
            rest, place = np.divmod(rest, math.prod(self.table_shape[part]))
            places.insert(0, place)
        return [rest, *places]

    def _of_parts(self, tables: Sequence[NDArray[Any]], index: ArrayLike) -> NDArray[Any]:
        """(n, ...) rows of the parts' tables side by side."""
        places = self._places_in_parts(index)
        packed = [_packed(table) for table in tables]
        if len({table.dtype for table in packed}) == 1 and packed[0].ndim == 1:
            both = np.empty((len(places[0]), len(tables)), dtype=packed[0].dtype)
            for column, (table, place) in enumerate(zip(packed, places, strict=True)):
                both[:, column] = table.take(place)
            return both.view(tables[0].dtype)
        return np.concatenate(
            [table.take(place, axis=0) for table, place in zip(tables, places, strict=True)], axis=1
        )

    def digits_to_index(self, digits: ArrayLike) -> NDArray[np.int64]:
        """(n,) index of (n, 2 S) digits; -1 = unset, not existing, not for that site, or an element twice.

        Raises:
            InputError: a row or column out of range.
        """
        pairs = np.ascontiguousarray(self.as_digits(digits)).view("<u2")  # row + 256 * column
        codes = (pairs >> np.uint16(8 - _ROW_BITS)) | (pairs & np.uint16((1 << _ROW_BITS) - 1))
        if self._coded_pairs:
            both = codes.view("<u4")  # first site + 65536 * second
            codes = (both >> np.uint32(16 - self._bits)) | (both & np.uint32((1 << self._bits) - 1))
        places = (table.take(codes[:, column]) for column, table in enumerate(self._place_of_codes))
        return self.index_of_places(functools.reduce(np.add, places))

    def digits_to_elements(self, digits: ArrayLike) -> NDArray[np.integer[Any]]:
        """(n, S) element on each site; -1 where a site is unset or no such element exists."""
        array = self.as_digits(digits)
        return self.element_of_row_column[array[:, 0::2], array[:, 1::2]]

    def index_to_digits(self, index: ArrayLike) -> NDArray[np.int8]:
        """(n, 2 S) digits of (n,) index."""
        return self._of_parts(self._digit_parts, index)

    def index_to_numbers(self, index: ArrayLike) -> NDArray[np.int16]:
        """(n, S) atomic numbers of (n,) index."""
        return self._of_parts(self._number_parts, index)

    def numbers_to_index(self, numbers: ArrayLike) -> NDArray[np.int64]:
        """(n,) index of (n, S) atomic numbers; -1 = not an element for its site, or an element twice."""
        array = np.asarray(numbers)
        if array.ndim != 2 or array.shape[1] != self.n_sites or array.dtype.kind not in "iu":
            raise InputError(
                f"numbers must be (n, {self.n_sites}) integers, got {array.dtype} of shape {array.shape}"
            )
        known = (array >= 0) & (array < len(self.element_of_number))
        elements = np.where(known, self.element_of_number[np.where(known, array, 0)], np.int8(-1))
        return self.elements_to_index(elements)

    # compounds

    @functools.cached_property
    def exchanges(self) -> tuple[tuple[int, ...], ...]:
        """Orders of the sites that give the same compound, the given one left out."""
        groups = [[self.sites.index(label) for label in group] for group in self.prototype.equivalent]
        orders = []
        for choice in itertools.product(*(itertools.permutations(group) for group in groups)):
            order = list(range(self.n_sites))
            for group, chosen in zip(groups, choice, strict=True):
                for place, site in zip(group, chosen, strict=True):
                    order[place] = site
            orders.append(tuple(order))
        return tuple(orders[1:])

    def images(self, index: ArrayLike) -> list[NDArray[np.int64]]:
        """(n,) index of the same compound in each other order of its equivalent sites."""
        if not self.exchanges:
            return []
        elements = self.index_to_elements(index)
        return [self.elements_to_index(elements[:, list(order)]) for order in self.exchanges]

    def mirrored(self, table: NDArray[Any]) -> list[NDArray[Any]]:
        """For each of the `exchanges` (n_table,) what a table says of every entry's image."""
        return [table.reshape(self.table_shape).transpose(order).ravel() for order in self.exchanges]

    def index_to_compound(self, index: ArrayLike) -> NDArray[np.int64]:
        """(n,) compound of (n,) index: the smallest index among the orders of its equivalent sites.

        Sites that are equivalent in the structure make these one compound, which costs one calculation.
        """
        array = np.asarray(index, dtype=np.int64)
        return functools.reduce(np.minimum, self.images(array), array)

    @functools.cached_property
    def compound_table(self) -> NDArray[np.int32]:
        """(n_table,) compound of every entry of the table."""
        self.require_table("a table of compounds")
        own = np.arange(self.n_table, dtype=np.int32)
        table: NDArray[np.int32] = functools.reduce(np.minimum, self.mirrored(own), own)
        table.setflags(write=False)
        return table

    @functools.cached_property
    def compound_mask(self) -> NDArray[np.bool_]:
        """(n_table,) True at one composition of every compound, that of the smallest index."""
        mask: NDArray[np.bool_] = self.compound_table == np.arange(self.n_table, dtype=np.int32)
        mask &= self.composition_mask
        mask.setflags(write=False)
        return mask

    @functools.cached_property
    def composition_mask(self) -> NDArray[np.bool_]:
        """(n_table,) True where an entry of the table is a composition: no element twice, or it may be."""
        self.require_table("a mask of compositions")
        mask = np.ones(self.table_shape, dtype=bool)
        if not self.prototype.repeats:
            for i, j in itertools.combinations(range(self.n_sites), 2):
                differ = self._elements_of_site[i][:, None] != self._elements_of_site[j]
                mask &= np.expand_dims(differ, tuple(s for s in range(self.n_sites) if s not in (i, j)))
        flat = mask.ravel()
        flat.setflags(write=False)
        return flat

    # formulas

    def index_to_formula(self, index: ArrayLike) -> NDArray[np.object_]:
        """(n,) formulas such as ``AlNaK2F6``: the sites in their order, then what is fixed."""
        places = self._places_in_parts(index)
        parts = (table.take(place) for table, place in zip(self._formula_parts, places, strict=True))
        formulas = functools.reduce(np.add, parts)
        return np.asarray(formulas + self.fixed if self.fixed else formulas, dtype=object)

    @functools.cached_property
    def _formula_parts(self) -> list[NDArray[np.object_]]:
        tables = []
        for part, elements in zip(self._parts, self._element_parts, strict=True):
            times = [subscript(site.multiplicity) for site in self.prototype.sites[part]]
            texts = [
                "".join(self.symbols[e] + n for e, n in zip(row, times, strict=True))
                for row in elements.tolist()
            ]
            tables.append(np.array(texts, dtype=object))
        return tables

    @functools.cached_property
    def fixed(self) -> str:
        """The end of every formula."""
        return "".join(f.element + subscript(f.multiplicity) for f in self.prototype.fixed)

    def formula_to_index(self, formulas: Iterable[str]) -> NDArray[np.int64]:
        """(n,) index of formulas such as ``AlNaK2F6``; -1 where a formula is not a composition.

        A formula that cannot be read, an element that a site must not hold, and an element that stands
        twice all give -1; `explain_formula` tells which.
        """
        strings = [str(formula) for formula in formulas]
        text = "\n".join(strings)
        if not text.isascii() or text.count("\n") != max(len(strings) - 1, 0):
            strings = [f if f.isascii() and "\n" not in f else "" for f in strings]
            text = "\n".join(strings)
        if not strings:
            return np.zeros(0, dtype=np.int64)
        return self._parse_lines(np.frombuffer(f"\n{text}\n\n".encode(), dtype=np.uint8))

    def _parse_lines(self, text: NDArray[np.uint8]) -> NDArray[np.int64]:
        """(n,) index of one formula a line; a line break before the first, two behind the last."""
        breaks = np.flatnonzero(text[:-1] == ord("\n"))
        start, end = breaks[:-1] + 1, breaks[1:]
        symbol = self._symbol_of_bytes[text[:-1], text[1:]]
        width = self._symbol_width[symbol]
        elements = np.empty((len(start), self.n_sites), dtype=symbol.dtype)
        place = start
        wrong = np.zeros(len(start), dtype=bool)
        for number, site in enumerate(self.prototype.sites):
            elements[:, number] = symbol[place]
            place = np.minimum(place + width[place], end)
            place = _pass_over(text, place, end, subscript(site.multiplicity), wrong)
        place = _pass_over(text, place, end, self.fixed, wrong)
        elements[wrong | (place != end), 0] = -1
        return self.elements_to_index(elements)

    @functools.cached_property
    def _symbol_of_bytes(self) -> NDArray[np.signedinteger[Any]]:
        """(256, 256) element whose symbol starts with these two bytes, -1 = none."""
        table = np.full((256, 256), -1, dtype=self.element_of_number.dtype)
        for element, symbol in sorted(enumerate(self.symbols), key=lambda pair: len(pair[1])):
            if len(symbol) == 1:
                table[ord(symbol)] = element
                table[ord(symbol), ord("a") : ord("z") + 1] = -1
            else:
                table[ord(symbol[0]), ord(symbol[1])] = element
        return table

    @functools.cached_property
    def _symbol_width(self) -> NDArray[np.int8]:
        return np.array([*map(len, self.symbols), 1], dtype=np.int8)

    def explain_formula(self, formula: str) -> str:
        """Say in a few words why a formula is not a composition; empty if it is one."""
        rest, symbols = str(formula), []
        for site in self.prototype.sites:
            symbol = rest[:2] if rest[1:2].isascii() and rest[1:2].islower() else rest[:1]
            times = subscript(site.multiplicity)
            rest = rest[len(symbol) :]
            if not (symbol[:1].isascii() and symbol[:1].isupper() and rest.startswith(times)):
                return f"not of the form {self.prototype.formula_template}"
            symbols.append(symbol)
            rest = rest[len(times) :]
        if rest != self.fixed:
            return f"not of the form {self.prototype.formula_template}"
        return self._explain(symbols)

    def explain_numbers(self, numbers: Sequence[int]) -> str:
        """Say in a few words why atomic numbers are not a composition; empty if they are one."""
        known = [periodic.SYMBOLS[z] if 0 < z < len(periodic.SYMBOLS) else str(z) for z in numbers]
        return self._explain(known)

    def _explain(self, symbols: Sequence[str]) -> str:
        unknown = [s for s in symbols if s not in self.symbols]
        if unknown:
            return f"unknown element {unknown[0]}: the {self.n_elements} are {', '.join(self.symbols)}"
        for site, symbol in zip(self.prototype.sites, symbols, strict=True):
            if symbol not in site.elements:
                return f"site {site.label} must not hold {symbol}: it takes {', '.join(site.elements)}"
        repeated = [s for s in symbols if symbols.count(s) > 1]
        return f"element {repeated[0]} stands twice" if repeated and not self.prototype.repeats else ""


@functools.lru_cache(maxsize=32)
def make_space(prototype: Prototype, targets: Targets = ENERGY_CLASSES) -> Space:
    """The space of a prototype and targets, made once in a process and shared."""
    return Space(prototype, targets)


def _compressed(places: NDArray[np.int8]) -> tuple[NDArray[np.int8], int]:
    """Rows or columns numbered from 1 without those that do not occur, and how many there are."""
    found, numbered = np.unique(places, return_inverse=True)
    return (numbered + 1).astype(np.int8), len(found)


def _packed(table: NDArray[Any]) -> NDArray[Any]:
    """(n,) each row of a table as one number, where it has 2, 4 or 8 bytes; else the table as it is."""
    width = table.shape[1] * table.itemsize
    if width not in (1, 2, 4, 8):
        return table
    return np.ascontiguousarray(table).view(f"u{width}").ravel()


def _repeats(elements: NDArray[Any]) -> NDArray[np.bool_]:
    """(n,) whether an element stands twice in a row."""
    pairs = itertools.combinations(range(elements.shape[1]), 2)
    found = (elements[:, i] == elements[:, j] for i, j in pairs)
    return functools.reduce(np.logical_or, found, np.zeros(len(elements), dtype=bool))


def _different_choices(palettes: Sequence[frozenset[int]]) -> int:
    """Ways to choose a different element for each site.

    By inclusion and exclusion over the ways to part the sites into blocks that share an element.
    """
    total = 0

    def part(rest: Sequence[int], blocks: list[list[int]]) -> None:
        nonlocal total
        if not rest:
            sign = math.prod((-1) ** (len(block) - 1) * math.factorial(len(block) - 1) for block in blocks)
            shared = (frozenset.intersection(*(palettes[site] for site in block)) for block in blocks)
            total += sign * math.prod(map(len, shared))
            return
        first, *others = rest
        for block in blocks:
            block.append(first)
            part(others, blocks)
            block.pop()
        part(others, [*blocks, [first]])

    part(range(len(palettes)), [])
    return total


def subscript(multiplicity: int) -> str:
    """How often in a formula; nothing for once."""
    return "" if multiplicity == 1 else str(multiplicity)


def _pass_over(
    text: NDArray[np.uint8],
    place: NDArray[np.int64],
    end: NDArray[np.int64],
    expected: str,
    wrong: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """(n,) places behind what is expected there; where something else stands, `wrong` becomes True."""
    for byte in expected.encode():
        wrong |= text[place] != byte
        place = np.minimum(place + 1, end)
    return place


ELPASOLITE_SPACE: Final = make_space(ELPASOLITE)
"""ABC2D6 of 39 main-group elements with its ten energy classes: 1,974,024 compositions (Türk et al. 2022)."""
