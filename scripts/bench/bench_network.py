"""A pipeline of engine processes beside transformers `generate` in one process, in the same run.

    python scripts/bench/bench_network.py [--model smollm2] [--store DIR] [--stages 3]
        [--batch 1 4 16] [--micro-batches 0 1 2 3] [--repeat 3] [--delay-ms 25] [--json]

The engines are those of a real network: processes of their own (one thread each), a share of the
layers each, mutual-TLS edges, TOPLOC evidence and hashes for every token. `generate` runs the whole
model with one and with two threads. Prompts of 64 random tokens, 32 new tokens, greedy; contenders
alternate, figures are medians. 0 micro-batches: as many as the ring's own measurements say.

Four tables: tokens a second and idle time; bytes on the wire, counted by relays between the stages
in a run of its own; what a validator's replay costs beside generating; and, with `--delay-ms`,
tokens a second with that much latency one way on every hop. "decode" begins when every sequence has
its first token; "all" is the whole run. "others" are cores that processes other than ours kept busy
meanwhile: repeat what was measured in company.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import structlog
import trio
from machine import Watched, machine, watch
from ring import Generated, Ring, open_relays, open_ring
from whole import Answer, ask, start_whole

from pipeline.engine.control.client import EngineClient, open_engine
from pipeline.engine.control.operations import REPLAY
from pipeline.engine.control.replay_messages import Replay, ReplaySequence
from pipeline.models.store import open_model
from proofs.evidence.sequence import BundleSequence, FinishReason

PROMPT = 64
NEW = 32
MIB = 2**20


@dataclass(frozen=True)
class Row:
    """Medians of one contender at one number of sequences; rates in tokens a second."""

    contender: str
    sequences: int
    micro_batches: int
    decode: float
    all: float
    idle: float | None
    others: float
    load: float


@dataclass(frozen=True)
class Wire:
    """Bytes around the whole ring, both directions, for each output token: prefill and all."""

    sequences: int
    micro_batches: int
    bytes_per_token: float


@dataclass(frozen=True)
class Audit:
    """Seconds to generate a unit, in engines' compute summed, and to replay it on one engine."""

    sequences: int
    generate: float
    compute: float
    replay: float
    ratio: float
    worst_exp_mismatches: int
    same_tokens: float


def prompts_of(count: int, vocab: int) -> list[list[int]]:
    """`count` prompts of `PROMPT` random token ids, the same for the same count."""
    random_ids = random.Random(count)
    return [[random_ids.randrange(5, vocab) for _ in range(PROMPT)] for _ in range(count)]


Say = Callable[[str], None]
"""Prints a line of a table, or nothing."""

ROW_HEAD = (
    f"{'sequences':>9}  {'':20} {'micro-batches':>13} {'decode':>8} {'of generate':>11} "
    f"{'all':>8} {'idle':>5} {'others':>7} {'load':>5}"
)


def line(row: Row, best: float = 0.0) -> str:
    """A row as text; `best` is `generate`'s better decode rate with as many sequences."""
    ratio = f"{row.decode / best:10.2f}x" if best else ""
    idle = "" if row.idle is None else f"{row.idle:.0%}"
    return (
        f"{row.sequences:>9}  {row.contender:20} {row.micro_batches or '':>13} "
        f"{row.decode:8.1f} {ratio:>11} {row.all:8.1f} {idle:>5} {row.others:7.2f} {row.load:5.1f}"
    )


def row(
    contender: str,
    sequences: int,
    micro_batches: int,
    runs: Sequence[tuple[float, float, float | None]],
    seen: Sequence[Watched],
) -> Row:
    """One row of a table, medians of `runs`: (decode rate, overall rate, share of idle time)."""
    decode, whole, idle = zip(*runs, strict=True)
    known = [share for share in idle if share is not None]
    return Row(
        contender,
        sequences,
        micro_batches,
        statistics.median(decode),
        statistics.median(whole),
        statistics.median(known) if known else None,
        statistics.median(w.others for w in seen),
        statistics.median(w.load for w in seen),
    )


async def generate(ring: Ring, micro_batches: int, prompts: list[list[int]]) -> Generated:
    """Generate `NEW` tokens for each prompt in a ring joined anew."""
    await ring.join(micro_batches)
    generated = await ring.generate(prompts, NEW)
    await ring.forget(generated)
    return generated


