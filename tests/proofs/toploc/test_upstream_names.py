"""What the original's own tests establish, by their names and through its import names.

docs/reference/toploc.md lists them. A test here states the same fact; where the original's test
pins a defect, it states what holds instead.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from proofs.errors import ProofError
from proofs.toploc import ProofInputError, compat

compat.install()
toploc = importlib.import_module("toploc")
poly = importlib.import_module("toploc.poly")
c_poly = importlib.import_module("toploc.C.csrc.poly")
ndd = importlib.import_module("toploc.C.csrc.ndd")
fp = importlib.import_module("toploc.C.csrc.utils")
utils = importlib.import_module("toploc.utils")

ProofPoly, VerificationResult = c_poly.ProofPoly, c_poly.VerificationResult
CUBIC = ProofPoly([1, 2, 3, 4], 65497)


def hidden(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def generation() -> list[torch.Tensor]:
    """A prefill of three rows and seven decode steps, H = 16.

    Magnitudes in a chunk are a factor of two apart, so that no factor changes which are largest.
    """
    place = torch.arange(160)
    values = (1.25 + 0.05 * (place % 3)) * 2.0 ** (place * 7 % 48 - 24) * (1 - 2 * (place % 2))
    rows = values.bfloat16().reshape(10, 16)
    return [rows[:3], *rows[3:]]


def test_every_name_is_there() -> None:
    assert toploc.__version__ == "0.1.6"
    kinds = [
        f"{verb}_proofs{form}" for verb in ("build", "verify") for form in ("", "_bytes", "_base64")
    ]
    for name in [*kinds, "ProofPoly"]:
        assert getattr(toploc, name) is getattr(poly, name)
    assert toploc.sha256sum is utils.sha256sum
    assert c_poly.ProofPoly is toploc.ProofPoly


# --- test_ndd.py --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y"), [([0], [42]), ([9, 4, 7], [0, 0, 0]), ([1, 3, 5, 2], [1, 5, 4, 1])]
)
def test_newton_interpolation_specific(x: list[int], y: list[int]) -> None:
    coefficients = ndd.compute_newton_coefficients(x, y)
    assert len(coefficients) == len(x)
    assert [ndd.evaluate_polynomial(coefficients, point) for point in x] == y


def test_newton_interpolation_random() -> None:
    generator = np.random.default_rng(8)
    x = generator.choice(65497, 1000, replace=False).tolist()
    y = generator.integers(0, 2**15, 1000).tolist()
    assert ndd.evaluate_polynomials(ndd.compute_newton_coefficients(x, y), x) == y


@pytest.mark.parametrize(
    ("x", "y"),
    [([], []), ([1, 2], [1]), ([1, 1], [1, 2]), ([70000], [1]), ([*range(3000)], [1] * 3000)],
)
def test_error_conditions(x: list[int], y: list[int]) -> None:
    with pytest.raises(ProofError):
        ndd.compute_newton_coefficients(x, y)
    for coefficients in ([], None, ["a"]):
        with pytest.raises(ProofError):
            ndd.evaluate_polynomial(coefficients, 1)


# --- test_poly.py -------------------------------------------------------------------------------


def test_find_injective_modulus() -> None:
    x = np.random.default_rng(1).integers(0, 4_000_000_000, 100).tolist()
    modulus = poly.find_injective_modulus(x)
    assert isinstance(modulus, int)
    assert len({value % modulus for value in x}) == 100


def test_proof_poly_init() -> None:
    assert (CUBIC.coeffs, CUBIC.modulus) == ([1, 2, 3, 4], 65497)


def test_proof_poly_call() -> None:
    assert CUBIC(42) == (1 + 2 * 42 + 3 * 42**2 + 4 * 42**3) % 65497


def test_proof_poly_len() -> None:
    assert len(CUBIC) == 4


def test_proof_poly_null() -> None:
    null = ProofPoly.null(5)
    assert (len(null), null.modulus, null.coeffs) == (5, 0, [0] * 5)


def test_proof_poly_from_points_list() -> None:
    line = ProofPoly.from_points([1, 2, 3], [4, 5, 6])
    assert (line.coeffs, line.modulus) == ([3, 1, 0], 65497)


def test_proof_poly_from_points_tensor() -> None:
    line = ProofPoly.from_points_tensor(torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]))
    assert [line(1), line(2), line(3), len(line)] == [4, 5, 6, 3]


def test_proof_poly_from_points_bfloat16() -> None:
    values = torch.tensor([4, 5, 6], dtype=torch.bfloat16)
    through = ProofPoly.from_points_tensor(torch.tensor([1, 2, 3]), values)
    assert [through(1), through(2), through(3)] == [0x4080, 0x40A0, 0x40C0]


def test_proof_poly_to_base64() -> None:
    assert base64.b64decode(CUBIC.to_base64()) == CUBIC.to_bytes()


def test_proof_poly_to_bytes() -> None:
    assert CUBIC.to_bytes() == struct.pack(">5H", 65497, 1, 2, 3, 4)


def test_proof_poly_from_bytes() -> None:
    assert ProofPoly.from_bytes(CUBIC.to_bytes()) == CUBIC


def test_proof_poly_from_base64() -> None:
    assert ProofPoly.from_base64(CUBIC.to_base64()) == CUBIC


def test_proof_poly_repr() -> None:
    assert repr(CUBIC) == "ProofPoly[65497]([1, 2, 3, 4])"


def test_build_proofs() -> None:
    proofs = poly.build_proofs_bytes(generation(), decode_batching_size=2, topk=5)
    assert [type(proof) for proof in proofs] == [bytes] * 5
    assert {len(proof) for proof in proofs} == {12}


def test_build_proofs_base64() -> None:
    proofs = poly.build_proofs_base64(generation(), decode_batching_size=2, topk=5)
    decoded = [base64.b64decode(proof, validate=True) for proof in proofs]
    assert decoded == poly.build_proofs_bytes(generation(), 2, 5)


def test_build_proofs_skip_prefill() -> None:
    assert len(poly.build_proofs_bytes(generation()[1:], 2, 5, skip_prefill=True)) == 4
    assert len(poly.build_proofs_base64(hidden(17, 16), 4, 5, skip_prefill=True)) == 5


def test_build_proofs_error_handling() -> None:
    """The original returns null proofs for activations that cannot be proven: here an error."""
    with pytest.raises(ProofInputError):
        poly.build_proofs_bytes([hidden(0, 16), hidden(16)], decode_batching_size=2, topk=5)


def test_build_proofs_edge_cases() -> None:
    assert len(poly.build_proofs_bytes(generation(), decode_batching_size=2, topk=1)) == 5
    assert len(poly.build_proofs_bytes(generation(), decode_batching_size=10, topk=5)) == 2
    assert len(poly.build_proofs_bytes(generation()[:1], decode_batching_size=2, topk=5)) == 1
    assert poly.build_proofs_bytes([], decode_batching_size=2, topk=5, skip_prefill=True) == []


def scaled(factor: float) -> list[torch.Tensor]:
    return [step * factor for step in generation()]


def test_verify_proofs_bytes() -> None:
    proofs = poly.build_proofs_bytes(generation(), decode_batching_size=3, topk=4)
    results = poly.verify_proofs_bytes(scaled(1.01), proofs, decode_batching_size=3, topk=4)
    assert [type(result) for result in results] == [VerificationResult] * 4
    for result in results:
        assert result.exp_mismatches == 0
        assert 0 < result.mant_err_mean <= 2
        assert 0 < result.mant_err_median <= 2


def test_verify_proofs_base64() -> None:
    proofs = poly.build_proofs_base64(generation(), decode_batching_size=2, topk=5)
    results = poly.verify_proofs_base64(generation(), proofs, decode_batching_size=2, topk=5)
    assert results == [VerificationResult(0, 0, 0)] * 5


def test_verify_proofs_bytes_invalid() -> None:
    proofs = poly.build_proofs_bytes(generation(), decode_batching_size=3, topk=4)
    for result in poly.verify_proofs_bytes(scaled(1.1), proofs, decode_batching_size=3, topk=4):
        assert result.exp_mismatches <= 2
        assert result.mant_err_mean > 10
        assert result.mant_err_median > 10


def test_verify_proofs_base64_no_intersection_invalid() -> None:
    proofs = poly.build_proofs_base64(generation(), decode_batching_size=2, topk=5)
    results = poly.verify_proofs_base64(scaled(4), proofs, decode_batching_size=2, topk=5)
    assert results == [VerificationResult(5, 2**64, 2**64)] * 5


def verify_steps(device: str) -> None:
    steps = hidden(16, 16, seed=2).to(device)
    proofs = poly.build_proofs_bytes(steps, decode_batching_size=3, topk=4, skip_prefill=True)
    results = poly.verify_proofs_bytes(steps, proofs, 3, 4, skip_prefill=True)
    assert results == [VerificationResult(0, 0, 0)] * 6
    assert c_poly.verify_proofs_bytes(steps, proofs, decode_batching_size=3, topk=4) == results
    texts = [base64.b64encode(proof).decode() for proof in proofs]
    assert c_poly.verify_proofs_base64(steps, texts, 3, 4) == results
    polys = [ProofPoly.from_bytes(proof) for proof in proofs]
    assert c_poly.verify_proofs(steps, polys, 3, 4) == results
    with pytest.raises(ProofInputError):
        c_poly.verify_proofs(list(steps), polys, 3, 4)


def test_verify_proofs_bytes_skip_prefill() -> None:
    verify_steps("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_verify_proofs_bytes_skip_prefill_gpu() -> None:
    verify_steps("cuda")


def test_pickleable_VerificationResult() -> None:
    result = VerificationResult(1, 2, 3)
    assert pickle.loads(pickle.dumps(result)) == result != VerificationResult(2, 2, 3)


def test_pickleable_ProofPoly() -> None:
    one = ProofPoly([1, 2, 3], 4)
    assert pickle.loads(pickle.dumps(one)) == one
    assert one not in (ProofPoly([1, 2, 3], 5), ProofPoly([1, 2, 4], 4))


# --- test_proof_e2e.py, test_utils.py -----------------------------------------------------------


def test_proof_e2e() -> None:
    """Proofs of a thousand steps, made in one place and verified in another: only bytes travel."""
    steps, size, topk = hidden(1000, 512, seed=3), 32, 128
    proofs = toploc.build_proofs(steps, size, topk, skip_prefill=True)
    perfect = [VerificationResult(0, 0, 0)] * 32
    sent = pickle.loads(pickle.dumps(proofs))
    assert toploc.verify_proofs(steps.clone(), sent, size, topk, skip_prefill=True) == perfect
    for form in ("bytes", "base64"):
        texts = getattr(toploc, f"build_proofs_{form}")(steps, size, topk, skip_prefill=True)
        verify = getattr(toploc, f"verify_proofs_{form}")
        assert verify(steps.clone(), texts, size, topk, skip_prefill=True) == perfect


SHAPES = [(10_000,), (1000, 3), (1, 3, 5, 8, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_get_fp32_parts(shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    exponents, mantissas = fp.get_fp_parts(tensor)
    for value, exponent, mantissa in zip(
        tensor.reshape(-1).tolist(), exponents, mantissas, strict=True
    ):
        bits = struct.unpack(">I", struct.pack(">f", value))[0]
        assert (exponent, mantissa) == (bits >> 23 & 255, bits & (1 << 23) - 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_get_bf16_parts(shape: tuple[int, ...]) -> None:
    tensor = hidden(*shape, seed=5)
    exponents, mantissas = fp.get_fp_parts(tensor, num_threads=2)
    for value, exponent, mantissa in zip(
        tensor.reshape(-1).tolist(), exponents, mantissas, strict=True
    ):
        bits = struct.unpack(">I", struct.pack(">f", value))[0] >> 16
        assert (exponent, mantissa) == (bits >> 7 & 255, bits & 127)
    with pytest.raises(ProofInputError):
        fp.get_fp_parts(tensor.half())


def test_sha256sum(tmp_path: Path) -> None:
    content = b"Hello, world!" * 10_000
    (tmp_path / "file").write_bytes(content)
    assert utils.sha256sum(str(tmp_path / "file")) == hashlib.sha256(content).hexdigest()
