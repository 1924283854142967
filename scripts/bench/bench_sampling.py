"""Choosing tokens beside scoring every token, for a batch of rows.

    python scripts/bench/bench_sampling.py [--rows 64] [--vocab 49152 152064] [--repeat 5]

Logits are normal with a standard deviation of 3 and a few large ones, which leaves a distribution
about as wide as that of a small model. Both run in this process, turn by turn, and must choose the
same tokens. Prints milliseconds of CPU a token, medians, and the ratio; "greedy" is what there is
to compare with: it only looks for the largest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from proofs.sampling.choosing import choose_batch, support
from proofs.sampling.compiled import library
from proofs.sampling.noise import gumbel
from proofs.sampling.settings import SamplingSettings

CASES: dict[str, dict[str, float]] = {
    "greedy": {"temperature": 0.0},
    "T=1, whole vocabulary": {"temperature": 1.0},
    "T=1, top-p 0.95": {"temperature": 1.0, "top_p": 0.95},
    "T=1, top-k 50, top-p 0.95": {"temperature": 1.0, "top_k": 50, "top_p": 0.95},
}


def plain(logits: np.ndarray, settings: list[SamplingSettings]) -> list[int]:
    """Every token of the support scored in float64."""
    chosen = []
    for position, (row, one) in enumerate(zip(logits, settings, strict=True)):
        ids = support(row, one.temperature, one.top_k, one.top_p)
        noise = gumbel(one.noise_key, position, ids) if one.temperature else 0.0
        chosen.append(int(ids[np.argmax(row[ids].astype(np.float64) + one.temperature * noise)]))
    return chosen


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this thread."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--vocab", type=int, nargs="+", default=[49_152, 152_064])
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    print("the contest is", "compiled" if library() else "NumPy's")
    print(f"{'vocabulary':>10} {'':28} {'ms a token':>10} {'plain':>8} {'ratio':>6}")
    for vocab in options.vocab:
        rng = np.random.default_rng(vocab)
        logits = rng.normal(0, 3, (options.rows, vocab)).astype(np.float32)
        logits[:, ::1000] += np.float32(9)
        for name, terms in CASES.items():
            settings = [
                SamplingSettings.model_validate({**terms, "noise_key": row * 7919})
                for row in range(options.rows)
            ]
            positions = range(options.rows)
            if choose_batch(logits, settings, positions) != plain(logits, settings):
                raise RuntimeError(f"{name}: the tokens differ from the definition's")
            ours, theirs = [], []
            for _ in range(options.repeat):
                ours.append(seconds(partial(choose_batch, logits, settings, positions)))
                theirs.append(seconds(partial(plain, logits, settings)))
            mine, other = (statistics.median(each) / options.rows * 1000 for each in (ours, theirs))
            figures = f"{mine:10.3f} {other:8.3f} {other / mine:6.1f}"
            print(f"{vocab:>10} {name:28} {figures}", flush=True)


if __name__ == "__main__":
    main()
