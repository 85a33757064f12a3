"""What Türk et al. (Chem. Mater. 2022, 34, 9455) report."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from eval.metrics import PAPER_METRICS


class Figure(NamedTuple):
    """A mean with its standard deviation; NaN where there is none.

    Attributes:
        mean: over the seeds.
        std: over the seeds; of the paper's figures over 50 initialisations.
    """

    mean: float
    std: float

    def as_dict(self) -> dict[str, float | None]:
        """For results files, NaN as None."""
        return {key: None if math.isnan(value) else value for key, value in self._asdict().items()}


def _column(*figures: tuple[float, float]) -> dict[str, Figure]:
    return {key: Figure(*figure) for key, figure in zip(PAPER_METRICS, figures, strict=True)}


TABLES: Final[dict[int, dict[str, dict[str, Figure]]]] = {
    1: {
        "dqn": _column((0.69, 0.08), (0.30, 0.07), (0.53, 0.03), (0.04, 0.01), (0.20, 0.03)),
        "vae": _column((0.83, 0.01), (0.16, 0.01), (0.54, 0.02), (0.05, 0.00), (0.16, 0.01)),
        "gan": _column((0.66, 0.02), (0.28, 0.01), (0.62, 0.01), (0.10, 0.01), (0.16, 0.01)),
    },
    5: {
        "dqn": _column((0.87, 0.07), (0.13, 0.07), (0.44, 0.15), (0.09, 0.04), (0.49, 0.14)),
        "vae": _column((0.58, 0.01), (0.34, 0.01), (0.86, 0.09), (0.82, 0.11), (0.21, 0.01)),
        "gan": _column((0.54, 0.01), (0.36, 0.01), (0.89, 0.02), (0.85, 0.03), (0.16, 0.01)),
    },
}
"""Tables 1 (class 1, 10,000 valid samples) and 2 (class 5, 25 million): model, metric, figure."""

TABLE_SAMPLES: Final = {1: 10_000, 5: 25_000_000}
