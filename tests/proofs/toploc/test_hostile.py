"""What is wrong with a proof is a failing result; what is wrong with the caller's rows an error."""

from __future__ import annotations

import base64
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.toploc import (
    MalformedProofError,
    ProofCountError,
    ProofInputError,
    ProofPoly,
    VerificationResult,
    build_chunk_proof,
    build_proofs,
    build_proofs_base64,
    build_proofs_bytes,
    build_row_proofs,
    find_injective_modulus,
    measure_chunk,
    measure_rows,
    verify_proofs,
    verify_proofs_base64,
    verify_proofs_bytes,
)
from proofs.toploc.field import PRIME


def rows(count: int, width: int = 64, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator).to(torch.bfloat16)


CHUNK = rows(32)
PROOF = build_chunk_proof(CHUNK)


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        (b"", "missing"),
        (bytes(258), "null proof"),
        (PROOF[:-1], "257 bytes"),
        (PROOF[:-2], "256 bytes"),
        (PROOF + b"\0\0", "260 bytes"),
        (PROOF[:2], "2 bytes"),
        (b"\x00\x01" + PROOF[2:], "modulus 1 "),
        (b"\x80\x00" + PROOF[2:], "modulus 32768"),
        (b"\xff\xff" + PROOF[2:], "modulus 65535"),
        (b"\xff\xd8" + PROOF[2:], "65497 keeps all indices apart"),
        (PROOF[:2] + b"\xff\xff" + PROOF[4:], "outside the field"),
        (b"\xff\xd9" * 129, "outside the field"),
    ],
)
def test_malformed_proofs_are_named(proof: bytes, reason: str) -> None:
    result = measure_chunk(CHUNK, proof)
    assert reason in result.malformed
    assert result.exp_mismatches == 128
    assert result.mant_err_mean == result.mant_err_median == -1.0


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_changed_proofs_never_raise_and_never_pass(data: st.DataObject) -> None:
    changed = bytearray(PROOF)
    places = st.integers(0, 257).filter(lambda place: place not in (2, 3))  # c0 only shifts values
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(places)] ^= data.draw(st.integers(1, 255))
    result = measure_chunk(CHUNK, bytes(changed))
    if bytes(changed) != PROOF:
        assert result.malformed or result.exp_mismatches > 38


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=600))
def test_arbitrary_bytes_never_raise(proof: bytes) -> None:
    result = measure_chunk(CHUNK, proof)
    assert result.malformed or result.exp_mismatches > 38


def test_an_honest_proof_passes_and_another_chunks_does_not() -> None:
    assert measure_chunk(CHUNK, PROOF).exp_mismatches == 0
    assert measure_chunk(CHUNK, PROOF).mant_err_mean == 0.0
    other = measure_chunk(rows(32, seed=1), PROOF)
    assert other.exp_mismatches > 38
    assert other.malformed == ""


def test_negated_rows_are_seen_as_sign_mismatches() -> None:
    result = measure_chunk(-CHUNK, PROOF)
    assert result.exp_mismatches == 0
    assert result.sign_mismatches == 128


def test_no_matching_exponent_gives_minus_one() -> None:
    result = measure_chunk(CHUNK * 4, PROOF)
    assert result.exp_mismatches == 128
    assert result.mant_err_mean == result.mant_err_median == -1.0


@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 100])
def test_row_functions_equal_chunk_functions(count: int) -> None:
    sequence = rows(count)
    chunks = sequence.split(32)
    assert build_row_proofs(sequence) == [build_chunk_proof(chunk) for chunk in chunks]
    noisy = sequence * 1.01
    proofs = build_row_proofs(sequence)
    assert measure_rows(noisy, proofs) == [
        measure_chunk(chunk, proof) for chunk, proof in zip(noisy.split(32), proofs, strict=True)
    ]


