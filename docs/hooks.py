"""Hooks of `mkdocs build`: links that work on GitHub work on the site as well.

Pages in ``docs`` link to files above it, such as ``../CHANGELOG.md`` or ``../examples/custom_agent.py``. The
site takes the texts among them as pages, copies every other file that a page links to, and leads links to
either.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Texts of the repository by the page of the site that they are; the front page is one of its own."""
FILES: Final = "repository"
"""Folder of the site for other files of the repository."""
_LINK: Final = re.compile(r"(\]\()([^)\s#]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add texts of the repository as pages, and the files that pages link to."""
    for name, page in PAGES.items():
        if page not in files.src_uris:
            files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    for page in list(files.documentation_pages()):
        for _, target in _LINK.findall(page.content_string):
            path = _in_repository(page.src_uri, target)
            if path is None or path in PAGES or path.startswith("docs/") or not (ROOT / path).is_file():
                continue
            uri = f"{FILES}/{path}"
            if uri not in files.src_uris:
                files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links out of ``docs`` to what the site holds in their place."""
    return _LINK.sub(_led(page.file.src_uri), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Keep a mean and its deviation on one line."""
    return html.replace(" ± ", "\u00a0±\u00a0")


def _led(source: str) -> Callable[[re.Match[str]], str]:
    def replace(match: re.Match[str]) -> str:
        path = _in_repository(source, match[2])
        if path is None:
            return match[0]
        inside = path.removeprefix("docs/")
        uri = inside if inside != path else PAGES.get(path, f"{FILES}/{path}")
        return match[1] + posixpath.relpath(uri, posixpath.dirname(source) or ".")

    return replace


def _in_repository(source: str, target: str) -> str | None:
    """The path in the repository that a link leads to; None of one that needs no other place on the site.

    Args:
        source: the page with the link, as the site names it.
        target: the link.
    """
    if re.match(r"[a-z]+:", target):
        return None
    if source in PAGES.values() and source != PAGES["README.md"]:
        return posixpath.normpath(target)  # the page stands at the top of the repository
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(source), target))
    return None if path.startswith("docs/") else path
