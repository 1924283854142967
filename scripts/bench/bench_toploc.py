"""TOPLOC proofs beside the original `toploc` package, in the same process.

    python scripts/bench/bench_toploc.py [--activations FILE] [--chunks 16] [--repeat 15] [--json]

Builds and verifies proofs of 32-row chunks of real hidden states, bf16, H = 576 and 5120, k = 128,
on one core. "single" hands over one chunk per call, as a stage does while it decodes; "batch" all
chunks in one call, as a validator does. Contenders alternate; figures are medians of CPU time a
proof, which on an idle machine is the time it takes, and ratios are to ours.

    pip install --no-binary toploc --no-build-isolation toploc==0.1.6     (a few minutes; C++)

installs the original. Without it "plain" alone is there to compare with: the textbook way in numpy,
one chunk at a time, by Newton's divided differences and Horner's rule.

FILE is a bf16 tensor [layers, tokens, H] of hidden states; without it SmolLM2's are computed from
README.md, every third layer. Rows of H = 5120 are those of several layers side by side. The
verifier's rows differ from the prover's by noise of 0.2 %.

Before anything is timed, proofs and results are compared. They may differ only where values tie at
the cut-off: the original takes whichever `torch.topk` does, here it is the lowest index.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
if hasattr(os, "sched_setaffinity"):  # the original starts as many threads as it may use cores
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import toploc_plain
import torch
from machine import machine, watch

from proofs.toploc import (
    CHUNK_ROWS,
    TOPK,
    build_chunk_proof,
    build_row_proofs,
    measure_chunk,
    measure_rows,
)

INSTALL = "pip install --no-binary toploc --no-build-isolation toploc==0.1.6"
README = Path(__file__).resolve().parents[2] / "README.md"
WIDTHS = (576, 5120)


def original_or_none() -> Any:
    """The module `toploc`, if it is installed and loads beside this torch."""
    try:
        return importlib.import_module("toploc")
    except ImportError:
        return None


original = original_or_none()
Build = Callable[[], list[bytes]]
Verify = Callable[[list[bytes]], list[Any]]
Contender = tuple[Build, Verify]


def hidden_states(store: Path, tokens: int) -> torch.Tensor:
    """SmolLM2's hidden states [10, tokens, 576] bf16 after every third layer, of README.md."""
    from tokenizers import Tokenizer

    from pipeline.models.store import open_model
    from pipeline.runner.replay import WholeModelReplay

    prepared = open_model(store, "smollm2")
    text = README.read_text(encoding="utf-8")
    ids = Tokenizer.from_file(str(prepared.path / "tokenizer.json")).encode(text).ids
    replay = WholeModelReplay(prepared)
    ends = list(range(3, replay.layers + 1, 3))
    replayed = replay.prefill([(ids[:1], ids[1 : tokens + 1])], ends)[0]
    return torch.stack(replayed.stages).to(torch.bfloat16)


def of_width(layers: torch.Tensor, width: int) -> torch.Tensor:
    """Rows [tokens, width] of the last layer, and at its side as many before it as it takes."""
    side_by_side = layers.flip(0).permute(1, 0, 2).reshape(layers.shape[1], -1)
    return side_by_side[:, :width].contiguous()


def theirs(rows: torch.Tensor, near: torch.Tensor) -> Contender:
    """The original package, all rows in one call."""
    return (
        lambda: original.build_proofs_bytes(rows, CHUNK_ROWS, TOPK, skip_prefill=True),
        lambda proofs: original.verify_proofs_bytes(
            near, proofs, CHUNK_ROWS, TOPK, skip_prefill=True
        ),
    )


def ours(rows: torch.Tensor, near: torch.Tensor) -> Contender:
    """`proofs.toploc`, all rows in one call."""
    return lambda: build_row_proofs(rows), lambda proofs: measure_rows(near, proofs)


def ours_single(chunk: torch.Tensor, near: torch.Tensor) -> Contender:
    """`proofs.toploc`, one chunk per call."""
    return lambda: [build_chunk_proof(chunk)], lambda proofs: [measure_chunk(near, proofs[0])]


def plain(chunk: torch.Tensor, near: torch.Tensor) -> Contender:
    """The textbook way in numpy, one chunk per call."""
    return (
        lambda: [toploc_plain.build(chunk)],
        lambda proofs: [toploc_plain.verify(near, proofs[0])],
    )


def contenders(rows: torch.Tensor, near: torch.Tensor) -> dict[str, dict[str, list[Contender]]]:
    """Mode to name to its calls, which together prove and verify all chunks."""
    chunks = list(zip(torch.split(rows, CHUNK_ROWS), torch.split(near, CHUNK_ROWS), strict=True))
    single = {"plain": [plain(*chunk) for chunk in chunks]}
    single["ours"] = [ours_single(*chunk) for chunk in chunks]
    batch = {"ours": [ours(rows, near)]}
    if original:
        single["original"] = [theirs(*chunk) for chunk in chunks]
        batch["original"] = [theirs(rows, near)]
    return {"single": single, "batch": batch}


