"""Sampling equals a plain reference, and scores separate honest from dishonest choices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from proofs.sampling.choosing import SamplingError, choose, choose_batch, support
from proofs.sampling.ends import NO_EVIDENCE, end_evidence, joined
from proofs.sampling.noise import gumbel
from proofs.sampling.settings import SamplingSettings
from proofs.sampling.surprise import INFORMATION_CLIP, surprise
from proofs.sampling.token_score import SCORE_CAP, Logits, measure_tokens, token_score


def picks(
    temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0, noise_key: int = 0
) -> SamplingSettings:
    return SamplingSettings(temperature=temperature, top_k=top_k, top_p=top_p, noise_key=noise_key)


def assert_is_support(
    kept: set[int], logits: Logits, temperature: float, top_k: int, top_p: float
) -> None:
    """`kept` is the shortest prefix of the sorted top-k tokens that reaches top_p."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    order = order[:top_k] if top_k else order
    assert kept == set(order[: len(kept)])
    top = float(logits[order[0]])
    weights = [math.exp((float(logits[i]) - top) / temperature) for i in order]
    total, size = math.fsum(weights), len(kept)
    if top_p == 1.0:
        assert size == len(order)
    else:
        assert math.fsum(weights[:size]) >= (top_p - 1e-9) * total
        assert math.fsum(weights[: size - 1]) <= (top_p + 1e-9) * total


rows = arrays(np.float32, st.integers(1, 60), elements=st.floats(-20, 20, width=16))
top_ps = st.one_of(st.just(1.0), st.floats(1e-6, 1.0, exclude_max=True))


@settings(max_examples=200, deadline=None)
@given(rows, st.floats(0.05, 5), st.integers(0, 70), top_ps, st.integers(0, 2**64 - 1), st.data())
def test_support_choice_and_score_equal_the_definition(
    logits: Logits, temperature: float, top_k: int, top_p: float, key: int, data: st.DataObject
) -> None:
    kept = support(logits, temperature, top_k, top_p)
    assert kept.tolist() == sorted(kept.tolist())
    assert_is_support(set(kept.tolist()), logits, temperature, top_k, top_p)
    scores = {
        int(i): float(logits[i]) + temperature * float(gumbel(key, 9, np.array([i]))[0])
        for i in kept
    }
    choice = choose(logits, temperature, top_k, top_p, key, 9)
    assert scores[choice] == pytest.approx(max(scores.values()), abs=1e-9)
    token = data.draw(st.integers(0, len(logits) + 2))
    score = token_score(logits, token, temperature, top_k, top_p, key, 9)
    if top_k or top_p < 1.0:
        expected = least_change(logits, scores, token, temperature, key)
    else:
        expected = max(scores.values()) - scores[token] if token in scores else math.inf
    expected = 0.0 if token == choice else expected
    assert score == pytest.approx(min(expected, SCORE_CAP), abs=1e-9)


def least_change(
    logits: Logits, scores: dict[int, float], token: int, temperature: float, key: int
) -> float:
    """The definition, word for word: every place of the edge that makes a difference."""
    if token >= len(logits):
        return math.inf
    edge = min(float(logits[i]) for i in scores)
    noise = gumbel(key, 9, np.arange(len(logits)))
    every = {i: float(logits[i]) + temperature * float(noise[i]) for i in range(len(logits))}
    changes = [max(scores.values()) - scores[token]] if token in scores else []
    for cut in {float(value) for value in logits if value <= logits[token]}:
        best = max(every[i] for i in every if logits[i] >= cut)
        changes.append(abs(cut - edge) + best - every[token])
    return min(changes)


def test_a_token_just_over_the_edge_scores_its_distance_to_it() -> None:
    logits = np.array([3.0, 2.0, 1.9, -4.0], dtype=np.float32)
    keys = [key for key in range(200) if choose(logits, 1.0, 3, 1.0, key, 0) == 2][:5]
    for key in keys:  # with the edge where the third token is in, it wins
        assert token_score(logits, 2, 1.0, 2, 1.0, key, 0) == pytest.approx(0.1, abs=1e-6)
        assert token_score(logits, 3, 1.0, 2, 1.0, key, 0) > 4.0  # over the edge by six


def test_the_winner_may_be_what_is_over_the_edge() -> None:
    """The prover's support lacked the token at the edge, which would have won."""
    logits = np.array([3.0, 2.0, 1.9, -4.0], dtype=np.float32)
    key = next(key for key in range(200) if choose(logits, 1.0, 3, 1.0, key, 0) == 2)
    second = choose(logits, 1.0, 2, 1.0, key, 0)
    assert token_score(logits, second, 1.0, 3, 1.0, key, 0) <= 0.1 + 1e-6


