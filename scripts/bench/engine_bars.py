"""What the engine promises, each promise beside what it is measured against.

    python scripts/bench/engine_bars.py [--store DIR] [--model smollm2] [--repeat 5]
        [--only NAME ...] [--json]

Everything is float32 on this machine's CPU, wall clock, medians of `--repeat` turns in which both
sides alternate: run it where nothing else runs. `--json` prints a list of rows with `measure`,
`against`, `value`, `bar` and `held`. What the engine does not do yet (int8, speculation, shared
prefixes, resuming an edge) has no row. Takes about a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog
import torch
import trio
from bench_lengths import ONE_LONG, Decoder, mixed
from bench_network import generate, prompts_of
from machine import machine
from relay import Relay
from ring import Ring, open_relays, open_ring
from whole import ask, start_whole

from pipeline.models.prepared import PreparedModel
from pipeline.models.slice import load_slice
from pipeline.models.store import open_model
from pipeline.runner.arithmetic import Kernels
from pipeline.runner.stage import StageRunner, StepItem
from proofs.sampling.settings import SamplingSettings

STAGES = 3
NEW = 32
DRAWN = SamplingSettings(temperature=1.0)
GENERATE_BARS = {1: 1.3, 4: 1.6, 16: 1.5, 64: 1.3}
DELAYS = (0.025, 0.075)
"""Seconds one way, on every hop."""


@dataclass(frozen=True)
class Bar:
    """One promise. `value` is a ratio; it is kept where it is at least `bar`, or at most where
    `least` is false."""

    measure: str
    against: str
    value: float
    bar: float
    least: bool = True

    @property
    def held(self) -> bool:
        """Whether the promise is kept."""
        return self.value >= self.bar if self.least else self.value <= self.bar

    def row(self) -> dict[str, object]:
        """For `--json`."""
        return {**asdict(self), "held": self.held}

    def line(self) -> str:
        """For people."""
        sign = "≥" if self.least else "≤"
        held = "held" if self.held else "MISSED"
        return f"{self.measure:44} {self.against:34} {self.value:7.2f} {sign} {self.bar:<5g} {held}"


Say = Callable[[Bar], None]


def lengths(model: PreparedModel, repeat: int, say: Say) -> None:
    """Decode steps over sequences of unlike lengths."""
    torch.set_num_threads(1)
    decoder = Decoder(model, model.manifest.layers, Kernels.BEST)

    def ratio(one: list[int], others: list[list[int]]) -> float:
        together, apart = [], []
        for _ in range(repeat):
            together.append(decoder.step(one, time.perf_counter))
            apart.append(sum(decoder.step(other, time.perf_counter) for other in others))
        return statistics.median(together) / statistics.median(apart)

    say(
        Bar(
            "a step of 15 x 96 + 8,000 tokens",
            "sum of each alone",
            ratio(ONE_LONG, [[96] * 15, [8000]]),
            1.2,
            least=False,
        )
    )
    unlike = mixed(16, 50, 2000)
    equal = [sum(unlike) // 16] * 16
    value = 1 / ratio(unlike, [equal])
    say(Bar("16 sequences of 50 to 2,000 tokens", "equal lengths, same context", value, 0.9))


def bits(model: PreparedModel, _repeat: int, say: Say) -> None:
    """Rows of batches of any size beside one prefill of the sequence alone."""
    layers, vocab = model.manifest.layers, model.manifest.vocab_size
    runner = StageRunner(load_slice(model, 0, layers), 64 * 64)
    prompts = [torch.randint(5, vocab, (20 + i % 13,)) for i in range(64)]
    equal = total = 0
    for batch in (1, 4, 16, 64):
        names = [bytes([i]) for i in range(batch)]
        for name, prompt in zip(names, prompts, strict=False):
            runner.open(name, 64)
            runner.step([StepItem(name, 0, len(prompt) - 1)], prompt[:-1])
        items = [StepItem(n, len(p) - 1, 1) for n, p in zip(names, prompts, strict=False)]
        together = runner.step(items, torch.stack([p[-1] for p in prompts[:batch]]))
        for name in names:
            runner.close(name)
        for row, prompt in zip(together, prompts, strict=False):
            runner.open(b"alone", 64)
            alone = runner.step([StepItem(b"alone", 0, len(prompt))], prompt)[-1]
            runner.close(b"alone")
            equal += torch.equal(row, alone)
            total += 1
    say(Bar("rows in batches of 1 to 64", "one prefill alone, bits", equal / total, 1.0))


async def median_rate(repeat: int, *runs: Callable[[], Awaitable[float]]) -> list[float]:
    """Medians of what the runs give, which take turns."""
    found: list[list[float]] = [[] for _ in runs]
    for _ in range(repeat):
        for each, run in zip(found, runs, strict=True):
            each.append(await run())
    return [statistics.median(each) for each in found]


async def speed(ring: Ring, repeat: int, say: Say) -> None:
    """Three engines beside transformers' `generate`, and drawing tokens beside the greedy ones."""
    vocab = ring.model.manifest.vocab_size
    with start_whole(str(ring.model.path)) as pipe:
        for sequences, bar in GENERATE_BARS.items():
            prompts = prompts_of(sequences, vocab)

            async def ours(prompts: list[list[int]] = prompts) -> float:
                return (await generate(ring, 0, prompts)).decode_rate

            async def theirs(threads: int, prompts: list[list[int]] = prompts) -> float:
                answer = await trio.to_thread.run_sync(ask, pipe, prompts, NEW, threads)
                return float(answer.decode_rate)

            mine, one, two = await median_rate(repeat, ours, lambda: theirs(1), lambda: theirs(2))
            name = f"{sequences} in flight, {STAGES} engines, decode"
            say(Bar(name, "generate, one process", mine / max(one, two), bar))
    prompts = prompts_of(64, vocab)

    async def drawn(sampling: SamplingSettings) -> float:
        await ring.join(0)
        made = await ring.generate(prompts, NEW, sampling)
        await ring.forget(made)
        return made.decode_rate

    hot, cold = await median_rate(repeat, lambda: drawn(DRAWN), lambda: drawn(SamplingSettings()))
    say(Bar("temperature 1 at 64 in flight", "greedy", hot / cold, 0.95))


