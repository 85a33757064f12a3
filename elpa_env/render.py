"""Pictures of a state of an environment: a few lines of text, or a frame for a video.

Both are pure functions of the digits, of what may be chosen next and, at the end, of how it went.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from elpa_env.space import Space, subscript

if TYPE_CHECKING:
    from matplotlib.artist import Artist

HEIGHT: Final = 480
"""Pixels of a frame."""
WIDTH: Final = 720
"""Pixels of a frame."""

_CROSS: Final = "\N{MULTIPLICATION SIGN}"
_MINUS: Final = "\N{MINUS SIGN}"
_SUBSCRIPT: Final = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True)
class Ending:
    """How an episode ended.

    Attributes:
        formula: for example ``AlNaK2F6``; None where there is no such composition.
        energy: the quantity of the targets; None where it is not known.
        energy_class: 1..k; 0 where it is in no target.
        reward: eq. 12 of Türk et al. 2022, +1 or -1.
        target_class: 1..k, the class that was wanted.
    """

    formula: str | None
    energy: float | None
    energy_class: int
    reward: float
    target_class: int


def render_ansi(
    space: Space, digits: NDArray[np.int8], mask: NDArray[np.bool_], outcome: Ending | None
) -> str:
    """Describe a state in two lines of plain text.

    The first shows the sites and the formula as it grows: ``__`` and ``?`` stand for what is
    unset, ``3_`` for row 3 with its column unset, ``--`` and ``!`` for a place without an element. The
    second names the next choice and the open actions, or says how the episode ended.

    Args:
        space: of the compositions.
        digits: (2 S,) row, column of every site; 0 = unset.
        mask: (n_actions,) True where an action is allowed; disregarded once the episode has ended.
        outcome: how the episode ended; None while it goes on.

    Raises:
        InputError: a row or column out of range.
    """
    sites = _sites(space, digits)
    tokens = " ".join(f"{site.token:<2}" for site in sites)
    first = f"{tokens}  {space.prototype.formula_template} -> {_growing_formula(space, sites)}"
    if outcome is not None:
        return f"{first}\n{'  '.join([*_verdict(space, sites, outcome), _reward(outcome)])}"
    return f"{first}\n{_next_choice(space, sites)}: {', '.join(_open_choices(space, sites, mask))}"


def render_rgb(
    space: Space, digits: NDArray[np.int8], mask: NDArray[np.bool_], outcome: Ending | None
) -> NDArray[np.uint8]:
    """Draw a state: the periodic table with the sites, the open choices, and how it went.

    Args:
        space: of the compositions.
        digits: (2 S,) row, column of every site; 0 = unset.
        mask: (n_actions,) True where an action is allowed; disregarded once the episode has ended.
        outcome: how the episode ended; None while it goes on.

    Returns:
        (480, 720, 3) pixels.

    Raises:
        InputError: a row or column out of range.
    """
    sites = _sites(space, digits)
    sheet = _Sheet(_background(space))
    _draw_chosen(sheet, space, sites)
    if outcome is None:
        _draw_open_choices(sheet, space, sites, mask)
    _draw_badges(sheet, space, sites)
    _draw_sites(sheet, space, sites, ended=outcome is not None)
    _draw_progress(sheet, space, sites, outcome)
    _draw_headline(sheet, space, sites, outcome)
    if outcome is not None:
        _draw_outcome(sheet, space, sites, outcome)
    return sheet.pixels[..., :3].copy()


@dataclass(frozen=True)
class _Site:
    """One site of a state; `row` and `column` are 0 and `element` is -1 where unset or not there."""

    number: int
    row: int
    column: int
    element: int
    symbol: str
    """Empty where there is no element."""

    @property
    def complete(self) -> bool:
        return self.column > 0

    @property
    def token(self) -> str:
        if self.symbol:
            return self.symbol
        return "--" if self.complete else f"{self.row}_" if self.row else "__"


def _sites(space: Space, digits: NDArray[np.int8]) -> list[_Site]:
    batch = space.as_digits(np.asarray(digits)[None])
    elements = space.digits_to_elements(batch)[0].tolist()
    pairs = batch.reshape(space.n_sites, 2).tolist()
    return [
        _Site(number, row, column, element, space.symbols[element] if element >= 0 else "")
        for number, ((row, column), element) in enumerate(zip(pairs, elements, strict=True))
    ]


def _times(space: Space) -> list[str]:
    """How often each site stands in the formula."""
    return [subscript(site.multiplicity) for site in space.prototype.sites]


def _step(sites: list[_Site]) -> int:
    return sum((site.row > 0) + (site.column > 0) for site in sites)


def _growing_formula(space: Space, sites: list[_Site]) -> str:
    growing = "".join(
        (site.symbol or ("!" if site.complete else "?")) + often
        for site, often in zip(sites, _times(space), strict=True)
    )
    return growing + space.fixed


def _next_choice(space: Space, sites: list[_Site]) -> str:
    step = _step(sites)
    if step == space.n_steps:
        return "complete"
    site = sites[step // 2]
    label = space.sites[site.number]
    return f"{space.column_word} of {label} in row {site.row}" if step % 2 else f"row of {label}"


def _open_choices(space: Space, sites: list[_Site], mask: NDArray[np.bool_]) -> list[str]:
    step = _step(sites)
    if step == space.n_steps:
        return ["nothing is open"]
    numbers = [int(action) + 1 for action in np.flatnonzero(mask)]
    if step % 2 == 0:
        return [str(number) for number in numbers]
    found = space.element_of_row_column[sites[step // 2].row, numbers]
    return [
        f"{number} {space.symbols[element] if element >= 0 else '--'}"
        for number, element in zip(numbers, found, strict=True)
    ]


def _verdict(space: Space, sites: list[_Site], outcome: Ending) -> tuple[str, str, str]:
    """What came out, its energy or why there is none, and its class beside the wanted one."""
    targets = space.targets
    wanted = f"wanted {targets.title(outcome.target_class)}"
    if outcome.formula is None:
        return "no such composition", _why_not(space, sites), wanted
    if outcome.energy is None:
        return outcome.formula, f"{targets.quantity} not known".replace("_", " "), wanted
    energy = f"{outcome.energy:+.2f} {targets.unit}".replace("+", "").strip()
    found = targets.title(outcome.energy_class) if outcome.energy_class else "none"
    return outcome.formula, energy, f"{found}, {wanted}"


def _why_not(space: Space, sites: list[_Site]) -> str:
    if _step(sites) < space.n_steps:
        return "action out of range"
    for site in sites:
        if site.element < 0:
            return f"no element in row {site.row}, {space.column_word} {site.column}"
        if not space.allowed[site.number, site.element]:
            return f"{space.sites[site.number]} must not hold {site.symbol}"
    symbols = [site.symbol for site in sites]
    repeated = [symbol for symbol in symbols if symbols.count(symbol) > 1]
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
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#b0599a", "#56b4e9", "#6b4c9a", "#8c564b")
"""Of the sites; told apart by colour-blind eyes too (after Okabe and Ito)."""

_CELL: Final = (52, 44)
"""Of the largest place in the table; many rows or columns make it smaller."""
_TABLE: Final = (50, 108)
_TABLE_SIZE: Final = (416, 264)
_PANEL: Final = (492, 96)
_PANEL_WIDTH: Final = 208
_PANEL_HEIGHT: Final = 172
_SITE_GAP: Final = 43
_STEPS_LEFT: Final = 76
_STEPS_TOP: Final = 428
_STEPS_WIDTH: Final = 567
_STEP_GAP: Final = 81
_SMALLEST: Final = 4.5
"""Points of the smallest letters."""


def _cell_size(space: Space) -> tuple[float, float]:
    """Width and height of a place in the table."""
    width, height = _TABLE_SIZE[0] / space.n_columns, _TABLE_SIZE[1] / space.n_rows
    return min(_CELL[0], width), min(_CELL[1], height)


def _zoom(space: Space) -> float:
    """How large letters in the table are, 1 for the largest places."""
    width, height = _cell_size(space)
    return min(width / _CELL[0], height / _CELL[1])


def _site_gap(space: Space) -> float:
    """Pixels from one site to the next in the panel."""
    return min(_SITE_GAP, _PANEL_HEIGHT / space.n_sites)


def _step_gap(space: Space) -> float:
    """Pixels from one step to the next."""
    return min(_STEP_GAP, _STEPS_WIDTH / (space.n_steps - 1))


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


def _cell(space: Space, row: int, column: int) -> tuple[float, float, float, float]:
    """Left, top, width and height of a place in the table, a gap to its neighbours left out."""
    width, height = _cell_size(space)
    gap = min(4.0, width / 6)
    left, top = _TABLE[0] + (column - 1) * width, _TABLE[1] + (row - 1) * height
    return left + gap / 2, top + gap / 2, width - gap, height - gap


@functools.lru_cache(maxsize=8)
def _background(space: Space) -> NDArray[np.uint8]:
    """What all frames share."""
    sheet = _Sheet()
    zoom = _zoom(space)
    small = max(9 * min(1.0, 1.5 * zoom), _SMALLEST)
    for row in range(1, space.n_rows + 1):
        _, top, _, height = _cell(space, row, 1)
        sheet.text(_TABLE[0] - 14, top + height / 2, str(row), size=9, colour=_QUIET)
    for column in range(1, space.n_columns + 1):
        left, _, width, _ = _cell(space, 1, column)
        sheet.text(left + width / 2, _TABLE[1] - 9, str(column), size=small, colour=_QUIET)
    sheet.text(_TABLE[0] - 14, _TABLE[1] - 9, "row", size=6.5, colour=_QUIET)
    right = _TABLE[0] + space.n_columns * _cell_size(space)[0]
    sheet.text(right, _TABLE[1] - 21, space.column_word, size=6.5, colour=_QUIET, align="right")
    for element in range(space.n_elements):
        sheet.box(*_cell(space, int(space.rows[element]), int(space.columns[element])), fill=_PALE)
        _write_element(sheet, space, element, _INK, _QUIET)
    gap = _step_gap(space)
    sheet.box(_STEPS_LEFT, _STEPS_TOP - 1, (space.n_steps - 1) * gap, 2, fill=_LINE, radius=0.1)
    for step in range(space.n_steps):
        name = f"{space.column_word if step % 2 else 'row'} of {space.sites[step // 2]}"
        size = max(7.5 * min(1.0, gap * 11 / (_STEP_GAP * len(name))), _SMALLEST)
        sheet.text(_STEPS_LEFT + step * gap, _STEPS_TOP + 26, name, size=size, colour=_QUIET)
    sheet.pixels.setflags(write=False)
    return sheet.pixels


def _write_element(sheet: _Sheet, space: Space, element: int, ink: str, quiet: str) -> None:
    left, top, width, height = _cell(space, int(space.rows[element]), int(space.columns[element]))
    zoom = _zoom(space)
    if zoom > 0.7:
        number = str(space.atomic_numbers[element])
        sheet.text(left + 4, top + 8 * zoom, number, size=6 * zoom, colour=quiet, align="left")
    middle = top + (23 * height / 40 if zoom > 0.7 else height / 2)
    size = max(13 * zoom, _SMALLEST)
    sheet.text(left + width / 2, middle, space.symbols[element], size=size, colour=ink, bold=True)


def _draw_chosen(sheet: _Sheet, space: Space, sites: list[_Site]) -> None:
    """Colour the places chosen for the sites, and frame the row whose column is unset."""
    filled: set[tuple[int, int]] = set()
    for site in sites:
        colour = _COLOURS[site.number]
        if site.row and not site.complete:
            _frame_row(sheet, space, site.row, colour)
            _, top, _, height = _cell(space, site.row, 1)
            sheet.box(_TABLE[0] - 23, top + height / 2 - 9, 18, 18, fill=colour, radius=4)
            sheet.text(_TABLE[0] - 14, top + height / 2, str(site.row), size=9, colour="white", bold=True)
        if not site.complete:
            continue
        place = (site.row, site.column)
        left, top, width, height = _cell(space, *place)
        if place in filled:
            sheet.box(left, top, width, height, edge=_BAD, line=2.6)
        elif site.element >= 0:
            sheet.box(left, top, width, height, fill=colour)
            _write_element(sheet, space, site.element, "white", "white")
        else:
            sheet.box(left, top, width, height, fill="white", edge=colour, line=1.6, dashed=True)
            sheet.text(
                left + width / 2, top + 23 * height / 40, _CROSS, size=15 * _zoom(space), colour=colour
            )
        filled.add(place)


def _draw_open_choices(sheet: _Sheet, space: Space, sites: list[_Site], mask: NDArray[np.bool_]) -> None:
    """Frame the open rows, or the open columns of the chosen row; dashed where no element stands."""
    step = _step(sites)
    if step == space.n_steps:
        return
    repeats = space.prototype.repeats
    taken = [site.element for site in sites if site.element >= 0 and not repeats]
    row = sites[step // 2].row
    for number in (int(action) + 1 for action in np.flatnonzero(mask)):
        if not step % 2:
            _frame_row(sheet, space, number, _OPEN)
            continue
        left, top, width, height = _cell(space, row, number)
        element = int(space.element_of_row_column[row, number])
        fill = "none" if element in taken else _OPEN_FILL
        sheet.box(left, top, width, height, fill=fill, edge=_OPEN, line=1.6, dashed=element < 0)
        if element >= 0 and element not in taken:
            _write_element(sheet, space, element, _INK, _QUIET)


def _frame_row(sheet: _Sheet, space: Space, row: int, colour: str) -> None:
    left, top, _, height = _cell(space, row, 1)
    width = space.n_columns * _cell_size(space)[0]
    sheet.box(left - 2, top - 1, width, height + 2, edge=colour, line=1.6, radius=6)


def _draw_badges(sheet: _Sheet, space: Space, sites: list[_Site]) -> None:
    """The letters of the sites at the places chosen for them, side by side where a place is shared."""
    places: list[tuple[int, int]] = []
    for site in sites:
        if site.complete:
            place = (site.row, site.column)
            left, top, width, _ = _cell(space, *place)
            zoom = max(_zoom(space), 0.6)
            x = left + width - 6 * zoom - 17 * zoom * places.count(place)
            places.append(place)
            label, colour = space.sites[site.number], _COLOURS[site.number]
            size = 7.5 * zoom / max(1.0, len(label) / 1.5)
            sheet.disc(x, top + 3, 8 * zoom, fill="white", edge=colour, line=1.4)
            sheet.text(x, top + 3, label, size=size, colour=colour, bold=True)


def _draw_sites(sheet: _Sheet, space: Space, sites: list[_Site], *, ended: bool) -> None:
    """The sites in the panel on the right."""
    left, top = _PANEL
    current = _step(sites) // 2
    gap, times = _site_gap(space), _times(space)
    zoom = gap / _SITE_GAP
    for site in sites:
        y, height = top + site.number * gap, gap - 6 * zoom
        middle = y + height / 2
        colour = _COLOURS[site.number]
        active = site.number == current and not ended
        fill, edge = ("white", _OPEN) if active else (_PALE, "none")
        sheet.box(left, y, _PANEL_WIDTH, height, fill=fill, edge=edge, line=1.6)
        box = colour if site.row else _QUIET
        sheet.box(left + 6, y + 6 * zoom, 34, height - 12 * zoom, fill=box, radius=4)
        name = (space.sites[site.number] + times[site.number]).translate(_SUBSCRIPT)
        size = 11 * zoom / max(1.0, len(name) / 3)
        sheet.text(left + 23, middle, name, size=size, colour="white", bold=True)
        token = site.token if site.symbol else _CROSS if site.complete else "?"
        ink = _INK if site.complete else _QUIET
        sheet.text(left + 66, middle, token, size=14 * zoom, bold=True, colour=ink)
        where = f"row {site.row or '?'}, {space.column_word} {site.column or '?'}"
        ink = _INK if site.row else _QUIET
        sheet.text(left + 98, middle, where, size=8.5 * max(zoom, 0.7), colour=ink, align="left")


def _draw_progress(sheet: _Sheet, space: Space, sites: list[_Site], outcome: Ending | None) -> None:
    """The steps: those taken with their digits, and the one to come."""
    taken = _step(sites)
    for step in range(space.n_steps):
        x, y = _STEPS_LEFT + step * _step_gap(space), _STEPS_TOP
        site = sites[step // 2]
        colour = _COLOURS[site.number]
        if step < taken:
            sheet.disc(x, y, 13, fill=colour)
            sheet.text(x, y, str(site.column if step % 2 else site.row), size=10, colour="white", bold=True)
        elif step == taken and outcome is None:
            sheet.disc(x, y, 13, fill=_OPEN_FILL, edge=_OPEN, line=2)
            sheet.text(x, y, "?", size=10, colour=_OPEN, bold=True)
        elif step == taken:
            sheet.disc(x, y, 13, fill=_BAD)
            sheet.text(x, y, _CROSS, size=13, colour="white", bold=True)
        else:
            sheet.disc(x, y, 7, fill="white", edge=_LINE, line=2)


def _draw_headline(sheet: _Sheet, space: Space, sites: list[_Site], outcome: Ending | None) -> None:
    formula = _growing_formula(space, sites).translate(_SUBSCRIPT).replace("!", _CROSS)
    sheet.text(28, 42, formula, size=27, bold=True, align="left")
    if outcome is None:
        step = _step(sites)
        if step == space.n_steps:
            title, hint = "complete", ""
        else:
            title = f"choose the {space.column_word if step % 2 else 'row'} of {space.sites[step // 2]}"
            hint = f"step {step + 1} of {space.n_steps}"
        sheet.text(WIDTH - 20, 36, title, size=14, bold=True, align="right")
        sheet.text(WIDTH - 20, 58, hint, size=9, colour=_QUIET, align="right")


def _draw_outcome(sheet: _Sheet, space: Space, sites: list[_Site], outcome: Ending) -> None:
    left, top = _PANEL[0], _PANEL[1] + space.n_sites * _site_gap(space) + 4
    success = outcome.reward > 0
    colour = _GOOD if success else _BAD
    what, why, classes = _verdict(space, sites, outcome)
    title, detail = (11.5, 9.0) if outcome.energy is None else (14.0, 11.0)
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