def test_pruning_is_exact_over_a_real_vocabulary() -> None:
    generator = np.random.default_rng(1)
    for position in range(12):
        logits = generator.normal(0, 3, 49152).astype(np.float32)
        for temperature in (0.3, 1.0, 4.0):
            noise = gumbel(77, position, np.arange(logits.size))
            best = int(np.argmax(logits.astype(np.float64) + temperature * noise))
            assert choose(logits, temperature, 0, 1.0, 77, position) == best


def test_greedy_takes_the_lowest_id_among_the_largest() -> None:
    logits = np.array([1, 7, 3, 7, 7], dtype=np.float32)
    assert choose(logits, 0.0, 0, 1.0, 5, 0) == 1
    assert token_score(logits, 3, 0.0, 0, 1.0, 5, 0) == 0.0
    assert token_score(logits - np.float32([0, 0, 0, 0.25, 0]), 3, 0.0, 0, 1.0, 5, 0) == 0.25
    assert token_score(logits, 0, 0.0, 0, 1.0, 5, 0) == 6.0
    assert token_score(logits * 9, 0, 0.0, 0, 1.0, 5, 0) == SCORE_CAP
    assert token_score(logits, 5, 0.0, 0, 1.0, 5, 0) == SCORE_CAP


def test_ties_at_top_k_go_to_lower_ids() -> None:
    logits = np.zeros(50, dtype=np.float32)
    assert support(logits, 1.0, 3).tolist() == [0, 1, 2]
    logits[40] = 1
    assert support(logits, 1.0, 3).tolist() == [0, 1, 40]


def test_masked_logits_are_never_chosen() -> None:
    logits = np.full(100, -np.inf, dtype=np.float32)
    logits[[7, 9]] = 0
    assert support(logits, 1.0, 50, 0.99).tolist() == [7, 9]
    assert {choose(logits, 1.0, 0, 1.0, 3, i) for i in range(40)} == {7, 9}
    assert token_score(logits, 8, 1.0, 0, 1.0, 3, 0) == SCORE_CAP


def test_frequencies_follow_the_softmax() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2], dtype=np.float32))
    draws = np.bincount([choose(logits, 1.0, 0, 1.0, 42, i) for i in range(4000)], minlength=3)
    np.testing.assert_allclose(draws / 4000, [0.5, 0.3, 0.2], atol=0.04)  # 5 standard errors


def test_batch_equals_single_rows_in_any_layout() -> None:
    generator = np.random.default_rng(3)
    logits = generator.normal(0, 2, (5, 300)).astype(np.float32)
    samplings = [picks(0.0), picks(0.7, 20, 0.9, 4), picks(1.2, 0, 1.0, 5),
                 picks(1.0, 0, 0.8, 2**64 - 1), picks(0.5, 1)]  # fmt: skip
    batch = choose_batch(logits, samplings, [3, 1, 4, 1, 5])
    assert batch[::-1] == choose_batch(logits[::-1], samplings[::-1], [5, 1, 4, 1, 3])
    assert batch[0] == int(logits[0].argmax())
    assert batch[4] == int(logits[4].argmax())


def test_measure_tokens_tells_honest_from_wrong_seed_and_temperature() -> None:
    logits = np.random.default_rng(5).normal(0, 2, (60, 500)).astype(np.float32)
    honest = picks(0.8, 50, 0.95, 11)
    tokens = choose_batch(logits, [honest] * 60, range(30, 90))
    assert measure_tokens(logits, tokens, honest, 30).matches == 60
    assert measure_tokens(logits, tokens, honest, 30).scores == (0.0,) * 60
    for other in (picks(0.8, 50, 0.95, 12), picks(1.6, 50, 0.95, 11)):
        cheated = choose_batch(logits, [other] * 60, range(30, 90))
        measure = measure_tokens(logits, cheated, honest, 30)
        assert measure.matches < 45
        assert sum(measure.scores) / 60 > 0.1
    assert measure_tokens(logits, tokens, honest, 31).matches < 20


