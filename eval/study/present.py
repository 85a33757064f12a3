"""Everything that people look at, from a study's stored runs: never trained, made in seconds."""

from __future__ import annotations

from rich.console import RenderableType

from eval.study.reproduce import SPECS, verdicts
from eval.study.sizes import write_sizes
from eval.study.store import Store
from eval.study.study import Study, view
from eval.study.tables import comparison
from eval.study.views import write_view

SIZES: str = "figure8"
"""The study of training sets of growing size."""


def present(study: Study, store: Store, *, width: int) -> RenderableType:
    """Write files and pictures of a study into the store's folder, and return its table.

    Args:
        study: what is shown.
        store: where its runs are.
        width: characters of a line of the table.

    Raises:
        InputError: a run is missing.
    """
    views = [view(part, store) for part in study.parts]
    if study.name == SIZES:
        return write_sizes(views, store.folder)
    write_view(views[0], store.folder)
    if study.name in SPECS:
        return verdicts(study.name, views[0], store.folder)
    return comparison(views[0], width=width)
