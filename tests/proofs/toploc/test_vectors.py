"""Proofs and results equal those of the original software, bit for bit."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest
import torch

from proofs.toploc import (
    build_chunk_proof,
    build_proofs_base64,
    measure_chunk,
    verify_proofs_base64,
)
from tests.paths import VECTORS

CASES = [json.loads(line) for line in (VECTORS / "toploc.jsonl").read_text().splitlines()]


def activations(case: dict[str, Any], field: str) -> torch.Tensor:
    bits = np.frombuffer(zlib.decompress(base64.b64decode(case[field])), dtype="<u2")
    return torch.from_numpy(bits.astype(np.int16)).view(torch.bfloat16).reshape(case["shape"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_proofs_are_byte_equal(case: dict[str, Any]) -> None:
    rows = activations(case, "input")
    size, topk = case["decode_batching_size"], case["topk"]
    assert build_proofs_base64(rows, size, topk, skip_prefill=True) == case["proofs"]
    assert build_proofs_base64(list(rows), size, topk, skip_prefill=True) == case["proofs"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_results_are_equal(case: dict[str, Any]) -> None:
    rows = activations(case, "verify_input")
    results = verify_proofs_base64(
        rows, case["proofs"], case["decode_batching_size"], case["topk"], skip_prefill=True
    )
    expected = [[e, 2.0**64, 2.0**64] if m == -1 else [e, m, d] for e, m, d in case["results"]]
    assert [[r.exp_mismatches, r.mant_err_mean, r.mant_err_median] for r in results] == expected


@pytest.mark.parametrize("case", [c for c in CASES if c["topk"] == 128], ids=lambda c: c["name"])
def test_chunk_functions_agree_with_the_vectors(case: dict[str, Any]) -> None:
    proof = base64.b64decode(case["proofs"][0])
    assert build_chunk_proof(activations(case, "input")) == proof
    result = measure_chunk(activations(case, "verify_input"), proof)
    assert [result.exp_mismatches, result.mant_err_mean, result.mant_err_median] == case["results"][
        0
    ]
    assert result.malformed == ""