async def throughput(
    ring: Ring, pipe: Connection, options: argparse.Namespace, say: Say
) -> dict[str, object]:
    """Rows beside `generate`, the share of tokens that both made alike, and resident memory."""
    vocab, rows, same, rss = ring.model.manifest.vocab_size, [], [], 0
    headlines = []
    say(ROW_HEAD)
    await generate(ring, 1, prompts_of(1, vocab))  # so that nothing is done for the first time
    for sequences in options.batch:
        prompts = prompts_of(sequences, vocab)
        choices = options.micro_batches if sequences > 1 else [1]
        runs: dict[tuple[str, int], list[tuple[float, float, float | None]]] = {}
        seen: dict[tuple[str, int], list[Watched]] = {}
        for _ in range(options.repeat):
            for micro_batches in choices:
                key = ("pipeline", micro_batches)
                with watch() as watched:
                    ours = await generate(ring, micro_batches, prompts)
                run = (ours.decode_rate, ours.tokens / ours.seconds, ours.idle)
                runs.setdefault(key, []).append(run)
                seen.setdefault(key, []).append(watched)
            for threads in (1, 2):
                key = (f"generate, {threads} thread{'s' * (threads > 1)}", 0)
                with watch() as watched:
                    theirs: Answer = await trio.to_thread.run_sync(ask, pipe, prompts, NEW, threads)
                runs.setdefault(key, []).append((theirs.decode_rate, theirs.rate, None))
                seen.setdefault(key, []).append(watched)
                rss = max(rss, theirs.rss)
            same += [
                token == other
                for spec, output in zip(ours.sequences, theirs.outputs, strict=True)
                for token, other in zip(ours.outputs[spec.sequence_id], output, strict=True)
            ]
        found = [row(name, sequences, n, runs[name, n], seen[name, n]) for name, n in runs]
        best = max(each.decode for each in found if each.idle is None)
        for each in found:
            say(line(each, best))
        rows += found
        top = max((r for r in found if r.idle is not None), key=lambda r: r.decode)
        headlines.append(
            f"{sequences} in flight: {top.decode:.0f} tokens/s, {top.decode / best:.2f} times "
            f"generate's {best:.0f}"
        )
    memory = {f"stage {number}": each.rss for number, each in enumerate(await ring.status())}
    memory["generate, whole model"] = rss
    say(f"\ntokens equal to generate's: {sum(same) / len(same):.1%}")
    for headline in headlines:
        say(f"summary: {headline}")
    for name, size in memory.items():
        say(f"resident memory, {name}: {size / MIB:.0f} MiB")
    return {"throughput": rows, "same_tokens": sum(same) / len(same), "memory": memory}


async def wire(ring: Ring, options: argparse.Namespace, say: Say) -> list[Wire]:
    """Bytes that cross the network for each token, counted by relays before every stage."""
    found = []
    say(f"\n{'sequences':>9} {'micro-batches':>13} {'bytes on the wire a token':>26}")
    async with open_relays(ring) as relays:
        for sequences in options.batch:
            for micro_batches in options.micro_batches if sequences > 1 else [1]:
                await ring.join(micro_batches, relays)
                before = sum(relay.forward + relay.backward for relay in relays)
                prompts = prompts_of(sequences, ring.model.manifest.vocab_size)
                generated = await ring.generate(prompts, NEW)
                after = sum(relay.forward + relay.backward for relay in relays)
                await ring.forget(generated)
                each = Wire(sequences, micro_batches, (after - before) / generated.tokens)
                say(f"{sequences:>9} {micro_batches:>13} {each.bytes_per_token:26,.0f}")
                found.append(each)
    return found


async def delayed(ring: Ring, options: argparse.Namespace, say: Say) -> list[Row]:
    """Throughput with latency on every hop."""
    rows = []
    say(f"\nwith {options.delay_ms:g} ms one way on every hop\n\n{ROW_HEAD}")
    async with open_relays(ring, options.delay_ms / 1000) as relays:
        for sequences in options.batch:
            prompts = prompts_of(sequences, ring.model.manifest.vocab_size)
            choices = options.micro_batches if sequences > 1 else [1]
            for micro_batches in choices:
                runs, seen = [], []
                for _ in range(options.repeat):
                    await ring.join(micro_batches, relays)
                    with watch() as watched:
                        made = await ring.generate(prompts, NEW)
                    await ring.forget(made)
                    runs.append((made.decode_rate, made.tokens / made.seconds, made.idle))
                    seen.append(watched)
                rows.append(row("pipeline", sequences, micro_batches, runs, seen))
                say(line(rows[-1]))
    return rows


