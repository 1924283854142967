"""Makes `original.jsonl` with the original package; run only to add cases.

    python tests/proofs/toploc/make_vectors.py ACTIVATIONS.pt > tests/proofs/toploc/original.jsonl

ACTIVATIONS.pt is a bf16 tensor [layers, tokens, H] of a real model's hidden states. All input bits
are in the file, since random generators change between versions of torch; to keep it small, all but
the largest values of each chunk are set to zero. No chunk has a tie at the cut-off, where
`torch.topk` takes what it likes. Fields are those of tests/vectors/toploc.jsonl, and besides
`prefill`, the number of rows that come first as one tensor of a list (0: a tensor of steps).
"""

from __future__ import annotations

import base64
import json
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import toploc
import torch

KEPT = 400


def packed(rows: torch.Tensor) -> str:
    return base64.b64encode(zlib.compress(rows.view(torch.uint16).numpy().tobytes(), 9)).decode()


def as_given(rows: torch.Tensor, prefill: int) -> Any:
    return [rows[:prefill], *rows[prefill:]] if prefill else rows


def chunks(rows: torch.Tensor, size: int, prefill: int) -> list[torch.Tensor]:
    first = [rows[:prefill]] if prefill else []
    return [*first, *torch.split(rows[prefill:], size)]


def thinned(rows: torch.Tensor, size: int, topk: int, prefill: int) -> torch.Tensor:
    """All but the largest values of each chunk zero. Raises ValueError for a tie at the cut-off."""
    parts = []
    for chunk in chunks(rows, size, prefill):
        flat = chunk.reshape(-1).clone()
        ordered = flat.abs().sort(descending=True).values
        if len(flat) > topk and ordered[topk - 1] == ordered[topk]:
            raise ValueError("a tie at the cut-off")
        if len(flat) > KEPT + topk:
            flat[flat.abs() < ordered[KEPT]] = 0
        parts.append(flat.reshape(chunk.shape))
    return torch.cat(parts)


def case(
    name: str, rows: torch.Tensor, near: torch.Tensor, size: int, topk: int, prefill: int = 0
) -> dict[str, Any]:
    """One vector; `near` are the verifier's rows."""
    rows, near = thinned(rows, size, topk, prefill), thinned(near, size, topk, prefill)
    proofs = toploc.build_proofs_base64(as_given(rows, prefill), size, topk, not prefill)
    results = toploc.verify_proofs_base64(as_given(near, prefill), proofs, size, topk, not prefill)
    assert len(proofs) == len(results) == len(chunks(rows, size, prefill))
    return {
        "name": name,
        "shape": list(rows.shape),
        "topk": topk,
        "decode_batching_size": size,
        "prefill": prefill,
        "input": packed(rows),
        "verify_input": packed(near),
        "proofs": proofs,
        "moduli": [toploc.ProofPoly.from_base64(proof).modulus for proof in proofs],
        "results": [[r.exp_mismatches, r.mant_err_mean, r.mant_err_median] for r in results],
    }


def noisy(rows: torch.Tensor, generator: torch.Generator, scale: float) -> torch.Tensor:
    noise = torch.randn(rows.shape, generator=generator)
    return (rows.float() * (1 + scale * noise)).to(torch.bfloat16)


def wide(layers: torch.Tensor, start: int, rows: int) -> torch.Tensor:
    """Real rows of several layers side by side, 5120 values each."""
    joined = layers[:9, start : start + rows].permute(1, 0, 2).reshape(rows, -1)
    return joined[:, :5120].contiguous()


def candidates(layers: torch.Tensor) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Arguments of `case`, more than enough: those with ties are left out, and most "unfolded"."""
    g = torch.Generator().manual_seed(7)
    for start in range(0, 900, 40):
        for layer in (-1, 4):
            rows = layers[layer, start : start + 70]
            yield "ragged", (rows, noisy(rows, g, 0.004), 32, 128)
            yield "prefill", (rows[:40], noisy(rows[:40], g, 0.01), 16, 64, 9)
            yield "other", (rows[:32], layers[layer, start + 33 : start + 65], 32, 128)
        rows = wide(layers, start, 32)
        yield "wide", (rows, noisy(rows, g, 0.004), 32, 128)
        rows = wide(layers, start, 24)
        yield "wide-16", (rows, noisy(rows, g, 0.02), 16, 96)
        narrow = layers[-1, start : start + 40, start % 500 :][:, : 1 + start % 3]
        yield "narrow", (narrow, noisy(narrow, g, 0.01), 32, 4)
        for later in range(0, 992 - start, 25):
            rows = wide(layers, later, 32)[:, torch.randperm(5120, generator=g)]
            yield "unfolded", (rows, noisy(rows, g, 0.004), 32, 128)
        few = layers[-1, start : start + 1, :128]
        yield "all", (few, noisy(few, g, 0.01), 32, 128)


def main() -> None:
    layers, wanted = torch.load(sys.argv[1]), {"wide": 2, "folded": 4, "wide-16": 2, "unfolded": 0}
    made: dict[str, int] = {}
    for kind, arguments in candidates(layers):
        try:
            vector = case("", *arguments)
        except ValueError:
            continue
        if any(modulus != 65497 for modulus in vector["moduli"]):
            kind = "folded"
        if made.setdefault(kind, 0) < wanted.get(kind, 4):
            vector["name"] = f"{kind}-{made[kind]}"
            made[kind] += 1
            print(json.dumps(vector))


if __name__ == "__main__":
    main()
