"""Proofs and results of a real model's activations equal those of the original, bit for bit.

`make_vectors.py` says how the vectors were made. Tensors of decode steps take the original through
its C++ and lists through its Python, which differ in the median of an even number of errors.
"""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from proofs.toploc import (
    ProofPoly,
    build_chunk_proof,
    build_chunk_proofs,
    build_proofs_base64,
    build_row_proofs,
    build_sequence_proofs,
    measure_rows,
    measure_sequences,
    verify_proofs_base64,
)
from proofs.toploc.field import PRIME

HERE = Path(__file__).parent
CASES = [json.loads(line) for line in (HERE / "original.jsonl").read_text().splitlines()]
POINTS = json.loads((HERE / "points.json").read_text())
ROWS = [c for c in CASES if (c["topk"], c["decode_batching_size"], c["prefill"]) == (128, 32, 0)]


def activations(case: dict[str, Any], field: str) -> torch.Tensor:
    bits = np.frombuffer(zlib.decompress(base64.b64decode(case[field])), dtype="<u2")
    return torch.from_numpy(bits.astype(np.int16)).view(torch.bfloat16).reshape(case["shape"])


def as_given(case: dict[str, Any], field: str) -> torch.Tensor | list[torch.Tensor]:
    rows, prefill = activations(case, field), case["prefill"]
    return [rows[:prefill], *rows[prefill:]] if prefill else rows


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_proofs_are_byte_equal(case: dict[str, Any]) -> None:
    size, topk, skip = case["decode_batching_size"], case["topk"], not case["prefill"]
    proofs = build_proofs_base64(as_given(case, "input"), size, topk, skip)
    assert proofs == case["proofs"]
    assert [ProofPoly.from_base64(proof).modulus for proof in proofs] == case["moduli"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_results_are_equal(case: dict[str, Any]) -> None:
    size, topk, skip = case["decode_batching_size"], case["topk"], not case["prefill"]
    near = as_given(case, "verify_input")
    results = verify_proofs_base64(near, case["proofs"], size, topk, skip)
    assert [[r.exp_mismatches, r.mant_err_mean, r.mant_err_median] for r in results] == case[
        "results"
    ]


def test_the_vectors_cover_what_they_should() -> None:
    assert any(modulus != PRIME for case in CASES for modulus in case["moduli"])
    assert any(case["shape"][0] % 32 for case in ROWS)
    assert {1, 2, 3} <= {case["shape"][1] for case in CASES}


def test_a_list_call_has_the_median_of_the_original_python() -> None:
    steps = torch.ones(2, 1, dtype=torch.bfloat16)
    near = torch.tensor([[1.0], [1 + 3 / 128]], dtype=torch.bfloat16)
    proofs = build_proofs_base64(steps, 2, 2, skip_prefill=True)
    assert verify_proofs_base64(near, proofs, 2, 2, skip_prefill=True)[0].mant_err_median == 3.0
    listed = verify_proofs_base64(list(near), proofs, 2, 2, skip_prefill=True)
    assert listed[0].mant_err_median == 1.5


def test_a_topk_beyond_the_chunk_proves_all_of_it() -> None:
    for case in (case for case in CASES if case["name"].startswith("all")):
        rows = activations(case, "input")
        assert build_proofs_base64(rows, 32, 1000, skip_prefill=True) == case["proofs"]
        y = rows.view(torch.int16).reshape(-1).to(torch.int64) & 0xFFFF
        every = ProofPoly.from_points_tensor(torch.arange(rows.numel()), y)
        assert every.to_base64() == case["proofs"][0]


@pytest.mark.parametrize("case", POINTS, ids=lambda case: f"{len(case['x'])}-{max(case['x'])}")
def test_polynomials_through_points_are_equal(case: dict[str, Any]) -> None:
    assert ProofPoly.from_points(case["x"], case["y"]).to_base64() == case["proof"]


def test_many_sequences_at_once_give_what_each_gives_alone() -> None:
    inputs = [activations(case, "input") for case in ROWS]
    near = [activations(case, "verify_input") for case in ROWS]
    proofs = build_sequence_proofs(inputs)
    assert proofs == [[base64.b64decode(text) for text in case["proofs"]] for case in ROWS]
    assert proofs == [build_row_proofs(rows) for rows in inputs]
    claims: list[tuple[torch.Tensor, list[bytes]]] = list(zip(near, proofs, strict=True))
    claims += [(near[0], []), (near[0][:0], []), (near[1], [bytes(258), *proofs[1], b"more"])]
    assert measure_sequences(claims) == [measure_rows(rows, texts) for rows, texts in claims]
    chunks = [chunk for rows in inputs for chunk in torch.split(rows, 32)]
    assert build_chunk_proofs(chunks) == [build_chunk_proof(chunk) for chunk in chunks]
    assert measure_sequences([]) == build_chunk_proofs([]) == build_sequence_proofs([]) == []
