"""Our own kernels: right, and equal in every bit however they are called."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.kernels import exact
from pipeline.kernels.exact import KeyValues, Panels, Pieces
from pipeline.kernels.library import LEVELS, library

pytestmark = pytest.mark.skipif(not exact.available(), reason="the kernels are not built")


def levels() -> Iterator[str]:
    """Every level that this processor has, one after another in use."""
    found = library()
    assert found is not None
    best = found.exact_level()
    for number in range(best + 1):
        found.exact_use(number)
        yield LEVELS[number]
    found.exact_use(best)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("rows", "inner", "outer"),
    [
        (1, 7, 5),
        (2, 33, 64),
        (3, 576, 97),
        (4, 300, 960),
        (7, 600, 48),
        (64, 260, 33),
        (200, 530, 70),
    ],
)
def test_products(threads: int, rows: int, inner: int, outer: int) -> None:
    x, weight, bias = random(rows, inner), random(outer, inner), random(outer)
    residual = random(rows, outer)
    panels = Panels(weight, bias)
    whole = panels.times(x, residual)
    expected = x.double() @ weight.double().T + bias + residual
    torch.testing.assert_close(whole.double(), expected, rtol=0, atol=1e-6 * inner**0.5 * 4)
    for _ in levels():
        assert torch.equal(panels.times(x, residual), whole)
        for count in {1, 2, 3, 5, rows // 2 or 1}:
            parts = zip(x.split(count), residual.split(count), strict=True)
            assert torch.equal(torch.cat([panels.times(a, b) for a, b in parts]), whole)
    wide = torch.cat([random(rows, 3), x, random(rows, 2)], 1)
    assert torch.equal(panels.times(wide[:, 3:-2], residual), whole)


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, window: int
) -> torch.Tensor:
    """Causal attention of a whole sequence in float64: [T, heads, d']."""
    share = q.shape[1] // k.shape[1]
    k, v = (x.double().repeat_interleave(share, 1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q.double(), k) * scale
    at = torch.arange(len(q))
    seen = at[:, None] >= at[None]
    if window:
        seen &= at[:, None] - at[None] < window
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)


@pytest.mark.parametrize(
    ("heads", "key_heads", "size", "value_size", "length", "window"),
    [
        (9, 3, 64, 64, 120, 0),
        (4, 2, 12, 12, 70, 8),
        (4, 4, 8, 12, 100, 0),
        (8, 1, 80, 48, 90, 20),
        (64, 1, 16, 16, 40, 0),
        (2, 2, 128, 128, 150, 5),
    ],
)
def test_attention(
    threads: int, heads: int, key_heads: int, size: int, value_size: int, length: int, window: int
) -> None:
    q = random(length, heads, size, seed=1) * 2
    k, v = random(length, key_heads, size), random(length, key_heads, value_size, seed=2)
    scale = size**-0.5
    expected = attention(q, k, v, scale, window)
    whole: torch.Tensor | None = None
    for offset in (0, 5):
        held = KeyValues(offset + length + 3, key_heads, size, value_size)
        held.keys.fill_(torch.nan)  # what others left must not matter
        held.values.fill_(torch.nan)
        held.put(k, v, torch.arange(offset, offset + length))
        for _ in levels():
            found = held.attend(q, Pieces.of([(offset, 0, length, 0)]), scale, window)
            if whole is None:
                whole = found
                torch.testing.assert_close(whole.double(), expected, rtol=0, atol=2e-5)
            assert torch.equal(found, whole)
            a, b = length // 3, length // 2 + 1
            pieces = Pieces.of(
                [(offset, b, length - b, b), (offset, 0, a, 0), (offset, a, b - a, a)]
            )
            assert torch.equal(held.attend(q, pieces, scale, window), whole)
            for at in (0, 1, 15, 16, a, length - 1):
                one = held.attend(q[at : at + 1], Pieces.of([(offset, at, 1, 0)]), scale, window)
                assert torch.equal(one[0], whole[at])


@settings(max_examples=40, deadline=None)
@given(source=st.integers(0, 40), target=st.integers(0, 40), count=st.integers(1, 40))
def test_moved_positions_keep_their_values(source: int, target: int, count: int) -> None:
    held = KeyValues(80, 2, 6, 4)
    k, v = random(80, 2, 6), random(80, 2, 4)
    held.put(k, v, torch.arange(80))
    held.move(source, target, count)
    for given_, size, pool in ((k, 6, held.keys.permute(0, 1, 3, 2)), (v, 4, held.values)):
        expected = given_.clone()
        expected[target : target + count] = given_[source : source + count]
        assert torch.equal(pool.reshape(2, 80, size).transpose(0, 1), expected)


@pytest.mark.parametrize("size", [6, 16, 63, 576])
def test_rows_by_themselves(threads: int, size: int) -> None:
    """Norms, gates and rotary embedding: near torch's, equal at every level."""
    x, weight = random(5, size) * 30, random(size)
    norm = torch.nn.functional.rms_norm(x, (size,), weight, 1e-5)
    both = random(5, 2 * size) * 30
    gated = torch.nn.functional.silu(both[:, :size]) * both[:, size:]
    for number, _ in enumerate(levels()):
        found = exact.rms_norm(x, weight, 1e-5), exact.silu_mul(both)
        if number == 0:
            first = found
            torch.testing.assert_close(found[0], norm, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(found[1], gated, rtol=1e-5, atol=1e-5)
        assert all(map(torch.equal, found, first))
        assert torch.equal(exact.rms_norm(x[3:4], weight, 1e-5), first[0][3:4])
    if size % 2 == 0:
        angles, rows = random(5, size), random(5, 3 * size)
        cosine, sine = angles.cos(), angles.sin()
        heads = rows.view(5, 3, size)
        half = torch.cat([-heads[..., size // 2 :], heads[..., : size // 2]], -1)
        expected = heads * cosine[:, None] + half * sine[:, None]
        for _ in levels():
            assert torch.equal(exact.turn(rows, 3, cosine, sine), expected)
            assert torch.equal(
                exact.turn(rows, 3, cosine, sine, weight, 1e-5),
                exact.turn(
                    exact.rms_norm(rows.view(15, size), weight, 1e-5).view(5, -1), 3, cosine, sine
                ),
            )


def test_what_is_not_finite_is_not_hidden() -> None:
    for _ in levels():
        held = KeyValues(16, 1, 4, 4)
        k = torch.zeros(2, 1, 4)
        k[0] = torch.nan
        held.put(k, torch.zeros(2, 1, 4), torch.arange(2))
        found = held.attend(torch.ones(2, 1, 4), Pieces.of([(0, 0, 2, 0)]), 0.5)
        assert not found.isfinite().any()
        assert exact.silu_mul(torch.tensor([[torch.nan, 1.0]])).isnan().all()


@pytest.mark.parametrize("heads", [1, 3])
def test_shapes_that_do_not_fit_never_reach_a_kernel(heads: int) -> None:
    held = KeyValues(32, heads, 8, 8)
    panels = Panels(random(6, 8))
    k, at = random(2, heads, 8), torch.arange(2)
    calls = [
        lambda: panels.times(random(2, 7)),
        lambda: panels.times(random(2, 8).double()),
        lambda: panels.times(random(8, 2).T),
        lambda: panels.times(random(2, 8), random(1, 6)),
        lambda: held.put(k, random(2, heads, 9), at),
        lambda: held.put(k, k, torch.arange(3)),
        lambda: held.put(k, k, at.int()),
        lambda: held.put(k, k, torch.tensor([0, 32])),
        lambda: held.put(k, k, torch.tensor([-1, 0])),
        lambda: held.attend(random(2, heads, 7), Pieces.of([(0, 0, 2, 0)]), 1.0),
        lambda: held.attend(random(2, heads, 8), Pieces.of([(0, 0, 3, 0)]), 1.0),
        lambda: held.attend(random(9, heads, 8), Pieces.of([(24, 0, 9, 0)]), 1.0),
        lambda: held.attend(random(2, heads, 8), Pieces.of([(0, 0, 2, 0)]), -1.0),
        lambda: Pieces.of([(0, -1, 2, 0)]),
        lambda: Pieces.of([(0, 0, 0, 0)]),
        lambda: held.move(20, 0, 13),
        lambda: exact.rms_norm(random(2, 8), random(7), 1e-5),
        lambda: exact.turn(random(2, 14), 2, random(2, 7), random(2, 7)),
        lambda: exact.silu_mul(random(2, 8)[:, ::2]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="does not fit"):
            call()
