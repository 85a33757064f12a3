"""Pictures of a state of `Elpasolite-v0`: a few lines of text, or a frame for a video.

Both are pure functions of the digits, of what may be chosen next and, at the end, of how it went.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.elements import (
    ATOMIC_NUMBERS,
    ELEMENT_OF_ROW_GROUP,
    GROUPS,
    N_ELEMENTS,
    N_GROUPS,
    N_ROWS,
    ROWS,
    SYMBOLS,
)
from elpa_env.space import N_SITES, N_STEPS, SITES, as_digits, digits_to_elements

if TYPE_CHECKING:
    from matplotlib.artist import Artist

HEIGHT: Final = 480
"""Pixels of a frame."""
WIDTH: Final = 720
"""Pixels of a frame."""

_TIMES: Final = ("", "", "2", "6")
"""How often each site stands in the formula."""
_CROSS: Final = "\N{MULTIPLICATION SIGN}"
_MINUS: Final = "\N{MINUS SIGN}"
_SUBSCRIPT: Final = str.maketrans("26", "₂₆")


@dataclass(frozen=True)
class Ending:
    """How an episode ended.

    Attributes:
        formula: for example ``AlNaK2F6``; None where there is no such composition.
        energy: eV/atom; None where there is no such composition.
        energy_class: 1..10; 0 where there is no such composition.
        reward: eq. 12 of Türk et al. 2022, +1 or -1.
        target_class: 1..10, the class that was wanted.
    """

    formula: str | None
    energy: float | None
    energy_class: int
    reward: float
    target_class: int


def render_ansi(digits: NDArray[np.int8], mask: NDArray[np.bool_], outcome: Ending | None) -> str:
    """Describe a state in two lines of plain text.

    The first shows the four sites and the formula as it grows: ``__`` and ``?`` stand for what is
    unset, ``3_`` for row 3 with its group unset, ``--`` and ``!`` for a place without an element. The
    second names the next choice and the open actions, or says how the episode ended.

    Args:
        digits: (8,) row, group of A, B, C, D; 0 = unset.
        mask: (8,) True where an action is allowed; disregarded once the episode has ended.
        outcome: how the episode ended; None while it goes on.

    Raises:
        InputError: a row outside 0..6 or a group outside 0..8.
    """
    sites = _sites(digits)
    first = f"{' '.join(f'{site.token:<2}' for site in sites)}  ABC2D6 -> {_growing_formula(sites)}"
    if outcome is not None:
        return f"{first}\n{'  '.join([*_verdict(sites, outcome), _reward(outcome)])}"
    return f"{first}\n{_next_choice(sites)}: {', '.join(_open_choices(sites, mask))}"


def render_rgb(
    digits: NDArray[np.int8], mask: NDArray[np.bool_], outcome: Ending | None
) -> NDArray[np.uint8]:
    """Draw a state: the periodic table with the four sites, the open choices, and how it went.

    Args:
        digits: (8,) row, group of A, B, C, D; 0 = unset.
        mask: (8,) True where an action is allowed; disregarded once the episode has ended.
        outcome: how the episode ended; None while it goes on.

    Returns:
        (480, 720, 3) pixels.

    Raises:
        InputError: a row outside 0..6 or a group outside 0..8.
    """
    sites = _sites(digits)
    sheet = _Sheet(_background())
    _draw_chosen(sheet, sites)
    if outcome is None:
        _draw_open_choices(sheet, sites, mask)
    _draw_badges(sheet, sites)
    _draw_sites(sheet, sites, ended=outcome is not None)
    _draw_progress(sheet, sites, outcome)
    _draw_headline(sheet, sites, outcome)
    if outcome is not None:
        _draw_outcome(sheet, sites, outcome)
    return sheet.pixels[..., :3].copy()


@dataclass(frozen=True)
class _Site:
    """One site of a state; `row` and `group` are 0 and `element` is -1 where unset or not there."""

    number: int
    row: int
    group: int
    element: int

    @property
    def complete(self) -> bool:
        return self.group > 0

    @property
    def token(self) -> str:
        if self.element >= 0:
            return SYMBOLS[self.element]
        return "--" if self.complete else f"{self.row}_" if self.row else "__"


def _sites(digits: NDArray[np.int8]) -> list[_Site]:
    batch = as_digits(np.asarray(digits)[None])
    elements = digits_to_elements(batch)[0]
    pairs = batch.reshape(N_SITES, 2)
    return [_Site(n, int(pairs[n, 0]), int(pairs[n, 1]), int(elements[n])) for n in range(N_SITES)]


def _step(sites: list[_Site]) -> int:
    return sum((site.row > 0) + (site.group > 0) for site in sites)


def _growing_formula(sites: list[_Site]) -> str:
    return "".join(
        (SYMBOLS[site.element] if site.element >= 0 else "!" if site.complete else "?") + times
        for site, times in zip(sites, _TIMES, strict=True)
    )


def _next_choice(sites: list[_Site]) -> str:
    step = _step(sites)
    if step == N_STEPS:
        return "complete"
    site = sites[step // 2]
    return f"group of {SITES[site.number]} in row {site.row}" if step % 2 else f"row of {SITES[site.number]}"


def _open_choices(sites: list[_Site], mask: NDArray[np.bool_]) -> list[str]:
    step = _step(sites)
    if step == N_STEPS:
        return ["nothing is open"]
    numbers = [int(action) + 1 for action in np.flatnonzero(mask)]
    if step % 2 == 0:
        return [str(number) for number in numbers]
    found = ELEMENT_OF_ROW_GROUP[sites[step // 2].row, numbers]
    return [
        f"{number} {SYMBOLS[element] if element >= 0 else '--'}"
        for number, element in zip(numbers, found, strict=True)
    ]


def _verdict(sites: list[_Site], outcome: Ending) -> tuple[str, str, str]:
    """What came out, its energy or why there is none, and its class beside the wanted one."""
    wanted = f"wanted class {outcome.target_class}"
    if outcome.formula is None or outcome.energy is None:
        return "no such composition", _why_not(sites), wanted
    energy = f"{outcome.energy:+.2f} eV/atom".replace("+", "")
    return outcome.formula, energy, f"class {outcome.energy_class}, {wanted}"


def _why_not(sites: list[_Site]) -> str:
    if _step(sites) < N_STEPS:
        return "action out of range"
    for site in sites:
        if site.element < 0:
            return f"no element in row {site.row}, group {site.group}"
    elements = [site.element for site in sites]
    repeated = [SYMBOLS[element] for element in elements if elements.count(element) > 1]
    return f"{repeated[0]} stands twice" if repeated else "not a composition"


def _reward(outcome: Ending) -> str:
    return f"reward {outcome.reward:+g}"


_INK: Final = "#1f2933"
_QUIET: Final = "#7b8794"
_PALE: Final = "#edf0f3"
_LINE: Final = "#d3d9df"
_OPEN: Final = "#e69f00"
_OPEN_FILL: Final = "#fff4d6"
_GOOD: Final = "#1a7f37"
_BAD: Final = "#b42318"
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#b0599a")
"""Of sites A, B, C, D; told apart by colour-blind eyes too (after Okabe and Ito)."""

_CELL: Final = (52, 44)
_TABLE: Final = (50, 108)
_PANEL: Final = (492, 96)
_PANEL_WIDTH: Final = 208
_SITE_GAP: Final = 43
_STEPS_LEFT: Final = 76
_STEPS_TOP: Final = 428
_STEP_GAP: Final = 81


class _Sheet:
    """A frame to draw on, in pixels from the upper left corner.

    Every frame has a figure of its own, so that frames may be drawn side by side in threads, and
    starts from pixels drawn before, so that what never changes is drawn once.
    """

    def __init__(self, background: NDArray[np.uint8] | None = None) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.transforms import Affine2D

        dpi = 100
        self._figure = Figure(figsize=(WIDTH / dpi, HEIGHT / dpi), dpi=dpi)
        canvas: Any = FigureCanvasAgg(self._figure)
        self._renderer = canvas.get_renderer()
        self._transform = Affine2D().scale(1, -1).translate(0, HEIGHT)
        self.pixels: NDArray[np.uint8] = np.asarray(self._renderer.buffer_rgba())
        self.pixels[:] = 255 if background is None else background

    def _draw(self, artist: Artist) -> None:
        artist.set_transform(self._transform)
        self._figure.add_artist(artist)
        artist.draw(self._renderer)
        artist.remove()

    def box(
        self,
        left: float,
        top: float,
        width: float,
        height: float,
        *,
        fill: str = "none",
        edge: str = "none",
        line: float = 1.0,
        dashed: bool = False,
        radius: float = 5.0,
    ) -> None:
        from matplotlib.patches import FancyBboxPatch

        self._draw(
            FancyBboxPatch(
                (left, top),
                width,
                height,
                boxstyle=f"round,pad=0,rounding_size={radius}",
                facecolor=fill,
                edgecolor=edge,
                linewidth=line,
                linestyle="--" if dashed else "-",
            )
        )

    def disc(
        self, x: float, y: float, radius: float, *, fill: str, edge: str = "none", line: float = 1.0
    ) -> None:
        from matplotlib.patches import Circle

        self._draw(Circle((x, y), radius, facecolor=fill, edgecolor=edge, linewidth=line))

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 10,
        colour: str = _INK,
        bold: bool = False,
        align: str = "center",
    ) -> None:
        from matplotlib.text import Text

        options: dict[str, Any] = {"horizontalalignment": align, "verticalalignment": "center_baseline"}
        self._draw(
            Text(
                x,
                y,
                text,
                color=colour,
                fontsize=size,
                fontweight="bold" if bold else "normal",
                fontfamily="DejaVu Sans",
                parse_math=False,
                usetex=False,
                **options,
            )
        )


def _cell(row: int, group: int) -> tuple[float, float, float, float]:
    """Left, top, width and height of a place in the table, a gap to its neighbours left out."""
    left, top = _TABLE[0] + (group - 1) * _CELL[0], _TABLE[1] + (row - 1) * _CELL[1]
    return left + 2, top + 2, _CELL[0] - 4, _CELL[1] - 4


@functools.cache
def _background() -> NDArray[np.uint8]:
    """What all frames share."""
    sheet = _Sheet()
    for row in range(1, N_ROWS + 1):
        _, top, _, height = _cell(row, 1)
        sheet.text(_TABLE[0] - 14, top + height / 2, str(row), size=9, colour=_QUIET)
    for group in range(1, N_GROUPS + 1):
        left, _, width, _ = _cell(1, group)
        sheet.text(left + width / 2, _TABLE[1] - 9, str(group), size=9, colour=_QUIET)
    sheet.text(_TABLE[0] - 14, _TABLE[1] - 9, "row", size=6.5, colour=_QUIET)
    sheet.text(
        _TABLE[0] + N_GROUPS * _CELL[0], _TABLE[1] - 21, "group", size=6.5, colour=_QUIET, align="right"
    )
    for element in range(N_ELEMENTS):
        sheet.box(*_cell(int(ROWS[element]), int(GROUPS[element])), fill=_PALE)
        _write_element(sheet, element, _INK, _QUIET)
    line = _STEPS_LEFT + (N_STEPS - 1) * _STEP_GAP
    sheet.box(_STEPS_LEFT, _STEPS_TOP - 1, line - _STEPS_LEFT, 2, fill=_LINE, radius=0.1)
    for step in range(N_STEPS):
        name = f"{'group' if step % 2 else 'row'} of {SITES[step // 2]}"
        sheet.text(_STEPS_LEFT + step * _STEP_GAP, _STEPS_TOP + 26, name, size=7.5, colour=_QUIET)
    sheet.pixels.setflags(write=False)
    return sheet.pixels


def _write_element(sheet: _Sheet, element: int, ink: str, quiet: str) -> None:
    left, top, width, _ = _cell(int(ROWS[element]), int(GROUPS[element]))
    sheet.text(left + 4, top + 8, str(ATOMIC_NUMBERS[element]), size=6, colour=quiet, align="left")
    sheet.text(left + width / 2, top + 23, SYMBOLS[element], size=13, colour=ink, bold=True)


def _draw_chosen(sheet: _Sheet, sites: list[_Site]) -> None:
    """Colour the places chosen for the sites, and frame the row whose group is unset."""
    filled: set[tuple[int, int]] = set()
    for site in sites:
        colour = _COLOURS[site.number]
        if site.row and not site.complete:
            _frame_row(sheet, site.row, colour)
            _, top, _, height = _cell(site.row, 1)
            sheet.box(_TABLE[0] - 23, top + height / 2 - 9, 18, 18, fill=colour, radius=4)
            sheet.text(_TABLE[0] - 14, top + height / 2, str(site.row), size=9, colour="white", bold=True)
        if not site.complete:
            continue
        place = (site.row, site.group)
        left, top, width, height = _cell(*place)
        if place in filled:
            sheet.box(left, top, width, height, edge=_BAD, line=2.6)
        elif site.element >= 0:
            sheet.box(left, top, width, height, fill=colour)
            _write_element(sheet, site.element, "white", "white")
        else:
            sheet.box(left, top, width, height, fill="white", edge=colour, line=1.6, dashed=True)
            sheet.text(left + width / 2, top + 23, _CROSS, size=15, colour=colour)
        filled.add(place)


def _draw_open_choices(sheet: _Sheet, sites: list[_Site], mask: NDArray[np.bool_]) -> None:
    """Frame the open rows, or the open groups of the chosen row; dashed where no element stands."""
    step = _step(sites)
    if step == N_STEPS:
        return
    taken = [site.element for site in sites if site.element >= 0]
    row = sites[step // 2].row
    for number in (int(action) + 1 for action in np.flatnonzero(mask)):
        if not step % 2:
            _frame_row(sheet, number, _OPEN)
            continue
        left, top, width, height = _cell(row, number)
        element = int(ELEMENT_OF_ROW_GROUP[row, number])
        fill = "none" if element in taken else _OPEN_FILL
        sheet.box(left, top, width, height, fill=fill, edge=_OPEN, line=1.6, dashed=element < 0)
        if element >= 0 and element not in taken:
            _write_element(sheet, element, _INK, _QUIET)


def _frame_row(sheet: _Sheet, row: int, colour: str) -> None:
    left, top, _, height = _cell(row, 1)
    sheet.box(left - 2, top - 1, N_GROUPS * _CELL[0], height + 2, edge=colour, line=1.6, radius=6)


def _draw_badges(sheet: _Sheet, sites: list[_Site]) -> None:
    """The letters of the sites at the places chosen for them, side by side where a place is shared."""
    places: list[tuple[int, int]] = []
    for site in sites:
        if site.complete:
            place = (site.row, site.group)
            left, top, width, _ = _cell(*place)
            x = left + width - 6 - 17 * places.count(place)
            places.append(place)
            sheet.disc(x, top + 3, 8, fill="white", edge=_COLOURS[site.number], line=1.4)
            sheet.text(x, top + 3, SITES[site.number], size=7.5, colour=_COLOURS[site.number], bold=True)


def _draw_sites(sheet: _Sheet, sites: list[_Site], *, ended: bool) -> None:
    """The four sites in the panel on the right."""
    left, top = _PANEL
    current = _step(sites) // 2
    for site in sites:
        y = top + site.number * _SITE_GAP
        colour = _COLOURS[site.number]
        active = site.number == current and not ended
        fill, edge = ("white", _OPEN) if active else (_PALE, "none")
        sheet.box(left, y, _PANEL_WIDTH, 37, fill=fill, edge=edge, line=1.6)
        sheet.box(left + 6, y + 6, 34, 25, fill=colour if site.row else _QUIET, radius=4)
        name = (SITES[site.number] + _TIMES[site.number]).translate(_SUBSCRIPT)
        sheet.text(left + 23, y + 18.5, name, size=11, colour="white", bold=True)
        token = site.token if site.element >= 0 else _CROSS if site.complete else "?"
        sheet.text(left + 66, y + 18.5, token, size=14, bold=True, colour=_INK if site.complete else _QUIET)
        where = f"row {site.row or '?'}, group {site.group or '?'}"
        sheet.text(left + 98, y + 18.5, where, size=8.5, colour=_INK if site.row else _QUIET, align="left")


def _draw_progress(sheet: _Sheet, sites: list[_Site], outcome: Ending | None) -> None:
    """The eight steps: those taken with their digits, and the one to come."""
    taken = _step(sites)
    for step in range(N_STEPS):
        x, y = _STEPS_LEFT + step * _STEP_GAP, _STEPS_TOP
        site = sites[step // 2]
        colour = _COLOURS[site.number]
        if step < taken:
            sheet.disc(x, y, 13, fill=colour)
            sheet.text(x, y, str(site.group if step % 2 else site.row), size=10, colour="white", bold=True)
        elif step == taken and outcome is None:
            sheet.disc(x, y, 13, fill=_OPEN_FILL, edge=_OPEN, line=2)
            sheet.text(x, y, "?", size=10, colour=_OPEN, bold=True)
        elif step == taken:
            sheet.disc(x, y, 13, fill=_BAD)
            sheet.text(x, y, _CROSS, size=13, colour="white", bold=True)
        else:
            sheet.disc(x, y, 7, fill="white", edge=_LINE, line=2)


def _draw_headline(sheet: _Sheet, sites: list[_Site], outcome: Ending | None) -> None:
    formula = _growing_formula(sites).translate(_SUBSCRIPT).replace("!", _CROSS)
    sheet.text(28, 42, formula, size=27, bold=True, align="left")
    if outcome is None:
        step = _step(sites)
        if step == N_STEPS:
            title, hint = "complete", ""
        else:
            title = f"choose the {'group' if step % 2 else 'row'} of {SITES[step // 2]}"
            hint = f"step {step + 1} of {N_STEPS}"
        sheet.text(WIDTH - 20, 36, title, size=14, bold=True, align="right")
        sheet.text(WIDTH - 20, 58, hint, size=9, colour=_QUIET, align="right")


def _draw_outcome(sheet: _Sheet, sites: list[_Site], outcome: Ending) -> None:
    left, top = _PANEL[0], _PANEL[1] + N_SITES * _SITE_GAP + 4
    success = outcome.reward > 0
    colour = _GOOD if success else _BAD
    what, why, classes = _verdict(sites, outcome)
    title, detail = (11.5, 9.0) if outcome.formula is None else (14.0, 11.0)
    what = what.translate(_SUBSCRIPT)
    why = why.replace("-", _MINUS)
    sheet.box(left, top, _PANEL_WIDTH, 96, fill=colour, radius=7)
    left += 12
    sheet.text(left, top + 22, what, size=title, colour="white", bold=True, align="left")
    sheet.text(left, top + 49, why, size=detail, colour="white", align="left")
    sheet.text(left, top + 75, classes, size=9.5, colour="white", align="left")
    word = "✓ success" if success else "✗ failure"
    sheet.text(WIDTH - 20, 36, word, size=14, colour=colour, bold=True, align="right")
    reward = _reward(outcome).replace("-", _MINUS)
    sheet.text(WIDTH - 20, 58, reward, size=11, colour=colour, align="right")
