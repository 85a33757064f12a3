"""Everything that people look at, from a study's stored runs: never trained, made in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.console import Group, RenderableType

from eval.study import reproduce
from eval.study.store import Store
from eval.study.study import COMPARE, Study, view
from eval.study.tables import comparison
from eval.study.views import write_view


def present(study: Study, store: Store, *, width: int) -> RenderableType:
    """Write files and pictures of a study into the store's folder, and return its tables.

    Args:
        study: what is shown.
        store: where its runs are.
        width: characters of a line of the table.

    Raises:
        InputError: a run is missing.
    """
    return Group(*_parts(study, store, width))


def _parts(study: Study, store: Store, width: int) -> Iterator[RenderableType]:
    for recipe, parts in groupby(study.parts, lambda part: part.recipe):
        views = [view(part, store) for part in parts]
        if recipe == COMPARE:
            write_view(views[0], store.folder)
            yield comparison(views[0], width=width)
        else:
            yield reproduce.show(recipe, views, store, width=width)
    if study.parts[0].recipe != COMPARE:
        reproduce.write_report(study, store)