def tied(chunk: torch.Tensor) -> bool:
    """Whether values tie at the cut-off, where contenders may choose differently."""
    ordered = chunk.abs().reshape(-1).sort(descending=True).values
    return bool(ordered[TOPK - 1] == ordered[TOPK])


def check(rows: torch.Tensor, near: torch.Tensor) -> str:
    """What was compared. Raises SystemExit where contenders disagree and no tie explains it."""
    chunks = list(zip(torch.split(rows, CHUNK_ROWS), torch.split(near, CHUNK_ROWS), strict=True))
    clear = [not tied(chunk) for chunk, _ in chunks]
    compared = [ok and not tied(other) for ok, (_, other) in zip(clear, chunks, strict=True)]
    build, verify = ours(rows, near)
    proofs = build()
    figures = [(r.exp_mismatches, r.mant_err_mean, r.mant_err_median) for r in verify(proofs)]
    if proofs != [toploc_plain.build(chunk) for chunk, _ in chunks]:
        raise SystemExit("error: ours and plain build different proofs")
    if original:
        build, verify = theirs(rows, near)
        named = [(r.exp_mismatches, r.mant_err_mean, r.mant_err_median) for r in verify(proofs)]
        same = [a == b for a, b in zip(proofs, build(), strict=True)]
        equal = [a == b for a, b in zip(figures, named, strict=True)]
        if not all(same[i] for i in range(len(chunks)) if clear[i]):
            raise SystemExit("error: ours and the original build different proofs without a tie")
        if not all(equal[i] for i in range(len(chunks)) if compared[i]):
            raise SystemExit("error: ours and the original measure differently without a tie")
    return f"{sum(clear)} of {len(chunks)} chunks have no tie at the cut-off"


def measure(layers: torch.Tensor, width: int, chunks: int, repeat: int) -> list[dict[str, Any]]:
    """A row for each mode, action and contender: microseconds of CPU time a proof."""
    rows = of_width(layers, width)[: chunks * CHUNK_ROWS]
    if len(rows) < chunks * CHUNK_ROWS or rows.shape[1] < width:
        raise SystemExit(f"error: activations {tuple(layers.shape)} are too few for H = {width}")
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(width))
    near = (rows.float() * (1 + noise / 500)).to(torch.bfloat16)
    compared = check(rows, near)
    times: dict[tuple[str, str, str], list[float]] = {}
    with watch() as watched:
        for _ in range(repeat):
            for mode, those in contenders(rows, near).items():
                for name, calls in those.items():
                    for build, verify in calls:
                        started = time.process_time()
                        proofs = build()
                        built = time.process_time()
                        verify(proofs)
                        ended = time.process_time()
                        share = len(calls) / chunks * 1e6
                        times.setdefault((mode, "build", name), []).append(
                            (built - started) * share
                        )
                        times.setdefault((mode, "verify", name), []).append((ended - built) * share)
    medians = {key: statistics.median(values) for key, values in times.items()}
    return [
        {
            "hidden": width,
            "mode": mode,
            "action": action,
            "contender": name,
            "us": value,
            "ratio": value / medians[mode, action, "ours"],
            "compared": compared,
            "others": watched.others,
            "load": watched.load,
        }
        for (mode, action, name), value in sorted(medians.items())
    ]


def report(rows: list[dict[str, Any]]) -> None:
    """Print microseconds a proof beside ours."""
    for width in WIDTHS:
        some = [row for row in rows if row["hidden"] == width]
        print(f"\nH = {width}: {some[0]['compared']}; others used {some[0]['others']:.2f} cores")
        print(f"{'':8} {'':8} {'':10} {'us a proof':>10} {'of ours':>8}")
        for row in some:
            print(
                f"{row['mode']:8} {row['action']:8} {row['contender']:10} "
                f"{row['us']:10.1f} {row['ratio']:7.1f}x"
            )
    rival = "original" if original else "plain"
    for width in WIDTHS:
        ratios = [
            f"{row['mode']} {row['action']} {row['ratio']:.1f}x"
            for row in rows
            if row["hidden"] == width and row["contender"] == rival
        ]
        print(f"summary: H = {width}, faster than {rival}: {', '.join(ratios)}")


def main() -> None:
    """Measure and print, as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--activations", type=Path)
    parser.add_argument("--store", type=Path, default=Path.home() / ".cache/prime-node/models")
    parser.add_argument("--chunks", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.activations:
        layers = torch.load(options.activations, weights_only=True)
    else:
        layers = hidden_states(options.store, options.chunks * CHUNK_ROWS)
    rows = [r for w in WIDTHS for r in measure(layers, w, options.chunks, options.repeat)]
    if options.json:
        described = {"machine": machine(), "torch": torch.__version__}
        described["original"] = getattr(original, "__version__", "not installed")
        print(json.dumps({**described, "toploc": rows}, indent=1))
        return
    print(
        f"{machine()}, one of them used; torch {torch.__version__}; {CHUNK_ROWS} rows, k = {TOPK}"
    )
    if not original:
        print(f"the original toploc is not installed; {INSTALL}")
    report(rows)


if __name__ == "__main__":
    main()