@pytest.mark.parametrize("logits", [[np.nan, 1], [np.inf, 1], [-np.inf, -np.inf], [], [[1.0, 2.0]]])
def test_unusable_logits_are_refused(logits: list[float]) -> None:
    with pytest.raises(SamplingError):
        choose(np.array(logits, dtype=np.float32), 1.0, 0, 1.0, 0, 0)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [
        (-1.0, 0, 1.0),
        (math.nan, 0, 1.0),
        (math.inf, 0, 1.0),
        (1.0, -1, 1.0),
        (1.0, 0, 0.0),
        (1.0, 0, 1.5),
    ],
)
def test_settings_out_of_range_are_refused(temperature: float, top_k: int, top_p: float) -> None:
    with pytest.raises(SamplingError, match="top_p"):
        choose(np.ones(3, dtype=np.float32), temperature, top_k, top_p, 0, 0)


def test_mismatched_batches_are_refused() -> None:
    with pytest.raises(SamplingError):
        choose_batch(np.ones((2, 3), dtype=np.float32), [picks()], [0, 1])
    with pytest.raises(SamplingError):
        measure_tokens(np.ones((2, 3), dtype=np.float32), [1], picks(), 0)


def output_of(
    logits: Logits, drawn: SamplingSettings, asked: SamplingSettings, positions: range
) -> tuple[list[int], float]:
    tokens = choose_batch(logits, [drawn] * len(logits), positions)
    measure = measure_tokens(logits, tokens, asked, positions.start)
    return tokens, surprise(measure.excess, measure.variance)


def test_tokens_tell_how_often_outputs_end() -> None:
    logits = np.log(np.array([[0.5, 0.3, 0.2]] * 2, dtype=np.float32))
    told = measure_tokens(logits, [0, 2], picks(1.0), 0, (2, 7)).ends
    assert told == pytest.approx(joined([end_evidence(0.2, False), end_evidence(0.2, True)]))
    cut = measure_tokens(logits, [0, 1], picks(1.0, 2), 0, (2, 1)).ends  # of the two that are left
    assert cut == pytest.approx(
        joined([end_evidence(0.375, False), end_evidence(0.375, True)]), abs=1e-6
    )
    assert measure_tokens(logits, [0, 2], picks(0.0), 0, (2,)).ends == NO_EVIDENCE
    assert measure_tokens(logits, [0, 2], picks(1.0), 0).ends == NO_EVIDENCE


def test_surprise_of_honest_text_is_standard_normal() -> None:
    generator = np.random.default_rng(8)
    drawn = []
    for key in range(150):
        logits = generator.normal(0, 2, (80, 60)).astype(np.float32)
        one = picks(0.9, 40, 0.95, key)
        drawn.append(output_of(logits, one, one, range(80))[1])
    assert abs(np.mean(drawn)) < 0.33  # 4 standard errors
    assert 0.7 < np.std(drawn) < 1.2
    assert max(map(abs, drawn)) < 4.5


def test_surprise_tells_the_direction_without_the_seed() -> None:
    logits = np.random.default_rng(9).normal(0, 2, (600, 60)).astype(np.float32)
    asked = picks(1.0, 0, 1.0, 1)
    colder = output_of(logits, picks(0.7, 0, 1.0, 2), asked, range(600))[1]
    hotter = output_of(logits, picks(1.5, 0, 1.0, 2), asked, range(600))[1]
    greedy = output_of(logits, picks(0.0), asked, range(600))[1]
    assert greedy < colder < -4.0
    assert hotter > 4.0


def test_surprise_is_the_definition_and_adds_up_over_blocks() -> None:
    logits = np.array([[2, 1, 0, -30], [0, 0, 0, 0]], dtype=np.float32)
    one = picks(2.0, 3, 1.0, 5)
    whole = measure_tokens(logits, [2, 1], one, 4)
    parts = [
        measure_tokens(logits[i : i + 1], [token], one, 4 + i) for i, token in ((0, 2), (1, 1))
    ]
    assert whole.excess == pytest.approx(sum(part.excess for part in parts))
    p = np.exp([1.0, 0.5, 0.0])
    p /= p.sum()
    mean = -(p * np.log(p)).sum()
    assert parts[0].excess == pytest.approx(-math.log(p[2]) - mean)
    assert parts[0].variance == pytest.approx((p * np.log(p) ** 2).sum() - mean**2)
    assert parts[1].excess == pytest.approx(0, abs=1e-12)


def test_surprise_is_bounded_for_impossible_tokens_and_zero_for_greedy() -> None:
    logits = np.array([[60, 0, -60]], dtype=np.float32)
    outside = measure_tokens(logits, [7], picks(1.0, 2), 0)
    assert 7.9 < outside.excess <= INFORMATION_CLIP
    greedy = measure_tokens(logits, [1], picks(0.0), 0)
    assert (greedy.excess, greedy.variance) == (0.0, 0.0)
    assert surprise(0.0, 0.0) == 0.0
