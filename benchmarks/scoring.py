"""Time and memory of scoring: 25 million samples from arrays, and a million lines of CSV."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elpa_env.space import ELPASOLITE_SPACE as space
from eval.judge import load_judge
from eval.samples_csv import read_samples
from eval.scoring import CHUNK, Tally, count_chunks, score_tally

N = 25_000_000
N_CSV = 1_000_000


def chunks(n: int) -> Iterator[NDArray[np.int8]]:
    rng = np.random.default_rng(0)
    for start in range(0, n, CHUNK):
        size = (min(CHUNK, n - start), len(space.digit_limits))
        yield rng.integers(1, space.digit_limits + 1, size, dtype=np.int8)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    stream = list(chunks(N))
    judge = load_judge()
    started = time.perf_counter()
    tally = Tally()
    for digits in stream:
        tally.add_digits(digits)
    score = score_tally(tally, judge=judge, target_class=5)
    seconds = time.perf_counter() - started
    print(
        f"arrays: {N:,} candidates ({score.n_valid:,} valid) scored in {seconds:.1f} s, peak {peak():.2f} GiB"
    )
    with tempfile.TemporaryDirectory() as folder:
        index = space.digits_to_index(np.concatenate(stream[:4]))
        path = Path(folder) / "samples.csv"
        formulas = space.index_to_formula(index[index >= 0][:N_CSV])
        path.write_text("\n".join(["formula", *formulas]) + "\n")
        started = time.perf_counter()
        score_tally(count_chunks(read_samples(path))[0], judge=judge, target_class=5)
        seconds = time.perf_counter() - started
        print(f"CSV: {len(formulas):,} formulas scored in {seconds:.1f} s, peak {peak():.2f} GiB")


if __name__ == "__main__":
    main()
