from __future__ import annotations

import math

import pytest
import torch

from pipeline.runner.distance import rows_error


def rows(seed: int = 0) -> torch.Tensor:
    scale = torch.tensor([1.0, 1e4, 1e-3, 5.0])
    return torch.randn(50, 4, generator=torch.Generator().manual_seed(seed)) * scale


def test_it_is_the_definition() -> None:
    x, y = rows(1).double(), rows(2).double()
    c = [sum(abs(float(v)) for v in y[:, j]) / 50 for j in range(4)]
    total = sum(
        ((float(x[i, j]) - float(y[i, j])) / c[j]) ** 2 for i in range(50) for j in range(4)
    )
    assert rows_error(x, y) == pytest.approx(math.sqrt(total / 200), rel=1e-12)


def test_every_channel_counts_by_its_own_scale() -> None:
    own = rows()
    errors = []
    for channel in range(4):
        changed = own.clone()
        changed[:, channel] *= 1.01
        errors.append(rows_error(changed, own))
    assert max(errors) < 1.3 * min(errors)


def test_equal_rows_have_no_error_whatever_the_dtype_and_dead_channels() -> None:
    own = rows().to(torch.bfloat16)
    own[:, 2] = 0
    assert rows_error(own, own.clone()) == 0.0
    assert 0 < rows_error(own, rows()) < math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_are_infinitely_far(bad: float) -> None:
    changed = rows()
    changed[3, 1] = bad
    assert rows_error(changed, rows()) == math.inf


def test_a_value_where_ones_own_channel_is_silent_is_infinitely_far() -> None:
    own = rows()
    own[:, 0] = 0
    assert rows_error(rows(), own) == math.inf


@pytest.mark.parametrize("shape", [(49, 4), (50, 3), (200,), (1, 50, 4)])
def test_other_shapes_are_infinitely_far(shape: tuple[int, ...]) -> None:
    assert rows_error(torch.zeros(shape), rows()) == math.inf


def test_no_rows_are_no_claim() -> None:
    assert rows_error(torch.zeros(0, 4), torch.zeros(0, 4)) == math.inf
