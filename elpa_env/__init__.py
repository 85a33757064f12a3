"""Compositions of a crystal prototype: spaces, energies, training data, and environments to build them in.

Importing this package registers `Elpasolite-v0`, `Perovskite-v0` and `Composition-v0` with Gymnasium. The
functions that convert compositions are those of elpasolite; those of any other `Space` are its methods.
"""

from __future__ import annotations

import gymnasium as _gym

from elpa_env.catalogue import Benchmark, load_space, spaces
from elpa_env.classes import ENERGY_CLASSES, N_CLASSES, Targets, energy_to_class
from elpa_env.env import CompositionEnv, ElpasoliteEnv, PerovskiteEnv
from elpa_env.errors import InputError
from elpa_env.landscape import Landscape, load_landscape
from elpa_env.prototype import ABO3, ELPASOLITE, Fixed, Position, Prototype, Site, Structure
from elpa_env.sampler import Access, ExactSampler, Sampler
from elpa_env.space import ELPASOLITE_SPACE, Space, make_space
from elpa_env.table import EnergyModel, EnergyTable, Table
from elpa_env.training import ClassBalancedSampler, TrainingSet, load_training_set
from elpa_env.vector import CompositionVectorEnv, ElpasoliteVectorEnv, PerovskiteVectorEnv

ENV_ID = "Elpasolite-v0"
N_TABLE = ELPASOLITE_SPACE.n_table
"""Entries of the table of elpasolite compositions, 39^4, those that repeat an element included."""
N_COMPOSITIONS = ELPASOLITE_SPACE.n_compositions
"""Elpasolite compositions of four different elements: 1,974,024."""

decode = ELPASOLITE_SPACE.decode
digits_to_index = ELPASOLITE_SPACE.digits_to_index
formula_to_index = ELPASOLITE_SPACE.formula_to_index
index_to_digits = ELPASOLITE_SPACE.index_to_digits
index_to_formula = ELPASOLITE_SPACE.index_to_formula
index_to_numbers = ELPASOLITE_SPACE.index_to_numbers
numbers_to_index = ELPASOLITE_SPACE.numbers_to_index
scale = ELPASOLITE_SPACE.scale
unscale = ELPASOLITE_SPACE.unscale

for _id, _name in {
    ENV_ID: "Elpasolite",
    "Perovskite-v0": "Perovskite",
    "Composition-v0": "Composition",
}.items():
    if _id not in _gym.registry:
        _gym.register(
            _id,
            entry_point=f"elpa_env.env:{_name}Env",
            vector_entry_point=f"elpa_env.vector:{_name}VectorEnv",
        )

__all__ = [
    "ABO3",
    "ELPASOLITE",
    "ELPASOLITE_SPACE",
    "ENERGY_CLASSES",
    "ENV_ID",
    "N_CLASSES",
    "N_COMPOSITIONS",
    "N_TABLE",
    "Access",
    "Benchmark",
    "ClassBalancedSampler",
    "CompositionEnv",
    "CompositionVectorEnv",
    "ElpasoliteEnv",
    "ElpasoliteVectorEnv",
    "EnergyModel",
    "EnergyTable",
    "ExactSampler",
    "Fixed",
    "InputError",
    "Landscape",
    "PerovskiteEnv",
    "PerovskiteVectorEnv",
    "Position",
    "Prototype",
    "Sampler",
    "Site",
    "Space",
    "Structure",
    "Table",
    "Targets",
    "TrainingSet",
    "decode",
    "digits_to_index",
    "energy_to_class",
    "formula_to_index",
    "index_to_digits",
    "index_to_formula",
    "index_to_numbers",
    "load_landscape",
    "load_space",
    "load_training_set",
    "make_space",
    "numbers_to_index",
    "scale",
    "spaces",
    "unscale",
]
