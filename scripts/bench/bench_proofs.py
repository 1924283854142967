"""TOPLOC proofs beside a plain implementation of the same formula, in the same run.

    python scripts/bench/bench_proofs.py [--chunks 16] [--repeat 7] [--json]

Builds and verifies the proof of one 32-row chunk of hidden states, H = 576 and 5120, k = 128, one
thread. "plain" is the textbook way, one chunk at a time: Newton's divided differences in numpy with
one modular inverse for each, expanded to monomials, and Horner's rule to verify. "one" takes chunks
singly as a stage does while it decodes; "many" takes a sequence of `--chunks` chunks at once as a
validator does. All give the same bytes and measures, which is checked. Contenders alternate;
figures are medians per chunk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
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

PRIME = 65497
Ints = npt.NDArray[np.int64]


def plain_points(rows: torch.Tensor) -> tuple[Ints, Ints]:
    """Indices of the TOPK largest magnitudes, of equals the lowest index, and their bits."""
    bits = rows.view(torch.int16).numpy().reshape(-1).astype(np.int64) & 0xFFFF
    magnitude = bits & 0x7FFF
    cutoff = np.partition(magnitude, -TOPK)[-TOPK]
    above, tied = np.flatnonzero(magnitude > cutoff), np.flatnonzero(magnitude == cutoff)
    indices = np.sort(np.concatenate([above, tied[: TOPK - len(above)]]))
    return indices, bits[indices]


def plain_modulus(indices: Ints) -> int:
    modulus = PRIME
    while len(np.unique(indices % modulus)) < len(indices):
        modulus -= 1
    return modulus


def plain_build(rows: torch.Tensor) -> bytes:
    """The proof's bytes, by Newton's interpolation."""
    indices, bits = plain_points(rows)
    modulus = plain_modulus(indices)
    x, divided = indices % modulus, bits % PRIME
    for order in range(1, TOPK):
        gaps = [pow(int(gap), -1, PRIME) for gap in (x[order:] - x[:-order]) % PRIME]
        differences = (divided[order:] - divided[order - 1 : -1]) % PRIME
        divided[order:] = differences * np.array(gaps) % PRIME
    coefficients = np.zeros(TOPK, dtype=np.int64)
    for place in range(TOPK - 1, -1, -1):  # c(X) = c(X) * (X - x_place) + divided_place
        shifted = np.roll(coefficients, 1)
        shifted[0] = divided[place]
        coefficients = (shifted - coefficients * x[place]) % PRIME
    return np.array([modulus, *coefficients], dtype=">u2").tobytes()


def plain_verify(rows: torch.Tensor, proof: bytes) -> tuple[int, float, float]:
    """Exponent mismatches, and mean and median error of the mantissas where exponents agree."""
    numbers = np.frombuffer(proof, dtype=">u2").astype(np.int64)
    indices, own = plain_points(rows)
    x = indices % numbers[0]
    claimed = np.zeros(TOPK, dtype=np.int64)
    for coefficient in numbers[:0:-1]:
        claimed = (claimed * x + coefficient) % PRIME
    agree = (claimed >> 7) & 255 == (own >> 7) & 255
    errors = np.sort(np.abs((claimed & 127)[agree] - (own & 127)[agree]))
    return int((~agree).sum()), float(errors.mean()), float(errors[len(errors) // 2])


def contenders(
    rows: torch.Tensor, near: torch.Tensor
) -> dict[str, tuple[Callable[[], list[bytes]], Callable[[list[bytes]], list[Any]]]]:
    """Name → (build over all chunks, verify all of them against `near` rows)."""
    chunks, others = torch.split(rows, CHUNK_ROWS), torch.split(near, CHUNK_ROWS)
    return {
        "plain": (
            lambda: [plain_build(chunk) for chunk in chunks],
            lambda proofs: [plain_verify(c, p) for c, p in zip(others, proofs, strict=True)],
        ),
        "one": (
            lambda: [build_chunk_proof(chunk) for chunk in chunks],
            lambda proofs: [measure_chunk(c, p) for c, p in zip(others, proofs, strict=True)],
        ),
        "many": (lambda: build_row_proofs(rows), lambda proofs: measure_rows(near, proofs)),
    }


def check(
    name: str, wanted: tuple[list[bytes], list[Any]], got: tuple[list[bytes], list[Any]]
) -> None:
    """Contenders that disagree are not worth timing."""
    measures = [(r.exp_mismatches, r.mant_err_mean, r.mant_err_median) for r in got[1]]
    if got[0] != wanted[0] or measures != wanted[1]:
        raise SystemExit(f"error: {name} and plain disagree")


def measure(hidden: int, chunks: int, repeat: int) -> list[dict[str, Any]]:
    """A row for each contender: milliseconds a chunk."""
    generator = torch.Generator().manual_seed(hidden)
    exact = torch.randn(chunks * CHUNK_ROWS, hidden, generator=generator)
    noise = torch.randn(exact.shape, generator=generator)
    rows, near = exact.to(torch.bfloat16), (exact * (1 + noise / 500)).to(torch.bfloat16)
    times: dict[str, tuple[list[float], list[float]]] = {}
    found: dict[str, tuple[list[bytes], list[Any]]] = {}
    with watch() as watched:
        for _ in range(repeat):
            for name, (build, verify) in contenders(rows, near).items():
                started = time.perf_counter()
                proofs = build()
                built = time.perf_counter()
                results = verify(proofs)
                ended = time.perf_counter()
                found[name] = (proofs, results)
                builds, verifies = times.setdefault(name, ([], []))
                builds.append((built - started) / chunks * 1e3)
                verifies.append((ended - built) / chunks * 1e3)
    for name in ("one", "many"):
        check(name, found["plain"], found[name])
    medians = {name: [statistics.median(values) for values in both] for name, both in times.items()}
    return [
        {
            "hidden": hidden,
            "contender": name,
            "build_ms": build,
            "verify_ms": verify,
            "build_speedup": medians["plain"][0] / build,
            "verify_speedup": medians["plain"][1] / verify,
            "others": watched.others,
            "load": watched.load,
        }
        for name, (build, verify) in medians.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--hidden", type=int, nargs="+", default=[576, 5120])
    parser.add_argument("--chunks", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [r for hidden in options.hidden for r in measure(hidden, options.chunks, options.repeat)]
    if options.json:
        print(json.dumps({"machine": machine(), "proofs": rows}, indent=1))
        return
    print(f"{machine()}; {CHUNK_ROWS}-row chunks, k = {TOPK}, 1 thread, ms a chunk")
    print(
        f"{'H':>5} {'':6} {'build':>7} {'of plain':>9} {'verify':>7} {'of plain':>9} "
        f"{'others':>7} {'load':>5}"
    )
    for row in rows:
        print(
            f"{row['hidden']:>5} {row['contender']:6} {row['build_ms']:7.2f} "
            f"{row['build_speedup']:8.1f}x {row['verify_ms']:7.2f} {row['verify_speedup']:8.1f}x "
            f"{row['others']:7.2f} {row['load']:5.1f}"
        )
    for row in rows:
        if row["contender"] == "many":
            print(
                f"summary: H = {row['hidden']}: build {row['build_ms']:.2f} ms, "
                f"{row['build_speedup']:.0f} times plain; verify {row['verify_ms']:.2f} ms, "
                f"{row['verify_speedup']:.1f} times plain"
            )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