async def audits(
    ring: Ring, validator: EngineClient, options: argparse.Namespace, say: Say
) -> list[Audit]:
    """What verifying costs beside generating."""
    say(f"\n{'sequences':>9} {'generate':>9} {'compute':>8} {'replay':>7} {'of generate':>11}")
    found = []
    for sequences in options.batch:
        each = await audit(ring, validator, sequences, options.repeat)
        say(
            f"{sequences:>9} {each.generate:7.2f} s {each.compute:6.2f} s {each.replay:5.2f} s "
            f"{each.ratio:10.1%}  worst exponent mismatches {each.worst_exp_mismatches}, "
            f"tokens confirmed {each.same_tokens:.1%}"
        )
        found.append(each)
    return found


async def audit(ring: Ring, validator: EngineClient, sequences: int, repeat: int) -> Audit:
    """Generate a unit and replay it with the stages' proofs, as a validator does."""
    prompts = prompts_of(sequences, ring.model.manifest.vocab_size)
    made, replayed = [], []
    await ring.join(1)
    for turn in range(repeat + 1):
        generated = await ring.generate(prompts, NEW)
        proofs = await ring.evidence(generated)
        await ring.forget(generated)
        request = Replay(
            model_dir=str(ring.model.path),
            model_id=ring.model.model_id,
            boundaries=tuple(ring.cuts[1:]),
            sequences=tuple(
                ReplaySequence(
                    sequence=BundleSequence(
                        request=spec.request,
                        output_ids=generated.outputs[spec.sequence_id],
                        reason=FinishReason.LENGTH,
                    ),
                    proofs=tuple(stage[spec.sequence_id] for stage in proofs),
                )
                for spec in generated.sequences
            ),
        )
        answer = await validator.request(REPLAY, request, 300.0)
        if turn:  # the first one loads the model
            made.append(generated)
            replayed.append(answer)
    found = [measure for answer in replayed for measure in answer.measures]
    chunks = [c for each in found for stage in each.stages for c in stage]
    if any(chunk.malformed for chunk in chunks):
        raise RuntimeError("an honest ring's proofs are malformed")
    seconds = statistics.median(generated.seconds for generated in made)
    replay = statistics.median(answer.seconds for answer in replayed)
    measures = [each.sampling for each in found]
    return Audit(
        sequences,
        seconds,
        statistics.median(sum(generated.compute) for generated in made),
        replay,
        replay / seconds,
        max(chunk.exp_mismatches for chunk in chunks),
        sum(each.matches for each in measures) / sum(each.tokens for each in measures),
    )


async def run(options: argparse.Namespace, say: Say) -> dict[str, object]:
    """All measurements, as a report for `--json`."""
    model = open_model(options.store, options.model)
    report: dict[str, object] = {"machine": machine(), "model": model.path.name}
    say(f"{report['machine']}; {report['model']}; {options.stages} stages, 1 thread each")
    say(f"{PROMPT} prompt and {NEW} new tokens, tokens a second, median of {options.repeat}\n")
    with tempfile.TemporaryDirectory() as name, start_whole(str(model.path)) as pipe:
        folder = Path(name)
        async with open_ring(model, folder, options.stages) as ring:
            report |= await throughput(ring, pipe, options, say)
            report["wire"] = await wire(ring, options, say)
            async with open_engine(
                folder,
                "validator",
                restart=False,
                environment={"PRIME_ENGINE_THREADS": "1"},
            ) as validator:
                report["audit"] = await audits(ring, validator, options, say)
            report["delayed"] = await delayed(ring, options, say) if options.delay_ms else []
    return report


def main() -> None:
    """Measure and print, as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--store", type=Path, default=Path.home() / ".cache/prime-node/models")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--stages", type=int, default=3)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--micro-batches", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--delay-ms", type=float, default=0.0, help="latency one way, per hop")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    say = (lambda _text: None) if options.json else partial(print, flush=True)
    report = trio.run(run, options, say)
    if options.json:
        print(json.dumps(report, default=asdict, indent=1))


if __name__ == "__main__":
    main()
