"""The noise is Philox's published bits, independent of batch layout, and Gumbel distributed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.sampling.noise import NoiseError, gumbel, noise_key
from proofs.sampling.philox import philox

# Random123's tests/kat_vectors, lines "philox4x32 10": counter, key, result.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip
M = 0xFFFFFFFF


def scalar_philox(counter: list[int], key: list[int]) -> list[int]:
    """The paper's round function, one word at a time."""
    for _ in range(10):
        left, right = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [
            (right >> 32) ^ counter[1] ^ key[0],
            right & M,
            (left >> 32) ^ counter[3] ^ key[1],
            left & M,
        ]
        key = [(key[0] + 0x9E3779B9) & M, (key[1] + 0xBB67AE85) & M]
    return counter


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN_ANSWERS)
def test_philox_known_answers(counter: str, key: str, result: str) -> None:
    low, high = (int(word, 16) for word in key.split())
    words = np.array([[int(word, 16)] for word in counter.split()], dtype=np.uint64)
    assert [f"{int(word[0]):08x}" for word in philox(high << 32 | low, words)] == result.split()


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 200_000), min_size=1, max_size=40),
)
def test_gumbel_is_the_documented_word_of_each_token(
    key: int, position: int, tokens: list[int]
) -> None:
    expected = []
    for token in tokens:
        word = scalar_philox([token >> 2, position, 0, 0], [key & M, key >> 32])[token & 3]
        expected.append(-np.log(-np.log(((word >> 8) + 0.5) / 2**24)))
    np.testing.assert_allclose(gumbel(key, position, np.array(tokens)), expected, rtol=1e-13)


def test_dense_and_sparse_draws_are_the_same() -> None:
    everything = gumbel(7, 3, np.arange(5000))
    sparse = np.array([4999, 0, 17, 18, 19, 2500])
    np.testing.assert_allclose(gumbel(7, 3, sparse), everything[sparse], rtol=1e-13)
    np.testing.assert_allclose(gumbel(7, 3, np.arange(6, 90)), everything[6:90], rtol=1e-13)


def test_moments_are_those_of_a_gumbel() -> None:
    noise = gumbel(123, 45, np.arange(400_000))
    assert abs(noise.mean() - np.euler_gamma) < 0.01  # 5 standard errors
    assert abs(noise.var() - np.pi**2 / 6) < 0.03
    assert np.isfinite(noise).all()


def test_every_part_of_the_key_counts() -> None:
    base = (b"beacon", b"request", [1, 2, 3], 0)
    variants = [
        base,
        (b"beaconr", b"equest", [1, 2, 3], 0),
        (b"beacon", b"request", [1, 2], 0),
        (b"beacon", b"request", [3, 2, 1], 0),
        (b"beacon", b"request", [1, 2, 3], 1),
        (b"", b"request", [1, 2, 3], 0),
    ]
    assert len({noise_key(*variant) for variant in variants}) == len(variants)
    assert noise_key(*base) == noise_key(b"beacon", b"request", (1, 2, 3), 0)
    assert 0 <= noise_key(*base) < 2**64


def test_ranges_are_checked() -> None:
    with pytest.raises(NoiseError, match="sample index"):
        noise_key(b"", b"", [], -1)
    with pytest.raises(NoiseError, match="prompt token"):
        noise_key(b"", b"", [-1], 0)
    with pytest.raises(NoiseError, match="65535"):
        noise_key(bytes(70_000), b"", [], 0)
    with pytest.raises(NoiseError, match="out of range"):
        gumbel(2**64, 0, np.array([1]))
    with pytest.raises(NoiseError, match="out of range"):
        gumbel(0, -1, np.array([1]))
    with pytest.raises(NoiseError, match="token id"):
        gumbel(0, 0, np.array([-1]))
    assert gumbel(0, 0, np.array([], dtype=np.int64)).size == 0
