"""The state of an episode as one integer, and all that is looked up by it, in batches.

A state holds the number of digits set and the digits themselves, 0 = unset, as a mixed-radix number. From the
lowest bits upwards::

    stride * step | code of the first two sites | code of the next two | ...

The lowest bits with an action added are the place of both in a table, and what an allowed action adds to the
state depends on these two alone. What a state shows, which elements it has used and which composition it is
come together from what its parts, of two sites each, say by themselves, so that every table is small,
whatever the number of compositions. All tables are made here, from the rows and columns of a `Space`.

Where sites are equivalent, a compound may be reached in every order of them: nothing here knows of it.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elpa_env.errors import InputError

if TYPE_CHECKING:
    from elpa_env.space import Space

START: Final = 0
"""The state with all digits unset."""
_SITES_A_PART: Final = 2
_LARGEST: Final = 62
"""Bits that a state may have."""
_ROW_SHIFT: Final = 56
_BITS_OF_BYTE: Final = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_EIGHT_OF_BYTE: Final = np.ascontiguousarray(_BITS_OF_BYTE).view(np.int64).ravel()
_ONES_OF_BYTE: Final = _BITS_OF_BYTE.sum(axis=1)


class _Part(NamedTuple):
    """What some neighbouring sites say of a state: tables over their codes, the last digit counting fastest.

    Attributes:
        scaled: (n, 4) float32, their share of the observation; behind the last site of an odd number 0.
        used: (n, words) int64, elements of the finished sites; (n,) where one word holds all, and in its
            highest byte then also 8 (row - 1) of a site just begun.
        begun: (n,) int64, the first byte of that row; 0 where no site is begun.
        place: (n,) int64, what they add to the index of a composition; far below zero where it is none.
    """

    scaled: NDArray[np.float32]
    used: NDArray[np.int64]
    begun: NDArray[np.int64]
    place: NDArray[np.int64]


class _Crowd(NamedTuple):
    """Sites to come that take few elements, so that a choice before them may leave them none.

    Attributes:
        size: how many sites.
        elements: (words,) int64, all that they take together.
    """

    size: int
    elements: NDArray[np.int64]


class States:
    """The states of a space.

    Attributes:
        space: see there.
        widths: actions in range at each step.
        n_actions: the largest of them.
        stride: places that a step has in the tables by step and action: a power of two, at least `n_actions`.
        over: the state of an episode that is over, from which any action leads to `START`.
        complete: what `first_actions` says of a state with all digits set.
        gains: ((steps + 2) stride,) what an action adds to the state; 0 where it is out of range.
        entries: (steps stride,) what an action sets in the observation; 0.0 where it is out of range.

    Raises:
        InputError: a state of the space does not fit into 64 bits.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.widths = tuple(int(limit) for limit in space.digit_limits)
        self.n_actions = max(self.widths)
        self.stride = max(8, 1 << (self.n_actions - 1).bit_length())
        self.over = self.stride * (space.n_steps + 1)
        self.complete = self.stride * space.n_steps
        self._step_bits = (self.over + self.stride - 1).bit_length()
        self._radices = np.array(self.widths) + 1
        per_part = 2 * _SITES_A_PART
        self._part_steps = [
            slice(first, min(first + per_part, space.n_steps)) for first in range(0, space.n_steps, per_part)
        ]
        sizes = [int(self._radices[steps].prod()) for steps in self._part_steps]
        self._part_bits = (max(sizes) - 1).bit_length()
        if self._step_bits + self._part_bits * len(sizes) > _LARGEST:
            raise InputError(
                f"{space.name} has {space.n_sites} sites of {space.n_rows} x {space.n_columns} places, more "
                "than a state holds: take fewer sites, or fewer elements"
            )
        self._shifts = [self._step_bits + part * self._part_bits for part in range(len(sizes))]
        self._places = self._digit_places()
        # An element is a bit, those of a row one byte or several; of a table of few columns the highest byte
        # of the one word is free for the row of an unfinished site.
        self._row_bytes = -(-space.n_columns // 8)
        self._words = -(-space.n_rows * self._row_bytes // 8)
        self._compact = self._row_bytes == 1 and self.stride == 8
        self._element_bits = self._bits_of_elements()
        self.gains = self._gains()
        self.entries = self._entries()
        self._range_masks = self._masks_of_range()
        self._parts = [self._part(steps) for steps in self._part_steps]
        # The observation of all parts is looked up at once, in their tables one behind the other.
        self._scaled = np.concatenate([part.scaled for part in self._parts])
        self._scaled_starts = [sum(sizes[:part]) for part in range(len(sizes))]
        allowed = [self._word_of(site) for site in space.allowed]
        self._uniform = allowed[0] if all((one == allowed[0]).all() for one in allowed) else None
        self._allowed = np.stack([*allowed, allowed[-1]]).repeat(2, axis=0)[: space.n_steps + 2]
        self._crowds = {} if space.prototype.repeats else self._find_crowds(allowed)

    def _digit_places(self) -> NDArray[np.int64]:
        """(2 S,) what one more in a digit adds to the state."""
        places = []
        for steps, shift in zip(self._part_steps, self._shifts, strict=True):
            radices = self._radices[steps]
            places += [int(radices[place + 1 :].prod()) << shift for place in range(len(radices))]
        return np.array(places)

    def _gains(self) -> NDArray[np.int64]:
        gains = np.zeros((self.space.n_steps + 2, self.stride), dtype=np.int64)
        for step, width in enumerate(self.widths):
            gains[step, :width] = np.arange(1, width + 1) * self._places[step] + self.stride
        gains[-1] = START - self.over
        return gains.ravel()

    def _entries(self) -> NDArray[np.float32]:
        n_steps = self.space.n_steps
        digits = np.zeros((n_steps, self.stride, n_steps), dtype=np.int8)
        for step, width in enumerate(self.widths):
            digits[step, :width, step] = np.arange(1, width + 1)
        return np.asarray(self.space.scale(digits.reshape(-1, n_steps)).sum(axis=1))

    def _masks_of_range(self) -> NDArray[np.bool_]:
        """((steps + 2) stride, stride) actions in range, by step and any action; all at the end."""
        masks = np.zeros((self.space.n_steps + 2, self.stride), dtype=bool)
        masks[:, : self.n_actions] = True
        masks[:-2] = np.arange(self.stride) < np.array(self.widths)[:, None]
        return masks.repeat(self.stride, axis=0)

    def _bits_of_elements(self) -> NDArray[np.int64]:
        """(n_elements, words) the bit of every element."""
        space = self.space
        places = 8 * self._row_bytes * (space.rows.astype(np.int64) - 1) + space.columns - 1
        bits = np.zeros((space.n_elements, self._words), dtype=np.uint64)
        bits[np.arange(space.n_elements), places // 64] = np.uint64(1) << (places % 64).astype(np.uint64)
        return bits.view(np.int64)

    def _word_of(self, which: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(words,) the bits of the elements for which (n_elements,) `which` is True."""
        return np.asarray(np.bitwise_or.reduce(self._element_bits[which], axis=0))

    def _part(self, steps: slice) -> _Part:
        """The sites whose digits these steps set."""
        space = self.space
        radices: list[int] = self._radices[steps].tolist()
        digits = np.zeros((np.prod(radices), space.n_steps), dtype=np.int8)
        digits[:, steps] = np.indices(radices).reshape(len(radices), -1).T
        sites = range(steps.start // 2, steps.stop // 2)
        elements = space.digits_to_elements(digits)
        rows, columns = (digits[:, steps][:, place::2].astype(np.int64) for place in (0, 1))
        begun = np.where((rows > 0) & (columns == 0), self._row_bytes * (rows - 1), 0).sum(axis=1)
        bits = np.where((elements >= 0)[..., None], self._element_bits[elements], 0)
        used = np.bitwise_or.reduce(bits, axis=1)
        if self._compact:
            used = used[:, 0] | 8 * begun << _ROW_SHIFT
        places = [space.place_of_element(site, elements[:, site]) for site in sites]
        scaled = np.zeros((len(digits), 2 * _SITES_A_PART), dtype=np.float32)
        scaled[:, : steps.stop - steps.start] = space.scale(digits)[:, steps]
        return _Part(scaled, used, begun, functools.reduce(np.add, places).astype(np.int64))

    def _find_crowds(self, allowed: list[NDArray[np.int64]]) -> dict[int, list[_Crowd]]:
        """For each site the sets of sites behind it that a choice up to it may leave too few elements.

        By Hall's theorem the sites to come can be filled exactly if any of them together have at least as
        many free elements as they are. Sites that take as many elements as there are sites always do.
        """
        n_sites = self.space.n_sites
        few = [site for site in range(n_sites) if self.space.table_shape[site] < n_sites]
        crowds: dict[int, list[_Crowd]] = {}
        for site in range(n_sites):
            behind = [other for other in few if other > site]
            for size in range(1, len(behind) + 1):
                for together in itertools.combinations(behind, size):
                    elements = functools.reduce(np.bitwise_or, [allowed[other] for other in together])
                    if _count_bits(elements[None])[0] <= size + site:
                        crowds.setdefault(site, []).append(_Crowd(size, elements))
        return crowds

    def steps_taken(self, digits: NDArray[np.int8]) -> NDArray[np.int64]:
        """(n,) number of digits set."""
        # a product of floats is several times faster than a count along short rows
        return np.asarray(((digits != 0) @ np.ones(self.space.n_steps)).astype(np.int64))

    def encode(self, digits: NDArray[np.int8]) -> NDArray[np.int64]:
        """(n,) states of (n, 2 S) digits, which are known to be in range and set from the first on."""
        if self._shifts[-1] + self._part_bits > np.finfo(np.float64).nmant:
            codes = digits.astype(np.int64) @ self._places
        else:
            # floats hold these numbers exactly, and their product is faster, too
            codes = (digits @ self._places.astype(np.float64)).astype(np.int64)
        return np.asarray(codes + self.stride * self.steps_taken(digits))

    def decode(self, state: NDArray[np.int64]) -> NDArray[np.int8]:
        """(n, 2 S) digits of (n,) states."""
        parts = state[:, None] & (((1 << self._part_bits) - 1) << np.array(self._shifts))
        codes = parts.repeat(2 * _SITES_A_PART, axis=1)[:, : self.space.n_steps]
        return np.asarray((codes // self._places % self._radices).astype(np.int8))

    def first_actions(self, state: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) stride * step: the place of a state's first action in the tables by step and action."""
        return state & ((1 << self._step_bits) - 1)

    def advance(
        self, state: NDArray[np.int64], place: NDArray[np.int64], allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Make one choice each.

        Args:
            state: (n,) incomplete or `over`.
            place: (n,) `first_actions` of the states, plus the actions.
            allowed: (n,) whether the mask allows the action; by default what is in range.

        Returns:
            (n,) the states after it, and (n,) whether the action was allowed; one that was not changes
            nothing.
        """
        gain = self.gains.take(place)
        if allowed is not None:
            gain *= allowed
        return state + gain, gain != 0

    def advance_together(
        self, state: NDArray[np.int64], step: int, action: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Make one choice each where all states are at one step and all actions are allowed.

        Returns:
            (n,) the states after it, and (n,) what it sets in the observation.
        """
        of_step = slice(self.stride * step, self.stride * (step + 1))
        return state + self.gains[of_step].take(action), self.entries[of_step].take(action)

    def observe(self, state: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, 2 S) digits scaled by eq. 1; 0.0 where unset."""
        places = np.empty((len(state), len(self._parts)), dtype=np.int64)
        codes = self._of_parts(state)
        for column, (start, (_, code)) in enumerate(zip(self._scaled_starts, codes, strict=True)):
            np.add(code, start, out=places[:, column])
        observation = self._scaled.take(places, axis=0).reshape(len(state), -1)
        if self.space.n_steps == observation.shape[1]:
            return observation
        return np.ascontiguousarray(observation[:, : self.space.n_steps])

    def index_of(self, state: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) index of the composition; -1 = incomplete, not existing, or an element twice."""
        places = [part.place.take(code) for part, code in self._of_parts(state)]
        return self.space.index_of_places(functools.reduce(np.add, places))

    def action_masks(self, state: NDArray[np.int64], *, composition: bool = False) -> NDArray[np.bool_]:
        """(n, n_actions) True where an action is in range, or rather where a composition can still follow."""
        padded = self.composition_masks(state) if composition else self.range_masks(self.first_actions(state))
        return self.unpadded(padded)

    def unpadded(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(n, n_actions) of (n, stride) masks."""
        return masks if self.n_actions == self.stride else np.ascontiguousarray(masks[:, : self.n_actions])

    def range_masks(self, first: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n, stride) True where an action is in range, and for every action at the end.

        Args:
            first: (n,) of `first_actions`.
        """
        return self._range_masks.take(first, axis=0)

    def composition_masks(self, state: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n, stride) True where a composition can follow, and for every action once it is complete."""
        first = self.first_actions(state)
        parts = self._of_parts(state)
        allowed: NDArray[np.int64]
        if self._uniform is not None:
            allowed = self._uniform
        else:
            allowed = self._allowed.take(first // self.stride, axis=0)
        used = functools.reduce(np.bitwise_or, [part.used.take(code, axis=0) for part, code in parts])
        if self.space.prototype.repeats:
            free = np.broadcast_to(allowed, (len(state), self._words))
        else:
            free = allowed & ~used.reshape(-1, self._words)
        if self._crowds:
            free = self._spare(free, used.reshape(-1, self._words), first)
        odd = (first & self.stride).astype(bool)
        if self._compact:
            rows, columns = _compact_masks(free.ravel(), used)
            # a row of eight bools travels as one number
            masks = np.where(odd[:, None], columns.view(np.int64), rows.view(np.int64))
        else:
            masks = self._wide_masks(free, odd, parts).view(np.int64)
        masks[first >= self.complete] = self._range_masks[-1].view(np.int64)
        return masks.view(bool)

    def _wide_masks(
        self,
        free: NDArray[np.int64],
        odd: NDArray[np.bool_],
        parts: list[tuple[_Part, NDArray[np.int64]]],
    ) -> NDArray[np.bool_]:
        """(n, stride) open columns of the row begun where `odd`, else open rows; of (n, words) free elements.

        Both are made only where some state asks for them: most often all states are at one step.
        """
        n, width = len(free), 8 * self._words
        by_byte = np.ascontiguousarray(free).view(np.uint8).reshape(n, width)
        masks = np.zeros((n, self.stride), dtype=bool)
        if not odd.all():
            of_rows = by_byte[:, : self.space.n_rows * self._row_bytes]
            free_in = functools.reduce(
                np.bitwise_or, [of_rows[:, byte :: self._row_bytes] for byte in range(self._row_bytes)]
            )
            np.not_equal(free_in, 0, out=masks[:, : self.space.n_rows])
        if odd.any():
            begun = functools.reduce(np.add, [part.begun.take(code) for part, code in parts])
            begun += np.arange(0, n * width, width)
            flat = by_byte.ravel()
            columns = np.zeros((n, self.stride // 8), dtype=np.int64)
            for byte in range(min(self._row_bytes, self.stride // 8)):
                columns[:, byte] = _EIGHT_OF_BYTE.take(flat.take(begun + byte))
            if odd.all():
                return columns.view(bool)
            masks[odd] = columns.view(bool)[odd]
        return masks

    def _spare(
        self, free: NDArray[np.int64], used: NDArray[np.int64], first: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """(n, words) free elements without those that sites to come cannot do without."""
        free = np.array(free)
        site = first // (2 * self.stride)
        for here, crowds in self._crowds.items():
            rows = np.flatnonzero(site == here)
            for crowd in crowds:
                needed = _count_bits(crowd.elements & ~used[rows]) <= crowd.size
                free[rows[needed]] &= ~crowd.elements
        return free

    def _of_parts(self, state: NDArray[np.int64]) -> list[tuple[_Part, NDArray[np.int64]]]:
        """Each part with its codes (n,)."""
        codes = [state >> shift for shift in self._shifts]
        for code in codes[:-1]:  # nothing stands above the last
            code &= (1 << self._part_bits) - 1
        return list(zip(self._parts, codes, strict=True))


def _compact_masks(
    free: NDArray[np.int64], used: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(n, 8) open rows, and (n, 8) open columns of the row begun, where one word holds all elements."""
    rows = free.astype("<i8", copy=False).view(np.uint8).reshape(-1, 8) != 0
    columns = _BITS_OF_BYTE.take((free >> (used >> _ROW_SHIFT)) & 255, axis=0).view(bool)
    return rows, columns


def _count_bits(words: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) bits that are set in (n, words)."""
    by_byte = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), 8 * words.shape[1])
    return np.asarray(_ONES_OF_BYTE.take(by_byte).sum(axis=1, dtype=np.int64))
