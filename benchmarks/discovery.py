"""One round of a campaign over the whole elpasolite space: time and memory.

Trains the surrogate on labels of the symmetric landscape, scores all 987,012 compounds and chooses a batch.

    python benchmarks/discovery.py [--labels 2000] [--repeats 3]
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from agents.discovery import Campaign, Settings
from elpa_env.training import TrainingSet
from eval.discovery import load_field


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    field = load_field("elpasolite")
    rows = np.random.default_rng(0).choice(len(field.pool), arguments.labels, replace=False)
    labels = TrainingSet(field.energy.compound[rows], field.energy.energy[rows], "landscape", field.space)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.repeats):
            path = Path(folder) / f"{number}.db"
            with Campaign.new(
                path, field.space, settings=Settings(batch_size=150), labels=labels, seed=number
            ) as campaign:
                began = time.perf_counter()
                batch = campaign.ask()
                seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(batch)} of {len(field.pool):,} compounds by {arguments.labels:,} labels")
    print(f"one round: {statistics.median(seconds):.1f} s ({min(seconds):.1f}-{max(seconds):.1f})")
    print(f"peak memory: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
