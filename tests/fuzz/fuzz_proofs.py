"""Fuzz what strangers send to be proven or judged.

    python tests/fuzz/fuzz_proofs.py proofs|bundles|verdicts [--runs 100000] [--seed 1] [--random]

Coverage-guided where atheris is installed (`pip install atheris`); otherwise, and with `--random`,
the same target gets seeded random bytes. A finding is an uncaught exception: the random driver
prints the bytes, atheris writes them to a file, and `TARGETS[name](data)` repeats it.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

NAMES = ("proofs", "bundles", "verdicts")
ARITHMETIC = [f"proofs.toploc.{module}" for module in ("chunks", "field", "topk")]
"""Not watched: comparisons of arrays guide nothing, and atheris does not free those it has seen."""
MAX_LENGTH = 400
MEMORY_MB = 2048
SLOW = 10  # seconds, after which one input counts as a hang

Target = Callable[[bytes], str]


def load(name: str) -> Target:
    target: Target = importlib.import_module("tests.fuzz.targets").TARGETS[name]
    return target


def random_inputs(seed: int, runs: int) -> list[bytes]:
    """Seeded inputs, from a few decisions to many."""
    source = random.Random(seed)
    return [source.randbytes(source.randrange(4, MAX_LENGTH)) for _ in range(runs)]


def run_random(target: Target, seed: int, runs: int) -> tuple[Counter[str], float]:
    """What happened how often, and seconds of the slowest input."""
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for data in random_inputs(seed, runs):
        started = time.perf_counter()
        try:
            outcomes[target(data)] += 1
        except BaseException:
            print(f"input: {data.hex()}", file=sys.stderr)
            raise
        slowest = max(slowest, time.perf_counter() - started)
    return outcomes, slowest


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_guided(name: str, seed: int, runs: int) -> None:
    """Hands control to libFuzzer, which ends the process."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["proofs"], exclude=ARITHMETIC):
        target = load(name)
    limits = [f"-max_len={MAX_LENGTH}", f"-rss_limit_mb={MEMORY_MB}", f"-timeout={SLOW}"]
    arguments = [f"-runs={runs}", f"-seed={seed}", "-print_final_stats=1", *limits]
    atheris.Setup([sys.argv[0], *arguments], target)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--random", action="store_true")
    options = parser.parse_args()
    if not options.random and importlib.util.find_spec("atheris"):
        run_guided(options.target, options.seed, options.runs)
        return
    target = load(options.target)
    before, started = peak_mb(), time.perf_counter()
    outcomes, slowest = run_random(target, options.seed, options.runs)
    print(
        f"{options.runs} inputs in {time.perf_counter() - started:.0f} s, slowest {slowest:.2f} s; "
        f"peak memory {peak_mb():.0f} MB, {before:.0f} MB before the first"
    )
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()))


if __name__ == "__main__":
    main()