def test_missing_and_surplus_proofs_are_malformed_chunks() -> None:
    sequence = rows(70)
    proofs = build_row_proofs(sequence)
    assert [r.malformed for r in measure_rows(sequence, proofs[:1])] == [
        "",
        "missing proof",
        "missing proof",
    ]
    surplus = measure_rows(sequence, [*proofs, *proofs])
    assert [r.malformed for r in surplus] == ["", "", "", "6 proofs for 3 chunks"]
    assert measure_rows(sequence[:0], []) == []


def test_ties_at_the_cutoff_take_the_lowest_indices() -> None:
    equal = torch.ones(32, 64, dtype=torch.bfloat16)
    first = ProofPoly.from_points(range(128), [0x3F80] * 128)
    assert build_chunk_proof(equal) == first.to_bytes()
    equal[31, 63] = 2
    with_last = ProofPoly.from_points([*range(127), 2047], [0x3F80] * 127 + [0x4000])
    assert build_chunk_proof(equal) == with_last.to_bytes()


def test_small_chunks_prove_all_they_have() -> None:
    tiny = rows(1, 5)
    assert len(build_chunk_proof(tiny)) == 12
    assert measure_chunk(tiny, build_chunk_proof(tiny)).malformed == ""


@pytest.mark.parametrize(
    "bad",
    [
        CHUNK.float(),
        CHUNK.to(torch.float16),
        CHUNK[:0],
        torch.where(CHUNK > 2, torch.nan, CHUNK),
        torch.where(CHUNK > 2, torch.inf, CHUNK),
    ],
    ids=["fp32", "fp16", "empty", "nan", "inf"],
)
def test_unusable_rows_are_errors_on_both_sides(bad: torch.Tensor) -> None:
    with pytest.raises(ProofInputError):
        build_chunk_proof(bad)
    with pytest.raises(ProofInputError):
        measure_chunk(bad, PROOF)
    with pytest.raises(ProofInputError):
        build_proofs([bad], 32, 128)


def test_rows_must_be_two_dimensional() -> None:
    with pytest.raises(ProofInputError, match="shape"):
        build_row_proofs(rows(4).reshape(-1))


# --- the drop-in functions ----------------------------------------------------------------------


def steps() -> list[torch.Tensor]:
    """A prefill of three rows and seven decode steps."""
    return [rows(3, 16), *rows(7, 16, seed=1)]


def test_prefill_is_one_chunk_and_decode_steps_are_batched() -> None:
    assert len(build_proofs(steps(), 2, 5)) == 5
    assert len(build_proofs(steps()[1:], 2, 5, skip_prefill=True)) == 4
    assert len(build_proofs(steps()[:1], 2, 5)) == 1
    assert build_proofs([], 2, 5) == []
    text = build_proofs_base64(steps(), 3, 4)
    assert [base64.b64decode(t) for t in text] == build_proofs_bytes(steps(), 3, 4)
    for results in (
        verify_proofs(steps(), build_proofs(steps(), 3, 4), 3, 4),
        verify_proofs_bytes(steps(), build_proofs_bytes(steps(), 3, 4), 3, 4),
        verify_proofs_base64(steps(), text, 3, 4),
    ):
        assert results == [VerificationResult(0, 0.0, 0.0)] * 4


def test_wrong_counts_of_proofs_are_errors() -> None:
    proofs = build_proofs_bytes(steps(), 2, 5)
    for wrong in (proofs[:1], proofs * 2, []):
        with pytest.raises(ProofCountError):
            verify_proofs_bytes(steps(), wrong, 2, 5)


