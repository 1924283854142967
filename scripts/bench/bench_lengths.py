"""What sequences of very different lengths cost one another in a decode step.

    python scripts/bench/bench_lengths.py [--store DIR] [--model smollm2] [--layers 30]
        [--threads 1] [--repeat 5] [--wall]

For each mix of contexts: the time of one step over all its sequences, beside the sum of steps over
those of one length each (first mix), or beside as many sequences of equal lengths with the same
total (the others). Cache entries are not filled with prompts: steps over positions that were never
written read zeros, which take as long. Each line is measured with our own kernels and with oneDNN's
and transformers', turn by turn in one process; medians, milliseconds of this thread's CPU time
unless `--wall`, which is only right on a machine that does nothing else (with more than one thread
CPU time says nothing).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import torch

from pipeline.models.prepared import PreparedModel
from pipeline.models.slice import load_slice
from pipeline.models.store import open_model
from pipeline.runner.arithmetic import Kernels
from pipeline.runner.stage import StageRunner, StepItem

POSITIONS = 34_000
ONE_LONG = [96] * 15 + [8000]


def mixed(count: int, shortest: int, longest: int) -> list[int]:
    """`count` lengths spread evenly, in an order that mixes them."""
    lengths = [shortest + (longest - shortest) * i // (count - 1) for i in range(count)]
    return [lengths[i * 7 % count] for i in range(count)]


class Decoder:
    """A runner of some layers whose sequences are as long as they are said to be."""

    def __init__(self, model: PreparedModel, layers: int, kernels: Kernels) -> None:
        self._runner = StageRunner(load_slice(model, 0, layers), POSITIONS, kernels=kernels)
        self.kernel_class = self._runner.kernel_class

    def step(self, lengths: list[int], clock: Callable[[], float]) -> float:
        """Seconds of one decode step at the end of contexts of these lengths."""
        items = [StepItem(bytes([i]), length - 1, 1) for i, length in enumerate(lengths)]
        for item, length in zip(items, lengths, strict=True):
            self._runner.open(item.sequence, length)
            # As if its prompt had been prefilled, which would take minutes.
            self._runner._pool[item.sequence].filled = length - 1
        inputs = torch.full((len(items),), 7)
        self._runner.step(items, inputs)
        start = clock()
        self._runner.step(items, inputs)
        seconds = clock() - start
        for item in items:
            self._runner.close(item.sequence)
        return seconds


def main() -> None:
    """Measure and print, as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--store", type=Path, default=Path.home() / ".cache/prime-node/models")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--wall", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.perf_counter if options.wall else time.thread_time
    model = open_model(options.store, options.model)
    decoders = [
        Decoder(model, options.layers, kernels) for kernels in (Kernels.BEST, Kernels.ONEDNN)
    ]
    cases: list[tuple[str, list[int], list[list[int]]]] = [
        (
            "15 x 96 + 8000, against each alone",
            ONE_LONG,
            [list(same) for _, same in groupby(ONE_LONG)],
        )
    ]
    for count, shortest, longest in ((16, 50, 2000), (64, 24, 1000)):
        lengths = mixed(count, shortest, longest)
        equal = [sum(lengths) // count] * count
        cases.append((f"{count} x {shortest}..{longest}, against equal", lengths, [equal]))
    headlines = []
    for name, lengths, others in cases:
        for decoder in decoders:
            together, apart = [], []
            for _ in range(options.repeat):
                together.append(decoder.step(lengths, clock))
                apart.append(sum(decoder.step(other, clock) for other in others))
            a, b = statistics.median(together) * 1000, statistics.median(apart) * 1000
            if decoder is decoders[0]:
                headlines.append(f"{name} x{a / b:.2f}")
            print(
                f"{name:36} {decoder.kernel_class:36} {a:8.1f} {b:8.1f} ms  x{a / b:.2f}",
                flush=True,
            )
    print(f"summary: {'; '.join(headlines)}")


if __name__ == "__main__":
    main()
