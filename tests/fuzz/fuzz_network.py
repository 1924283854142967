"""Fuzz what reaches a node over the network: frames, requests, gossip, records.

    python tests/fuzz/fuzz_network.py [frames requests gossip records] [--runs 100000] [--seed 1]

Seeded random bytes drive mutations of valid messages (`tests.fuzz.mutation`); every hundredth input
an honest peer has to be served. A finding is an uncaught exception: the bytes are printed, and the
same seed repeats it. Ends with what happened how often, and the memory that it took.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import structlog
import trio

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fuzz.network_targets import NAMES, open_fuzzed

MAX_LENGTH = 200
EVERY = 100


async def run(name: str, seed: int, runs: int) -> tuple[Counter[str], float]:
    """What happened how often, and seconds of the slowest input."""
    source, outcomes, slowest = random.Random(seed), Counter[str](), 0.0
    async with open_fuzzed() as fuzzed:
        target = getattr(fuzzed, name)
        for number in range(runs):
            data = source.randbytes(source.randrange(4, MAX_LENGTH))
            started = time.perf_counter()
            try:
                outcomes[await target(data)] += 1
                if number % EVERY == EVERY - 1:
                    await fuzzed.check_honest()
            except Exception:
                print(f"input {number}: {data.hex()}", file=sys.stderr)
                raise
            slowest = max(slowest, time.perf_counter() - started)
        await fuzzed.check_honest()
    return outcomes, slowest


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(NAMES))
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    for name in options.targets or NAMES:
        before, started = peak_mb(), time.perf_counter()
        outcomes, slowest = trio.run(run, name, options.seed, options.runs)
        print(
            f"{name}: {options.runs} inputs in {time.perf_counter() - started:.0f} s, "
            f"slowest {slowest:.2f} s; peak memory {peak_mb():.0f} MB, {before:.0f} MB before",
            flush=True,
        )
        print("  " + ", ".join(f"{n} {what}" for what, n in outcomes.most_common()), flush=True)


if __name__ == "__main__":
    main()