def test_bad_proofs_fail_their_own_chunk_only() -> None:
    good = build_proofs(steps(), 2, 5)
    failed = VerificationResult(5, 2.0**64, 2.0**64)
    for bad in (
        ProofPoly.null(5),
        ProofPoly([], 65497),
        ProofPoly([1], 65497),
        ProofPoly([-1] * 5, 65497),
        ProofPoly([70000] * 5, 65497),
        ProofPoly([1] * 5, 10**9),
    ):
        results = verify_proofs(steps(), [*good[:2], bad, *good[3:]], 2, 5)
        assert results[2] == failed
        assert results[:2] + results[3:] == [VerificationResult(0, 0.0, 0.0)] * 4
    assert verify_proofs_base64(steps()[:1], ["not base64!"], 2, 5) == [failed]
    assert verify_proofs(steps()[:1], [good[0]], 2, 5)[0].exp_mismatches == 0


def test_unusable_settings_are_errors() -> None:
    for size, topk in ((0, 5), (2, 0), (2, 4096)):
        with pytest.raises(ProofInputError):
            build_proofs(steps(), size, topk)
    with pytest.raises(ProofInputError, match="cast"):
        build_proofs([rows(1), rows(1).float()], 2, 5, skip_prefill=True)


def test_results_and_proofs_pickle() -> None:
    result, proof = VerificationResult(1, 2.0, 3.0), ProofPoly([1, 2], PRIME)
    assert pickle.loads(pickle.dumps(result)) == result != VerificationResult(2, 2.0, 3.0)
    assert pickle.loads(pickle.dumps(proof)) == proof != ProofPoly([1, 3], PRIME)


# --- ProofPoly ----------------------------------------------------------------------------------


def test_proof_poly_values_and_codecs() -> None:
    poly = ProofPoly([1, 2, 3, 4], PRIME)
    assert poly(42) == (1 + 2 * 42 + 3 * 42**2 + 4 * 42**3) % PRIME
    assert len(poly) == 4
    assert ProofPoly.from_bytes(poly.to_bytes()) == poly
    assert ProofPoly.from_base64(poly.to_base64()) == poly
    assert repr(poly) == "ProofPoly[65497]([1, 2, 3, 4])"
    assert ProofPoly([7, 5], 40000)(40003) == 7 + 5 * 3
    null = ProofPoly.null(3)
    assert ProofPoly.from_bytes(null.to_bytes()).is_null
    with pytest.raises(MalformedProofError):
        null(1)


@pytest.mark.parametrize("data", [b"", b"\xff\xd9", b"\xff\xd9\x00", bytes(5000)])
def test_bytes_that_are_no_proof_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedProofError):
        ProofPoly.from_bytes(data)


@pytest.mark.parametrize("text", ["!", "é", "AAA", "A" * 20_000])
def test_text_that_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(MalformedProofError):
        ProofPoly.from_base64(text)


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 2**31 - 1), st.integers(0, 2**17), min_size=1, max_size=60))
def test_polynomials_go_through_their_points(points: dict[int, int]) -> None:
    poly = ProofPoly.from_points(list(points), list(points.values()))
    assert len(poly) == len(points)
    assert all(poly(x) == y % PRIME for x, y in points.items())


def test_points_from_tensors() -> None:
    x = torch.tensor([1, 2, 3])
    assert ProofPoly.from_points_tensor(x, torch.tensor([4, 5, 6]))(2) == 5
    poly = ProofPoly.from_points_tensor(x.int(), torch.tensor([1.0, -2.0, 3.0]).bfloat16())
    assert [poly(1), poly(2), poly(3)] == [0x3F80, 0xC000, 0x4040]
    for bad_x, bad_y in ((x.float(), x), (x, x.float()), (x[None], x), (x, x[:2])):
        with pytest.raises(ProofInputError):
            ProofPoly.from_points_tensor(bad_x, bad_y)


def test_unusable_points_are_refused() -> None:
    for x in ([], [1, 1], [-1, 2], list(range(3000))):
        with pytest.raises(ProofInputError):
            ProofPoly.from_points(x, [0] * len(x))


def test_the_largest_injective_modulus_is_found() -> None:
    assert find_injective_modulus([0, 65496]) == PRIME
    assert find_injective_modulus([0, 65497]) == 65496
    assert find_injective_modulus([0, 65497, 65496]) == 65495
