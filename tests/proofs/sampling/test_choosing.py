"""Batches of all kinds of settings give, bit for bit, what the plain definition gives."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.sampling.choosing import choose_batch, choose_with_score, support
from proofs.sampling.compiled import library
from proofs.sampling.filters import largest, nucleus
from proofs.sampling.noise import bits_at, bits_of_blocks, gumbel
from proofs.sampling.philox import draw, philox
from proofs.sampling.settings import SamplingSettings


def plain_support(values: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """Sort everything, cut at top_k, weigh what is left, cut at top_p."""
    order = np.argsort(-values, kind="stable")
    kept = np.sort(order[:top_k] if top_k else order)
    kept = kept[values[kept] > -np.inf]
    if top_p < 1.0:
        exponents = (values[kept].astype(np.float64) - float(values.max())) / temperature
        weights = np.exp(exponents)
        by_logit = np.argsort(-values[kept], kind="stable")
        cumulative = np.cumsum(weights[by_logit])
        cut = int(np.searchsorted(cumulative, top_p * float(weights.sum()))) + 1
        kept = np.sort(kept[by_logit[:cut]])
    return kept


def plain_choice(values: np.ndarray, one: SamplingSettings, position: int) -> tuple[int, float]:
    """The definition: every token's score in float64, the largest wins, the lower id first."""
    if one.temperature == 0.0:
        return int(np.argmax(values)), float(values.max())
    kept = plain_support(values, one.temperature, one.top_k, one.top_p)
    scores = values[kept].astype(np.float64)
    scores += one.temperature * gumbel(one.noise_key, position, kept)
    return int(kept[np.argmax(scores)]), float(scores.max())


@pytest.fixture(scope="module", params=["compiled", "numpy"])
def contest(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways to make bounds; the compiled one where it was built."""
    if request.param == "compiled":
        if library() is None:
            pytest.skip("the compiled part was not built here")
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proofs.sampling.gumbel_max.library", lambda: None)
        yield


sampled = st.builds(
    SamplingSettings,
    temperature=st.sampled_from([0.0, 1e-3, 0.3, 1.0, 10.0]),
    top_k=st.sampled_from([0, 0, 1, 3, 50, 2000]),
    top_p=st.sampled_from([1.0, 1.0, 0.95, 0.5, 1e-6, 1.0 - 1e-9]),
    noise_key=st.integers(0, 2**64 - 1),
)


@pytest.mark.usefixtures("contest")
@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(sampled, st.integers(0, 2**32 - 1)), min_size=1, max_size=5),
    st.integers(0, 2**32 - 1),
    st.integers(1, 6000),
    st.sampled_from([0.0, 0.5, 3.0, 1e4]),
    st.sampled_from([0.0, -1e4, 1e30]),
    st.sampled_from([0.0, 0.5]),
    st.booleans(),
)
def test_a_batch_is_the_definition(
    wanted: list[tuple[SamplingSettings, int]],
    seed: int,
    size: int,
    spread: float,
    shift: float,
    missing: float,
    ties: bool,
) -> None:
    rng = np.random.default_rng(seed)
    rows = (shift + rng.normal(0, spread, (len(wanted), size))).astype(np.float32)
    rows = np.round(rows) if ties else rows
    rows[rng.random(rows.shape) < missing] = -np.inf
    rows[:, int(rng.integers(size))] = shift
    samplings, positions = zip(*wanted, strict=True)
    expected = [plain_choice(*each) for each in zip(rows, samplings, positions, strict=True)]
    assert choose_batch(rows, samplings, positions) == [token for token, _ in expected]
    for row, one, position, (token, score) in zip(
        rows, samplings, positions, expected, strict=True
    ):
        terms = (one.temperature, one.top_k, one.top_p, one.noise_key)
        assert choose_with_score(row, *terms, position)[:2] == (token, score)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 9000),
    st.integers(1, 300),
    st.sampled_from([0.9, 0.999, 0.2]),
    st.booleans(),
)
def test_the_filters_keep_what_sorting_everything_would(
    seed: int, size: int, count: int, top_p: float, ties: bool
) -> None:
    values = np.random.default_rng(seed).normal(0, 3, size).astype(np.float32)
    values = np.round(values) if ties else values
    order = np.argsort(-values, kind="stable")
    count = min(count, size - 1)
    assert largest(values, count).tolist() == order[:count].tolist()
    expected = plain_support(values, 0.8, 0, top_p)
    assert np.sort(nucleus(values, 0.8, top_p)).tolist() == expected.tolist()
    both = plain_support(values, 0.8, count, top_p)
    assert support(values, 0.8, count, top_p).tolist() == both.tolist()


def test_a_cut_that_a_rounded_sum_cannot_place_is_placed_by_the_exact_one() -> None:
    """Where top_p is exactly what a prefix holds, the last bit of the sum decides."""
    values = np.log(np.arange(400, 0, -1)).astype(np.float32)
    weights = np.exp(values.astype(np.float64) - float(values.max()))
    shares = np.cumsum(weights) / weights.sum()
    for low, high in pairwise(shares[:200]):
        for top_p in (float(low), float(np.nextafter(low, 0)), float(np.nextafter(low, 1)), high):
            expected = plain_support(values, 1.0, 0, top_p)
            assert np.sort(nucleus(values, 1.0, top_p)).tolist() == expected.tolist()


@given(
    st.lists(
        st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**30 - 1)),
        min_size=1,
        max_size=30,
    )
)
def test_every_counter_draws_its_words_wherever_it_stands(
    counters: list[tuple[int, int, int]],
) -> None:
    keys, positions, blocks = (
        np.array(part, dtype=np.uint64) for part in zip(*counters, strict=True)
    )
    drawn = draw(keys, positions, blocks)
    zero = np.uint64(0)
    for row, (key, position, block) in zip(drawn, counters, strict=True):
        words = philox(key, (np.array([block], np.uint64), np.uint64(position), zero, zero))
        assert row.tolist() == [int(word[0]) >> 8 for word in words]
        one = bits_of_blocks(key, position, np.array([block], dtype=np.uint64))
        assert one[0].tolist() == row.tolist()
    ids = (blocks * 4 + blocks % 4).astype(np.int64)
    at = bits_at(keys, positions.astype(np.int64), ids)
    assert at.tolist() == [int(row[i]) for row, i in zip(drawn, blocks % 4, strict=True)]


def test_more_counters_than_a_tile() -> None:
    blocks = np.arange(40_000, dtype=np.uint64)[::-1]
    key, position = np.array([99], dtype=np.uint64), np.array([5], dtype=np.uint64)
    drawn = draw(key, position, blocks)
    for at in (0, 16_383, 16_384, 39_999):
        assert drawn[at].tolist() == draw(key, position, blocks[at : at + 1])[0].tolist()


@pytest.mark.usefixtures("contest")
@pytest.mark.parametrize("size", [49_152, 50_257])
def test_a_whole_vocabulary(size: int) -> None:
    rows = np.random.default_rng(3).normal(0, 4, (6, size)).astype(np.float32)
    rows[::2] *= np.float32(0.1)
    samplings = [SamplingSettings(temperature=1.0, noise_key=key) for key in range(6)]
    samplings[4] = SamplingSettings(temperature=1.0, top_p=0.9, noise_key=4)
    expected = [plain_choice(row, one, 8)[0] for row, one in zip(rows, samplings, strict=True)]
    assert choose_batch(rows, samplings, [8] * 6) == expected
