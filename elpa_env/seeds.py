"""Seeds of everything random: one `numpy.random.SeedSequence` a run, spawned once for each thing that draws.

Two generators seeded with ``seed`` and ``seed + 1`` meet again in the next run; spawned ones share nothing.
"""

from __future__ import annotations

import numpy as np

Seed = int | np.random.SeedSequence | None
"""A number, or a sequence that `spawn` gave; None takes entropy from the system."""


def spawn(seed: Seed, n: int) -> list[np.random.SeedSequence]:
    """`n` independent seed sequences, the same for the same seed.

    Args:
        seed: of all of them.
        n: how many things draw.
    """
    if isinstance(seed, np.random.SeedSequence):
        # a fresh copy, so that asking twice gives the same children
        seed = np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key)
        return seed.spawn(n)
    return np.random.SeedSequence(seed).spawn(n)


def torch_seed(sequence: np.random.SeedSequence) -> int:
    """A number of 63 bits for `torch.Generator.manual_seed`."""
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def small_seed(sequence: np.random.SeedSequence) -> int:
    """A number of 32 bits, for libraries that take no larger one."""
    return int(sequence.generate_state(1)[0])
