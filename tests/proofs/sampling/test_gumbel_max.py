"""The contest finds the winner that scoring every token would find."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.sampling.gumbel_max import winner
from proofs.sampling.noise import bits, gumbel, gumbel_of


def plain(
    logits: np.ndarray, ids: np.ndarray, temperature: float, key: int, position: int
) -> tuple[int, float]:
    scores = logits.astype(np.float64) + temperature * gumbel(key, position, ids)
    place = int(np.argmax(scores))
    return place, float(scores[place])


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 3000),
    st.sampled_from([0.0, 0.01, 1.0, 5.0, 200.0]),
    st.sampled_from([1e-3, 0.01, 0.7, 1.0, 10.0]),
    st.sampled_from([0.0, 0.3, 0.99]),
    st.sampled_from([0.0, 1e4, -1e4]),
)
def test_the_winner_is_that_of_all_scores(
    seed: int, size: int, spread: float, temperature: float, missing: float, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    logits = (shift + rng.normal(0, spread, size)).astype(np.float32)
    logits[rng.random(size) < missing] = -np.inf
    logits[rng.integers(size)] = shift
    ids = np.sort(rng.choice(4 * size, size, replace=False)).astype(np.int64)
    expected = plain(logits, ids, temperature, seed, 7)
    found = winner(logits, ids, temperature, seed, 7)
    assert found[0] == expected[0]
    assert found[1] == pytest.approx(expected[1], rel=1e-12)


def test_no_noise_exceeds_the_bound_that_lets_tokens_through() -> None:
    """g <= ln(2**24 / y), on a dense grid of the 2**24 values and at both ends."""
    x = np.unique(
        np.concatenate([np.arange(4096), 2**24 - 1 - np.arange(4096), np.arange(0, 2**24, 997)])
    ).astype(np.uint32)
    y = 2.0**24 - x.astype(np.float64) - 0.5
    assert (gumbel_of(x) <= np.log(2.0**24 / y) + 1e-9).all()


def test_a_whole_vocabulary_and_parts_of_it_draw_the_same_bits() -> None:
    everything = bits(9, 4, np.arange(4099))
    for part in (np.arange(5, 4000), np.array([7]), np.arange(0, 4099, 3), np.array([3, 4, 4098])):
        assert np.array_equal(bits(9, 4, part), everything[part])