async def distance(ring: Ring, repeat: int, say: Say) -> None:
    """64 sequences with latency on every hop: the chosen number of batches, and what it costs."""
    prompts = prompts_of(64, ring.model.manifest.vocab_size)

    async def rate(batches: int, relays: Sequence[Relay] = ()) -> float:
        await ring.join(batches, relays)
        made = await ring.generate(prompts, NEW)
        await ring.forget(made)
        return made.decode_rate

    for delay in DELAYS:
        async with open_relays(ring, delay) as relays:
            sweep = [2, 3, 6, 9]
            runs = [lambda n=n: rate(n, relays) for n in (0, *sweep)]
            near, chosen, *swept = await median_rate(repeat, lambda: rate(0), *runs)
            status = (await ring.status())[0]
        name = f"{delay * 1000:g} ms a hop, 64 in flight"
        say(Bar(f"batches chosen, {name}", "best of 2, 3, 6, 9", chosen / max(swept), 0.95))
        say(Bar(name, "own loopback", chosen / near, 0.95))
        if status.came:
            value = status.promised / status.came
            say(Bar(f"promised rate, {name}", "what came", value, 1.1, least=False))


SINGLE = {"lengths": lengths, "bits": bits}
IN_RING = {"speed": speed, "distance": distance}


async def run(options: argparse.Namespace, say: Say) -> None:
    """All that was asked for."""
    model = open_model(options.store, options.model)
    for name, part in SINGLE.items():
        if name in options.only:
            part(model, options.repeat, say)
    if any(name in options.only for name in IN_RING):
        with tempfile.TemporaryDirectory() as name:
            await in_ring(model, Path(name), options, say)


async def in_ring(
    model: PreparedModel, folder: Path, options: argparse.Namespace, say: Say
) -> None:
    """Those parts that need a ring of engines, with room for 64 sequences."""
    async with open_ring(model, folder, STAGES, 64 * 128) as ring:
        await generate(ring, 1, prompts_of(1, model.manifest.vocab_size))  # the first is slow
        for name, part in IN_RING.items():
            if name in options.only:
                await part(ring, options.repeat, say)


def main() -> int:
    """Measure and print; 1 where a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--store", type=Path, default=Path.home() / ".cache/prime-node/models")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--repeat", type=int, default=5)
    names = [*SINGLE, *IN_RING]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--json", action="store_true", help="print a list of rows")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    bars: list[Bar] = []

    def say(bar: Bar) -> None:
        bars.append(bar)
        if not options.json:
            print(bar.line(), flush=True)

    if not options.json:
        print(machine())
    trio.run(run, options, say)
    if options.json:
        print(json.dumps([bar.row() for bar in bars], indent=1))
    return int(not all(bar.held for bar in bars))


if __name__ == "__main__":
    sys.exit(main())
