"""What is wrong with a proof is a failing result; what is wrong with the caller's rows an error."""

from __future__ import annotations

import base64
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.errors import ProofError
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


def test_what_is_no_list_of_tensors_is_an_error() -> None:
    bf16 = torch.bfloat16
    unusable: list[Any] = [
        None,
        5,
        "text",
        {1: rows(1)},
        (step for step in steps()),
        [None],
        [[1.0, 2.0]],
        [rows(2), 3],
        [torch.tensor(1.0).to(bf16)],
        [rows(2), torch.ones(4, dtype=bf16, device="meta")],
        [torch.ones(4).bool()],
        torch.tensor(1.0).to(bf16),
        rows(4).reshape(-1),
        rows(4)[None],
        rows(4).float(),
        torch.ones(4, 4).int(),
        rows(4)[:, :0],
    ]
    for activations in unusable:
        for skip_prefill in (False, True):
            with pytest.raises(ProofInputError):
                build_proofs(activations, 2, 5, skip_prefill)
            with pytest.raises(ProofInputError):
                verify_proofs(activations, [], 2, 5, skip_prefill)
    unusable_settings: list[Any] = [None, "2", 2.0, True, 10**400]
    for number in unusable_settings[:-1]:
        with pytest.raises(ProofInputError):
            build_proofs(steps(), number, 5)
    for number in unusable_settings:
        with pytest.raises(ProofInputError):
            build_proofs(steps(), 2, number)
    assert len(build_proofs(steps(), 10**400, 5)) == 2
    for size in (10**400, 2**63, 9):
        assert len(build_proofs(rows(9), size, 5)) == 2
        assert len(build_proofs(rows(9), size, 5, skip_prefill=True)) == 1
    rows_of: list[Any] = [None, [rows(2)], rows(4).reshape(-1), rows(4)[None], rows(4)[:, :0]]
    for bad in rows_of:
        with pytest.raises(ProofInputError):
            measure_rows(bad, [])


def test_any_dense_element_of_a_list_is_flattened() -> None:
    as_steps = [step[None] for step in steps()]
    assert build_proofs(as_steps, 2, 5) == build_proofs(tuple(steps()), 2, 5)
    assert build_proofs(rows(0, 16), 2, 5) == []
    whole = rows(9, 16)
    assert build_proofs(whole, 3, 5) == build_proofs(list(whole), 3, 5)


def test_proofs_of_other_types_fail_or_are_errors() -> None:
    activations, failed = steps()[:1], VerificationResult(5, 2.0**64, 2.0**64)
    bad: list[Any] = [None, 3, 2.5, True, "proof", [], ["a"], b"", bytes(5000), object(), PROOF]
    for proof in bad:
        for verify in (verify_proofs, verify_proofs_bytes, verify_proofs_base64):
            assert verify(activations, [proof], 2, 5) == [failed]
        assert measure_chunk(activations[0], proof, 5).malformed
        assert measure_rows(activations[0], [proof], 5)[0].malformed
    numbers: list[Any] = ["ab", None, [None], [1.5] * 5, ["1"] * 5, [10**400] * 5, [1] * 10**5]
    for coeffs in numbers:
        assert verify_proofs(activations, [ProofPoly(coeffs, PRIME)], 2, 5) == [failed]
        modulus: Any = coeffs
        assert verify_proofs(activations, [ProofPoly([1] * 5, modulus)], 2, 5) == [failed]
    no_lists: list[Any] = [None, 3, "text", PROOF, {}, iter([PROOF])]
    for proofs in no_lists:
        for verify in (verify_proofs, verify_proofs_bytes, verify_proofs_base64):
            with pytest.raises(ProofCountError):
                verify(activations, proofs, 2, 5)
        assert [r.malformed for r in measure_rows(activations[0], proofs, 5)] == ["missing proof"]
    assert verify_proofs_base64(activations, ["A" * 50_000_000], 2, 5) == [failed]


def test_errors_are_also_the_value_errors_of_the_original() -> None:
    for error in (MalformedProofError, ProofCountError, ProofInputError):
        assert issubclass(error, ProofError)
        assert issubclass(error, ValueError)


def test_the_drop_in_results_show_negated_activations() -> None:
    negated = [-step for step in steps()]
    results = verify_proofs(negated, build_proofs(steps(), 2, 5), 2, 5)
    assert results == [VerificationResult(0, 0.0, 0.0)] * 5
    assert [result.sign_mismatches for result in results] == [5] * 5
    text = "VerificationResult[exp_mismatches=5, mant_err_mean=1.84467e+19, mant_err_median=1.5]"
    assert repr(VerificationResult(5, 2.0**64, 1.5)) == text


def test_signs_count_where_exponents_agree() -> None:
    flipped = CHUNK.clone()
    flipped[0] *= -1
    result = measure_chunk(flipped, PROOF)
    assert 0 < result.sign_mismatches < 20
    assert result.exp_mismatches == 0
    unrelated = measure_chunk(rows(32, seed=1), PROOF)
    assert unrelated.sign_mismatches <= 128 - unrelated.exp_mismatches


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


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd9", b"\xff\xd9\x00", bytes(5000), "text", None, 7, [1, 2]]
)
def test_bytes_that_are_no_proof_are_refused(data: Any) -> None:
    with pytest.raises(MalformedProofError):
        ProofPoly.from_bytes(data)


@pytest.mark.parametrize("text", ["!", "é", "AAA", "A" * 20_000, b"\xff" * 4, None, 7, [1]])
def test_text_that_is_no_proof_is_refused(text: Any) -> None:
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


def test_a_poly_of_other_types_has_no_value() -> None:
    x: Any
    for coeffs, modulus, x in (([1, 2], "m", 3), (["a"], 7, 3), (None, 7, 3), ([1], 7, None)):
        numbers: Any = coeffs
        base: Any = modulus
        with pytest.raises(MalformedProofError):
            ProofPoly(numbers, base)(x)


def test_points_of_other_types_are_refused() -> None:
    bad: list[Any] = [None, 3, "ab", [1.5, 2.0], ["1", "2"], [None, None], [2**70, 1]]
    for x in bad:
        with pytest.raises(ProofInputError):
            ProofPoly.from_points(x, [1, 2])
        with pytest.raises(ProofInputError):
            find_injective_modulus(x)
        with pytest.raises(ProofInputError):
            ProofPoly.from_points_tensor(x, torch.tensor([1, 2]))
    for y in bad[:-1]:
        with pytest.raises(ProofInputError):
            ProofPoly.from_points([1, 2], y)
    assert ProofPoly.from_points([1], [2**70])(1) == 2**70 % PRIME
    lengths: list[Any] = [-1, 10**9, None, "3", 2.0]
    for length in lengths:
        with pytest.raises(ProofInputError):
            ProofPoly.null(length)


def test_unusable_points_are_refused() -> None:
    for x in ([], [1, 1], [-1, 2], list(range(3000))):
        with pytest.raises(ProofInputError):
            ProofPoly.from_points(x, [0] * len(x))


def test_the_largest_injective_modulus_is_found() -> None:
    assert find_injective_modulus([0, 65496]) == PRIME
    assert find_injective_modulus([0, 65497]) == 65496
    assert find_injective_modulus([0, 65497, 65496]) == 65495
