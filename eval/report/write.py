"""Writing ``report.html``: which sections a folder has, from its runs and the files beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from elpa_env.errors import InputError
from elpa_env.files import write_text
from eval.report.again import again_section
from eval.report.blocks import Section
from eval.report.campaigns import campaign_sections
from eval.report.chapters import chapters
from eval.report.frontier import frontier_sections
from eval.report.models import chapter_section
from eval.report.page import render
from eval.report.sizes import sizes_sections
from eval.study.store import Store
from eval.study.study import Study

PAGE: Final = "report.html"
STUDY: Final = "study.json"
FRONTIER: Final = "frontier.json"


def write_page(folder: Path) -> Path:
    """Write the page of a folder that a command filled with results; its path.

    Raises:
        InputError: the folder holds nothing to show, or a run is missing.
    """
    study, store = _study(folder)
    sections: list[Section] = []
    if study and store:
        sections += [chapter_section(chapter, store) for chapter in chapters(study, store)]
        sections += sizes_sections(study, store)
    sections += [*frontier_sections(folder / FRONTIER), *campaign_sections(folder)]
    if study and store:
        sections.append(again_section(study, store))
    if not sections:
        raise InputError(
            f"{folder} holds no results: fill it with `elpa compare`, `elpa reproduce`, `elpa frontier` or "
            "`elpa discover benchmark`"
        )
    page = folder / PAGE
    text = render("What was generated or found, and how good it is", _LEAD, sections)
    # names of files need not be UTF-8
    write_text(page, text.encode("utf-8", "backslashreplace").decode())
    return page


_LEAD: Final = "Point at a picture, or tap it, for its figures. Wide tables scroll sideways."


def _study(folder: Path) -> tuple[Study | None, Store | None]:
    """What a folder of runs shows, and its store; nothing of another folder."""
    if not (folder / STUDY).is_file():
        return None, None
    return Study.load(folder), Store.existing(folder)
