from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dishonest.weights import (
    DEGRADATIONS,
    DROPPED,
    GROUP,
    OTHER_SHARE,
    apply_fault,
    fp8_quantised,
    low_rank_change,
    quantised,
)
from pipeline.models.errors import ModelError
from pipeline.models.prepared import PreparedModel
from pipeline.models.slice import load_slice


@given(seed=st.integers(0, 2**32), inputs=st.integers(1, 300), bits=st.sampled_from([4, 8]))
def test_the_error_is_at_most_half_a_step(seed: int, inputs: int, bits: int) -> None:
    weight = torch.randn(5, inputs, generator=torch.Generator().manual_seed(seed))
    rounded = quantised(weight, bits)
    for at in range(0, inputs, GROUP):
        group, made = weight[:, at : at + GROUP], rounded[:, at : at + GROUP]
        step = group.abs().amax(-1) / (2 ** (bits - 1) - 1)
        assert bool(((group - made).abs().amax(-1) <= step * 0.5001 + 1e-6).all())
        assert all(len(row.unique()) <= 2**bits for row in made)


def test_weights_that_came_in_four_bits_are_degraded_all_the_same() -> None:
    """Q4_1 holds 32 values as 4-bit codes with a scale and an offset; SmolLM2 comes in it."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (8, 4, 32), generator=generator).float()
    steps = torch.rand(8, 4, 1, generator=generator)
    weight = (codes * steps - 7.3 * steps).flatten(1)
    assert not torch.allclose(quantised(weight, 4), weight, atol=1e-2)


@pytest.mark.parametrize("fault", sorted(set(DEGRADATIONS) - set(DROPPED)))
@pytest.mark.parametrize("architecture", ["llama", "mixtral"])
def test_a_fault_changes_matrices_and_nothing_else(
    tiny_model: Callable[[str], PreparedModel], architecture: str, fault: str
) -> None:
    honest = load_slice(tiny_model(architecture), 0, 2)
    faulty = load_slice(tiny_model(architecture), 0, 2)
    apply_fault(faulty, fault)
    matrices = {name for name, _ in honest.linears()}
    pairs = zip(honest.stack.named_parameters(), faulty.stack.parameters(), strict=True)
    for (name, before), after in pairs:
        assert torch.equal(before, after) == (name not in matrices)
    assert all("norm" not in name for name in matrices)
    assert any("mlp" in name for name in matrices)


def test_unknown_faults_are_refused(tiny_model: Callable[[str], PreparedModel]) -> None:
    with pytest.raises(ModelError, match="int4-weights"):
        apply_fault(load_slice(tiny_model("llama"), 0, 1), "int3-weights")


@given(seed=st.integers(0, 2**32), inputs=st.integers(1, 80), power=st.integers(-12, 12))
def test_fp8_keeps_three_mantissa_bits_of_every_output_channel(
    seed: int, inputs: int, power: int
) -> None:
    weight = torch.randn(4, inputs, generator=torch.Generator().manual_seed(seed)) * 2.0**power
    rounded = fp8_quantised(weight)
    largest = weight.abs().amax(-1, keepdim=True)
    normal = weight.abs() > largest * 2.0**-13
    error = (rounded - weight).abs()
    assert bool((error[normal] <= weight.abs()[normal] * (2.0**-4 + 1e-5)).all())
    assert bool((error <= largest * 2.0**-4 + 1e-30).all())


@pytest.mark.parametrize("shape", [(40, 30), (3, 40, 30)])
def test_another_model_differs_by_a_small_share_of_low_rank(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    change = low_rank_change(weight, seed=2)
    assert float(change.norm() / weight.norm()) == pytest.approx(OTHER_SHARE, rel=1e-4)
    assert int(torch.linalg.matrix_rank(change, rtol=1e-4).max()) == 8
    assert torch.equal(change, low_rank_change(weight, seed=2))
    assert not torch.equal(change, low_rank_change(weight, seed=3))


@pytest.mark.parametrize("fault", ["other-weights", "dropped-layer", "dropped-layers"])
def test_a_fault_does_not_depend_on_how_the_model_is_cut(
    tiny_model: Callable[[str], PreparedModel], fault: str
) -> None:
    whole = load_slice(tiny_model("llama"), 0, 6)
    part = load_slice(tiny_model("llama"), 2, 4)
    apply_fault(whole, fault)
    apply_fault(part, fault)
    for layer in (2, 3):
        pairs = zip(
            whole.stack[layer].parameters(), part.stack[layer - 2].parameters(), strict=True
        )
        assert all(torch.equal(a, b) for a, b in pairs)


def test_a_dropped_layer_passes_rows_on(tiny_model: Callable[[str], PreparedModel]) -> None:
    honest = load_slice(tiny_model("llama"), 0, 6)
    apply_fault(honest, "dropped-layer")
    silent = [
        layer
        for layer in range(6)
        if not any(bool(p.any()) for p in honest.stack[layer].parameters() if p.ndim > 1)
    ]
    assert silent == [2]
