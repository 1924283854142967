"""Vectorised arithmetic equals schoolbook arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.toploc.field import INVERSE, PRIME, DuplicatePointError, evaluate, interpolate


def test_the_inverse_table_inverts() -> None:
    assert INVERSE[0] == 0
    numbers = np.arange(1, PRIME)
    assert ((numbers * INVERSE[1:]) % PRIME == 1).all()


def horner(coefficients: list[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value


elements = st.integers(0, PRIME - 1)


@settings(deadline=None)
@given(st.lists(elements, min_size=1, max_size=40), st.lists(elements, min_size=1, max_size=40))
def test_evaluation_equals_horner(coefficients: list[int], points: list[int]) -> None:
    values = evaluate(np.array([coefficients]), np.array([points]))
    assert values[0].tolist() == [horner(coefficients, x) for x in points]


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 130), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_interpolation_recovers_the_coefficients(degree: int, batch: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    coefficients = generator.integers(0, PRIME, (batch, degree))
    x = np.stack([generator.permutation(PRIME)[:degree] for _ in range(batch)])
    np.testing.assert_array_equal(interpolate(x, evaluate(coefficients, x)), coefficients)


def test_the_largest_values_do_not_overflow() -> None:
    x = np.arange(PRIME - 2048, PRIME)[None]
    coefficients = np.full((1, 2048), PRIME - 1)
    np.testing.assert_array_equal(interpolate(x, evaluate(coefficients, x)), coefficients)


def test_repeated_points_are_refused() -> None:
    with pytest.raises(DuplicatePointError):
        interpolate(np.array([[3, 3]]), np.array([[1, 2]]))


def test_evaluation_stays_exact_at_its_limits() -> None:
    """The largest sums that float64 must hold: 8 blocks unreduced, and many reduced ones."""
    for degree in (128, 129, 256, 257, 2048):
        x = np.array([[PRIME // 2, PRIME // 2 + 1, PRIME - 1, 1, 0, 2]])
        coefficients = np.full((1, degree), PRIME - 1)
        expected = [horner([PRIME - 1] * degree, int(point)) for point in x[0]]
        assert evaluate(coefficients, x)[0].tolist() == expected
