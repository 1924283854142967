"""Selection on the CPU, on a device and by sorting everything agree, ties included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.toploc import TOPK, ProofInputError, build_row_proofs, measure_rows
from proofs.toploc.chunks import measure, prove
from proofs.toploc.field import PRIME
from proofs.toploc.topk import Points, check_activations, device_select, host_select, top_points


def by_sorting(chunk: torch.Tensor, k: int) -> list[int]:
    """Ascending indices of the k largest magnitudes; a stable sort puts lower indices first."""
    magnitudes = chunk.view(torch.int16).numpy().astype(np.int64) & 0x7FFF
    return sorted(np.argsort(-magnitudes, kind="stable")[:k].tolist())


def random_chunks(count: int, size: int, levels: int, seed: int) -> torch.Tensor:
    """Values of few levels: many ties."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-levels, levels + 1, (count, size), generator=generator).bfloat16()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 9000), st.integers(1, 128), st.integers(0, 2**31), st.data()
)
def test_all_ways_agree(count: int, size: int, levels: int, seed: int, data: st.DataObject) -> None:
    chunks = random_chunks(count, size, levels, seed)
    k = data.draw(st.integers(1, min(size, 300)))
    indices, bits = host_select(chunks, k)
    assert indices.tolist() == [by_sorting(chunk, k) for chunk in chunks]
    there = device_select(chunks, k)
    np.testing.assert_array_equal(there[0], indices)
    np.testing.assert_array_equal(there[1], bits)
    raw = chunks.view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(bits, np.take_along_axis(raw, indices, axis=1))


def test_one_large_channel_in_every_row() -> None:
    rows = torch.randn(32, 5120, generator=torch.Generator().manual_seed(3)).bfloat16()
    rows[:, 1000] = 1000.0
    rows[:, 1001] = -1000.0
    flat = rows.reshape(1, -1)
    expected = [5120 * row + channel for row in range(32) for channel in (1000, 1001)]
    assert (
        host_select(flat, 64)[0][0].tolist() == device_select(flat, 64)[0][0].tolist() == expected
    )


def test_device_selection_in_parts_is_the_same() -> None:
    chunks = random_chunks(7, 500, 60, 1)
    whole = device_select(chunks, 20)
    parts = device_select(chunks, 20, values_at_once=1000)
    np.testing.assert_array_equal(whole, parts)


def device_points(rows: torch.Tensor) -> list[Points]:
    """What a device selects of rows [70, H]: two full chunks and a ragged one."""
    parts = [rows[:64].reshape(2, -1), rows[64:].reshape(1, -1)]
    return [Points(*device_select(part, TOPK), part.shape[1] > PRIME) for part in parts]


def test_proofs_of_a_device_equal_those_of_the_cpu() -> None:
    rows = random_chunks(70, 576, 90, 5)
    proofs, near = build_row_proofs(rows), rows * 1.02
    assert prove(device_points(rows)) == proofs
    assert measure(device_points(near), proofs) == measure_rows(near, proofs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_proofs_on_a_gpu_equal_those_on_the_cpu() -> None:
    rows = random_chunks(70, 576, 90, 5)
    assert build_row_proofs(rows.cuda()) == build_row_proofs(rows)


@pytest.mark.parametrize("select", [host_select, device_select])
@pytest.mark.parametrize("bad", [torch.nan, -torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("size", [10, 20_000])
def test_what_is_not_finite_is_refused(select, bad: float, size: int) -> None:  # type: ignore[no-untyped-def]
    chunks = torch.ones(3, size, dtype=torch.bfloat16)
    chunks[1, size - 1] = bad
    with pytest.raises(ProofInputError, match="NaN"):
        select(chunks, 4)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        3,
        "text",
        b"bytes",
        [1.0],
        np.ones(4),
        torch.tensor(1.0).bfloat16(),
        torch.ones(4),
        torch.ones(4).half(),
        torch.ones(4).int(),
        torch.ones(4).bool(),
        torch.ones(4).to(torch.complex64),
        torch.ones(0).bfloat16(),
        torch.ones(3, 0).bfloat16(),
        torch.ones(4, device="meta", dtype=torch.bfloat16),
        torch.eye(3).bfloat16().to_sparse(),
    ],
    ids=lambda bad: str(getattr(bad, "dtype", type(bad).__name__)),
)
def test_what_is_no_activation_is_refused(bad: object) -> None:
    with pytest.raises(ProofInputError):
        check_activations(bad)


def test_gradients_and_strides_do_not_matter() -> None:
    rows = random_chunks(64, 20, 50, 2)
    strided = torch.empty(20, 64, dtype=torch.bfloat16).t().copy_(rows).requires_grad_()
    assert not strided.is_contiguous()
    assert build_row_proofs(strided) == build_row_proofs(rows)


def test_points_know_whether_their_indices_must_be_folded() -> None:
    assert not top_points(torch.ones(1, 65497, dtype=torch.bfloat16), 4).folded
    assert top_points(torch.ones(1, 65498, dtype=torch.bfloat16), 4).folded
