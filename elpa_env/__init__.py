"""Elpasolite compositions ABC2D6: space, energies, training data, and the environment `Elpasolite-v0`.

Importing this package registers `Elpasolite-v0` with Gymnasium.
"""

from __future__ import annotations

import gymnasium as _gym

from elpa_env.classes import N_CLASSES, energy_to_class
from elpa_env.env import ElpasoliteEnv
from elpa_env.errors import InputError
from elpa_env.landscape import EnergyModel, Landscape, load_landscape
from elpa_env.sampler import Access, ExactSampler, Sampler
from elpa_env.space import (
    N_COMPOSITIONS,
    N_TABLE,
    decode,
    digits_to_index,
    formula_to_index,
    index_to_digits,
    index_to_formula,
    index_to_numbers,
    numbers_to_index,
    scale,
    unscale,
)
from elpa_env.training import ClassBalancedSampler, TrainingSet, load_training_set
from elpa_env.vector import ElpasoliteVectorEnv

ENV_ID = "Elpasolite-v0"

if ENV_ID not in _gym.registry:
    _gym.register(
        ENV_ID,
        entry_point="elpa_env.env:ElpasoliteEnv",
        vector_entry_point="elpa_env.vector:ElpasoliteVectorEnv",
    )

__all__ = [
    "ENV_ID",
    "N_CLASSES",
    "N_COMPOSITIONS",
    "N_TABLE",
    "Access",
    "ClassBalancedSampler",
    "ElpasoliteEnv",
    "ElpasoliteVectorEnv",
    "EnergyModel",
    "ExactSampler",
    "InputError",
    "Landscape",
    "Sampler",
    "TrainingSet",
    "decode",
    "digits_to_index",
    "energy_to_class",
    "formula_to_index",
    "index_to_digits",
    "index_to_formula",
    "index_to_numbers",
    "load_landscape",
    "load_training_set",
    "numbers_to_index",
    "scale",
    "unscale",
]
