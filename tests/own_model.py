"""A model of a user's own, which tests put into a folder of its own and name as ``mine:Echo``."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from elpa_env import index_to_digits


@dataclass(frozen=True)
class Config:
    seconds: float = 0.0
    width: int = 3


class Echo:
    """Repeats compositions of its class, and writes down when it was trained."""

    name = "echo"
    title = "Echo of mine"
    presets = {"default": Config(), "brief": Config(0.3), "slow": Config(4.0)}  # noqa: RUF012

    def __init__(self, config=None, *, seed=0, device="cpu"):
        self.config, self.seed = config, seed

    def fit(self, training_set, *, target_class, progress=None):
        with Path(__file__).with_name("log").open("a") as log:
            print("begin", self.seed, file=log, flush=True)
            time.sleep(self.config.seconds)
            print("end", self.seed, file=log, flush=True)
        rows = training_set.index[training_set.energy_class == target_class]
        self.index = np.random.default_rng(self.seed).choice(rows, 50)

    def sample(self, n, *, target_class, seed=None):
        return index_to_digits(np.random.default_rng(seed).choice(self.index, n))

    def save(self, path):
        with Path(path).open("wb") as file:
            np.save(file, self.index)

    @classmethod
    def load(cls, path, *, device="cpu"):
        model = cls(Config())
        model.index = np.load(path)
        return model
