"""What a page is made of: words, tables and pictures, and the HTML of each.

A picture is a figure of plotly.js as plain data: traces, a layout, and frames among which a control chooses.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

Traces = Sequence[Mapping[str, Any]]
Layout = Mapping[str, Any]


@dataclass(frozen=True)
class Words:
    """A paragraph.

    Attributes:
        text: its sentences.
        code: whether they are lines of a command, shown as they are.
    """

    text: str
    code: bool = False

    def html(self, number: int) -> str:
        """The paragraph."""
        return f"<pre>{escape(self.text)}</pre>" if self.code else f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Table:
    """A table; the first column names the rows.

    Attributes:
        title: above it.
        columns: headings.
        rows: as many cells each.
        note: below it.
        faint: numbers of rows that stand back.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    faint: Collection[int] = ()

    def html(self, number: int) -> str:
        """The table in a box of its own, which scrolls sideways where it must."""
        head = "".join(
            f'<th scope="col"{self._kind(n)}>{escape(column)}</th>' for n, column in enumerate(self.columns)
        )
        body = "\n".join(self._row(n, row) for n, row in enumerate(self.rows))
        note = f'<p class="note">{escape(self.note)}</p>' if self.note else ""
        label = escape(self.title, quote=True)
        return (
            f'<h3>{label}</h3>\n<div class="box" tabindex="0" role="region" aria-label="{label}">'
            f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>{note}"
        )

    def _row(self, number: int, row: Sequence[str]) -> str:
        first, *others = row
        cells = "".join(f"<td{self._kind(n)}>{escape(cell)}</td>" for n, cell in enumerate(others, start=1))
        kind = ' class="faint"' if number in self.faint else ""
        return f'<tr{kind}><th scope="row">{escape(first)}</th>{cells}</tr>'

    def _kind(self, column: int) -> str:
        """Words stand at the left of their column, figures at the right."""
        return ' class="words"' if column in self._words else ""

    @functools.cached_property
    def _words(self) -> frozenset[int]:
        """Columns with a letter in any cell."""
        return frozenset(
            n for n in range(len(self.columns)) if any(c.isalpha() for row in self.rows for c in row[n])
        )


@dataclass(frozen=True)
class Frame:
    """One of the states of a picture.

    Attributes:
        label: by which it is chosen.
        data: its traces.
        layout: what differs from the picture's.
        narrow: what differs further on a narrow screen.
    """

    label: str
    data: Traces
    layout: Layout = field(default_factory=dict)
    narrow: Layout = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A picture of one frame or several.

    Attributes:
        title: above it.
        frames: its states, at least one.
        layout: of plotly.js.
        note: below it.
        control: how a reader chooses among several frames.
        label: of the control.
        start: number of the frame that is shown first.
        height: pixels.
        half: whether two of them stand side by side on a wide screen.
    """

    title: str
    frames: Sequence[Frame]
    layout: Layout = field(default_factory=dict)
    note: str = ""
    control: Literal["select", "slider"] = "select"
    label: str = ""
    start: int = 0
    height: int = 440
    half: bool = False

    def html(self, number: int) -> str:
        """The picture's place, its control and its data, which the page's script draws."""
        note = f'<p class="note">{escape(self.note)}</p>' if self.note else ""
        content = {
            "frames": [
                {"data": frame.data, "layout": frame.layout, "narrow": frame.narrow} for frame in self.frames
            ],
            "layout": self.layout,
            "labels": [frame.label for frame in self.frames],
            "start": self.start,
        }
        title = escape(self.title, quote=True)
        return (
            f'<figure class="picture{" half" if self.half else ""}" id="picture-{number}">'
            f"<figcaption>{title}</figcaption>{self._control(number)}"
            f'<div class="plot" role="img" aria-label="{title}" style="height:{self.height}px"></div>{note}'
            f'<script type="application/json">{as_json(content)}</script></figure>'
        )

    def _control(self, number: int) -> str:
        """A list or a slider; nothing where there is nothing to choose."""
        if len(self.frames) < 2:
            return ""
        name, label = f"choice-{number}", escape(self.label)
        if self.control == "slider":
            last = len(self.frames) - 1
            return (
                f'<div class="control"><label for="{name}">{label}</label> <input type="range" id="{name}" '
                f'min="0" max="{last}" step="1" value="{self.start}"> '
                f'<output for="{name}">{escape(self.frames[self.start].label)}</output></div>'
            )
        options = "".join(
            f'<option value="{n}"{" selected" if n == self.start else ""}>{escape(frame.label)}</option>'
            for n, frame in enumerate(self.frames)
        )
        return (
            f'<div class="control"><label for="{name}">{label}</label> '
            f'<select id="{name}" autocomplete="off">{options}</select></div>'
        )


Block = Words | Table | Picture


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading, also in the list of sections.
        blocks: what it holds; one without any is left out.
    """

    title: str
    blocks: Sequence[Block]


def as_json(content: object) -> str:
    """Data for a script in a page: six digits a number, None for what is no number, no end of the script."""
    text = json.dumps(_plain(content), allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, str | bool | int | None):
        return value
    return [_plain(entry) for entry in value]
