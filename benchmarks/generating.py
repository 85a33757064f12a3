"""Time and memory of 25 million valid samples of a VAE and of a GAN: drawn, decoded and counted.

Usage: python benchmarks/generating.py [--samples N] [--threads N]
"""

from __future__ import annotations

import argparse
import resource
import time

import torch as th

from elpa_env import load_training_set
from elpa_env.space import ELPASOLITE_SPACE as space
from eval.curves import Appearances
from eval.scoring import count_samples
from eval.study.registry import MODELS, Task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=25_000_000)
    parser.add_argument("--threads", type=int, default=th.get_num_threads())
    arguments = parser.parse_args()
    th.set_num_threads(arguments.threads)
    rows = load_training_set("landscape")
    for name in ("vae", "gan"):
        # as wide as the default, and quickly trained, so that most of what it makes is real
        config = MODELS[name].presets["quick"].config
        model = MODELS[name].train(Task(config, rows, 5, 0))
        appearances = Appearances(space, arguments.samples)
        started = time.perf_counter()
        tally, _ = count_samples(
            model, arguments.samples, target_class=5, seed=0, keep=1_000_000, watch=appearances.see
        )
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{name}: {tally.n_valid:,} valid of {tally.n_raw:,} in {seconds:.1f} s with "
            f"{arguments.threads} threads, peak {peak:.2f} GiB"
        )


if __name__ == "__main__":
    main()
