"""What verifying a work unit costs beside generating it, on the same CPU.

    python scripts/bench/bench_verification.py [--batches 1 4 16 64] [--threads 2] [--whole]

Sequences of 64 prompt and 256 output tokens of SmolLM2 (fp32, temperature 1, top-k 50, top-p 0.95
as in the evaluation; `--whole` samples from the whole vocabulary, which takes most) are generated
with `batch` of them at once, by the runner that stages use, proofs included; then a validator's
measurement of the same sequences is timed, in the same process and with the same threads: one
prefill over all layers, the proofs of three stages, every token's sampling. "full" replays all of a
unit's sequences, "1/16" the share that an established worker is checked with
(`proofs.thresholds.spotcheck`). The named alternative is generating again, as one would without
proofs: ratio 1.

Each batch size is measured `--rounds` times, generation and verification in turn; medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine, watch

from pipeline.engine.control.replay_messages import Replay, ReplaySequence
from pipeline.engine.replay import Replayer
from pipeline.models.store import open_model
from pipeline.runner.local_ring import Generated, LocalRing, load_ring
from proofs.evidence.sequence import BundleSequence, FinishReason, SequenceRequest
from proofs.sampling.settings import SamplingSettings
from proofs.thresholds.spotcheck import DEFAULT_TERMS, ONE
from proofs.toploc import build_row_proofs

STORE = Path("~/.cache/prime-node/models").expanduser()
PROMPT, OUTPUT = 64, 256
BOUNDARIES = (10, 20, 30)


def prompts(count: int, vocabulary: int) -> list[tuple[int, ...]]:
    """Prompts of `PROMPT` plain tokens, all different."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(1000, min(vocabulary, 20_000), (count, PROMPT), generator=generator)
    return [tuple(row) for row in ids.tolist()]


def generate(
    ring: LocalRing, requests: list[SequenceRequest]
) -> list[tuple[Generated, list[tuple[bytes, ...]]]]:
    """Generate with proofs of every stage, as stages seal them."""
    made = []
    for item in ring.generate(requests):
        rows = [stage[PROMPT - 1 :].to(torch.bfloat16) for stage in item.stages]
        made.append((item, [tuple(build_row_proofs(stage)) for stage in rows]))
    return sorted(made, key=lambda pair: pair[0].index)


def measure(
    batch: int, rounds: int, model: Any, replayer: Replayer, filters: dict[str, Any]
) -> dict[str, float]:
    """Medians of seconds for one batch, wall clock."""
    asked = prompts(batch, model.manifest.vocab_size)
    keys = range(1000, 1000 + batch)
    requests = [
        SequenceRequest(
            sequence_id=key.to_bytes(16, "big"),
            prompt_ids=prompt,
            sampling=SamplingSettings(temperature=1.0, noise_key=key, **filters),
            max_tokens=OUTPUT,
        )
        for key, prompt in zip(keys, asked, strict=True)
    ]
    stages = load_ring(model, BOUNDARIES, kv_tokens=batch * (PROMPT + OUTPUT))
    ring = LocalRing(stages, batch=batch, max_batch_tokens=max(1024, batch))
    generating, verifying = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        made = generate(ring, requests)
        generating.append(time.perf_counter() - started)
        sequences = tuple(
            ReplaySequence(
                sequence=BundleSequence(
                    request=requests[item.index],
                    output_ids=item.output_ids,
                    reason=FinishReason.LENGTH,
                ),
                proofs=tuple(proofs),
            )
            for item, proofs in made
        )
        request = Replay(
            model_dir=str(model.path),
            model_id=bytes.fromhex(model.manifest.model_id),
            boundaries=BOUNDARIES,
            sequences=sequences,
        )
        started = time.perf_counter()
        answer = replayer.replay(request)
        verifying.append(time.perf_counter() - started)
        worst = max(
            c.exp_mismatches for each in answer.measures for chunks in each.stages for c in chunks
        )
        matches = sum(each.sampling.matches for each in answer.measures)
        if worst > 3 or matches < 0.99 * batch * OUTPUT:
            raise SystemExit(f"error: honest work does not verify ({worst=}, {matches=})")
    seconds, replay = statistics.median(generating), statistics.median(verifying)
    return {
        "batch": batch,
        "generate": seconds,
        "tokens_per_second": batch * OUTPUT / seconds,
        "verify": replay,
        "full": replay / seconds,
        "spot": replay / seconds * DEFAULT_TERMS.floor / ONE,
    }


def main() -> int:
    """Measure and print, as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = open_model(STORE, "smollm2")
    replayer = Replayer()
    filters = {} if options.whole else {"top_k": 50, "top_p": 0.95}
    with watch() as watched:
        measure(1, 1, model, replayer, filters)  # loads the validator's model
        rows = [
            measure(batch, options.rounds, model, replayer, filters) for batch in options.batches
        ]
    if options.json:
        print(json.dumps({"machine": machine(), "threads": options.threads, "rows": rows}))
        return 0
    print(f"{machine()}, {options.threads} threads; others used {watched.others:.2f} cores\n")
    print(f"{'batch':>5} {'generate':>9} {'tokens/s':>9} {'verify':>8} {'full':>7} {'1/16':>7}")
    for row in rows:
        print(
            f"{row['batch']:5.0f} {row['generate']:8.2f}s {row['tokens_per_second']:9.1f}"
            f" {row['verify']:7.2f}s {row['full']:7.3f} {row['spot']:7.4f}"
        )
    print("\nshare of the cost of generating; goals: full 0.100, with spot checks 0.0400")
    shares = ", ".join(f"{r['full']:.2f} at {r['batch']:.0f}" for r in rows)
    spots = max(row["spot"] for row in rows)
    print(f"summary: verifying costs {shares} of generating; spot-checked at most {spots:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
