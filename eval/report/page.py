"""The page itself: sections in one file of HTML, with plotly.js in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from itertools import count

from eval.report.blocks import Section

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""What a browser may load for the page: nothing beyond the page."""


def plotly_js() -> str:
    """The script that draws, as plotly's package brings it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def render(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The page as text.

    Args:
        title: heading of the page.
        lead: a sentence or two below it.
        sections: those without blocks are left out.
    """
    shown = [section for section in sections if section.blocks]
    links = "".join(
        f'<li><a href="#s{n}">{escape(section.title)}</a></li>' for n, section in enumerate(shown)
    )
    body = "\n".join(_sections(shown))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_resource('page.css')}</style></head>\n"
        f"<body><main><h1>{escape(title)}</h1>\n<p>{escape(lead)}</p>\n<nav><ul>{links}</ul></nav>\n"
        f"{body}\n</main>\n<script>{_resource('page.js')}</script>\n<script>{plotly_js()}</script>\n"
        "<script>page.start();</script>\n</body></html>\n"
    )


def _sections(sections: Sequence[Section]) -> Iterator[str]:
    numbers = count()
    for n, section in enumerate(sections):
        blocks = "\n".join(block.html(next(numbers)) for block in section.blocks)
        yield f'<section id="s{n}"><h2>{escape(section.title)}</h2>\n{blocks}</section>'


def _resource(name: str) -> str:
    return files("eval.report").joinpath(name).read_text(encoding="utf-8")
