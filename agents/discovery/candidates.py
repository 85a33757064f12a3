"""What a campaign recommends: found and expected compounds, with what chemists ask of them first."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agents.discovery.acquisition import lowest_known
from agents.discovery.campaign import KNOWN, Campaign
from agents.discovery.surrogate import MIN_LABELS
from elpa_env.dft import number_columns
from elpa_env.errors import InputError, check_choice
from elpa_env.files import atomic_folder, atomic_path, write_text
from elpa_env.periodic import SYMBOLS
from elpa_env.sampler import Progress
from elpa_env.space import Space

SORTS: Final = ("energy", "probability", "uncertainty", "formula")


def candidates(
    campaign: Campaign,
    *,
    n_expected: int = 100,
    sort: str = "energy",
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Compounds that a campaign found, then those that it expects next.

    Columns: ``formula``; an atomic number a site; ``labelled``; ``energy`` in eV/atom, the label or what is
    expected; ``uncertainty`` of that, 0 of a label; ``probability`` of being looked for, 1 of a found one;
    ``source`` and ``in_training_set``, whether the label was given at the start; ``charge_balanced`` and
    ``electronegativity_order`` by SMACT (Davies et al., J. Open Source Softw. 2019, 4, 1361), empty where
    that is not installed.

    Args:
        campaign: open.
        n_expected: compounds without a label, the most probable ones.
        sort: "energy", "probability" or "uncertainty", the best first, or "formula".
        progress: of the surrogate's training.

    Raises:
        InputError: there is no such order.
    """
    check_choice("sort", sort, SORTS)
    space, labels, history = campaign.space, campaign.labels(), campaign.history()
    sources = dict(zip(history["compound"], history["source"], strict=True))
    reached = campaign.goal.reached(labels.energy)
    index = labels.index[reached]
    columns = {
        "energy": labels.energy[reached],
        "uncertainty": np.zeros(len(index)),
        "probability": np.ones(len(index)),
    }
    labelled = np.ones(len(index), dtype=bool)
    if n_expected and len(labels) >= MIN_LABELS:
        more, belief = _expected(campaign, n_expected, progress)
        index = np.concatenate([index, more])
        labelled = np.concatenate([labelled, np.zeros(len(more), dtype=bool)])
        columns = {name: np.concatenate([column, belief[name]]) for name, column in columns.items()}
    numbers = space.index_to_numbers(index)
    table = pd.DataFrame({"formula": space.index_to_formula(index)})
    for site, column in zip(number_columns(space), numbers.T, strict=True):
        table[site] = column
    table["labelled"] = labelled
    for name, column in columns.items():
        table[name] = column
    table["source"] = [sources.get(compound, "") for compound in index.tolist()]
    table["in_training_set"] = table["source"] == KNOWN
    table["charge_balanced"], table["electronegativity_order"] = chemistry(space, numbers)
    ascending = sort in ("energy", "formula")
    order = table.sort_values([sort, "formula"], ascending=[ascending, True], kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _expected(
    campaign: Campaign, n: int, progress: Progress | None
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """The `n` most probable compounds without a label, and what is believed of them."""
    surrogate = campaign.surrogate(progress)
    known = campaign.known(surrogate)
    labels = campaign.labels()
    if known.listed:
        pool = known.pool if known.pool is not None else np.flatnonzero(campaign.space.compound_mask)
        index = pool[~np.isin(pool, labels.index)]
    else:
        index = np.array([one.index for one in campaign.in_flight()], dtype=np.int64)
    belief = surrogate.belief(index)
    p = campaign.calibration(surrogate)(campaign.goal.probability(belief, lowest_known(labels)))
    best = np.lexsort((index, -p))[:n]
    columns = {"energy": belief.energy, "uncertainty": belief.uncertainty, "probability": p}
    return index[best], {name: column[best] for name, column in columns.items()}


def chemistry(space: Space, numbers: NDArray[np.int16]) -> tuple[list[bool | None], list[bool | None]]:
    """Whether (n, S) compositions can be charge-balanced, and so that anions are more electronegative, too.

    By SMACT's oxidation states, metals alone not counted as balanced; None where it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from smact.screening import smact_validity
    except ImportError:
        return [None] * len(numbers), [None] * len(numbers)
    balanced: list[bool | None] = []
    ordered: list[bool | None] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in numbers:
            formula = "".join(f"{symbol}{n}" for symbol, n in _amounts(space, one).items())
            fits = bool(smact_validity(formula, use_pauling_test=False, include_alloys=False))
            balanced.append(fits)
            ordered.append(
                fits and bool(smact_validity(formula, use_pauling_test=True, include_alloys=False))
            )
    return balanced, ordered


def _amounts(space: Space, numbers: NDArray[np.int16]) -> Counter[str]:
    """Atoms of each element in a formula unit of (S,) atomic numbers, by symbol."""
    amounts: Counter[str] = Counter()
    for site, number in zip(space.prototype.sites, numbers.tolist(), strict=True):
        amounts[SYMBOLS[number]] += site.multiplicity
    for fixed in space.prototype.fixed:
        amounts[fixed.element] += fixed.multiplicity
    return amounts


def write_candidates(path: Path, table: pd.DataFrame) -> None:
    """Write the table of `candidates` as CSV."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")


def write_structures(folder: Path, campaign: Campaign, table: pd.DataFrame) -> int:
    """Write a CIF file with the full symmetry for each row of the table of `candidates`; how many.

    Free parameters are those of the calculation, where it stated them, else the prototype's start values.

    Raises:
        InputError: the prototype has no structure, or the folder cannot be written.
    """
    prototype = campaign.space.prototype
    if prototype.structure is None:
        raise InputError(f"{prototype.name} has no structure, so that there is no CIF to write")
    parameters = relaxed_parameters(campaign)
    sites = list(number_columns(campaign.space))
    rows = table[sites].to_numpy(dtype=np.int16)
    compounds = campaign.space.index_to_compound(campaign.space.numbers_to_index(rows)).tolist()
    with atomic_folder(folder) as temporary:
        for formula, numbers, compound in zip(table["formula"], rows, compounds, strict=True):
            text = prototype.cif(numbers, **parameters.get(compound, {}))
            write_text(temporary / f"{formula}.cif", text)
    return len(table)


def relaxed_parameters(campaign: Campaign) -> dict[int, dict[str, float]]:
    """Free parameters of the structure as calculations stated them, by compound."""
    structure = campaign.space.prototype.structure
    names: Sequence[str] = [] if structure is None else list(structure.parameters)
    history = campaign.history()
    found = {}
    for compound, text in zip(history["compound"], history["parameters"], strict=True):
        stated = {name: value for name, value in json.loads(text).items() if name in names}
        if stated:
            found[compound] = stated
    return found
