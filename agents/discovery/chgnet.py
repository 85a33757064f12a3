"""CHGNet, a universal potential whose weights come with its package, as a source of energies.

Deng et al., Nat. Mach. Intell. 2023, 5, 1031.
"""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING

from agents.discovery.references import ELEMENTS, load_references
from agents.discovery.relax import AseEnergy
from elpa_env.errors import InputError
from elpa_env.sampler import Progress
from elpa_env.space import Space

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


@functools.cache
def chgnet_calculator() -> Calculator:
    """CHGNet for ASE, made once in a process.

    Raises:
        InputError: it is not installed.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the libraries that it brings, and it says how large it is
        try:
            from chgnet.model.dynamics import CHGNetCalculator
            from chgnet.model.model import CHGNet
        except ImportError as error:
            raise InputError(
                "energies by chgnet need it installed: pip install 'elpasolite[chgnet]'"
            ) from error
        model = CHGNet.load(use_device="cpu", check_cuda_mem=False, verbose=False)
        return CHGNetCalculator(model=model, use_device="cpu", check_cuda_mem=False)


def chgnet_energy(space: Space, references: str = "", progress: Progress | None = None) -> AseEnergy:
    """Formation energies by CHGNet.

    Args:
        space: of the compositions.
        references: see `agents.discovery.references.load_references`; those of the elements by default.
        progress: of their calculation.

    Raises:
        InputError: it is not installed, or an element has no reference.
    """
    chgnet_calculator()
    found = load_references(references or ELEMENTS, space, chgnet_calculator, progress)
    return AseEnergy(f"chgnet {version('chgnet')}", space, chgnet_calculator, found)
