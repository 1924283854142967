"""Dishonest weights, on purpose: what a worker that saves memory would serve.

Used by tests and by the simulated network to show that the proofs tell such a stage from an honest
one. Integer weights are quantised and dequantised in place, symmetrically, in groups of 128 along
the input dimension with one scale each, as GPTQ- and AWQ-style formats do.

Not in groups of 32 with scale and offset: that is the form (Q4_1) in which some models come, and
quantising such weights again changes nothing, so nobody would be cheated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch

from pipeline.models.errors import ModelError
from pipeline.models.slice import ModelSlice

GROUP = 128
BITS = {"int4-weights": 4, "int8-weights": 8}
DROPPED = {"dropped-layer": 1, "dropped-layers": 3}
DEGRADATIONS = (*BITS, "fp8-weights", *DROPPED, "other-weights")
"""All that evaluations try; an engine can be asked for those in `names.WEIGHT_FAULTS`."""
OTHER_RANK = 8
OTHER_SHARE = 0.02
_FP8_MAX = 448.0  # largest finite float8_e4m3fn


@torch.inference_mode()
def apply_fault(slice_: ModelSlice, fault: str) -> None:
    """Degrade the decoder layers' weight matrices of a slice, before a runner takes it.

    `int4-weights`, `int8-weights`, `fp8-weights` are quantised; `dropped-layer` and
    `dropped-layers` leave 1 or 3 layers of the whole model's middle without effect;
    `other-weights` is another fine-tune of the same shape, a random low-rank change.

    Raises:
        ModelError: there is no such fault.
    """
    if fault in BITS:
        for _, parameter in slice_.linears():
            parameter.copy_(quantised(parameter, BITS[fault]))
    elif fault == "fp8-weights":
        for _, parameter in slice_.linears():
            parameter.copy_(fp8_quantised(parameter))
    elif fault in DROPPED:
        _drop(slice_, DROPPED[fault])
    elif fault == "other-weights":
        for layer, name, parameter in _by_layer(slice_):
            seed = hashlib.sha256(f"{layer}.{name}".encode()).digest()
            parameter.add_(low_rank_change(parameter, int.from_bytes(seed[:4], "little")))
    else:
        raise ModelError(f"no weight fault {fault!r}: choose from {', '.join(DEGRADATIONS)}")


def quantised(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Round [..., K] to `bits` bits with one scale for each group of `GROUP` inputs.

    The scale maps a group's largest magnitude to 2**(bits-1) - 1; a value's error is at most half
    a scale.
    """
    inputs = weight.shape[-1]
    padding = -inputs % GROUP
    padded = torch.nn.functional.pad(weight.float(), (0, padding))
    groups = padded.reshape(*weight.shape[:-1], -1, GROUP)
    scale = groups.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    codes = (groups / scale.clamp_min(torch.finfo(torch.float32).tiny)).round()
    restored: torch.Tensor = (codes * scale).flatten(-2)[..., :inputs]
    return restored.to(weight.dtype)


def fp8_quantised(weight: torch.Tensor) -> torch.Tensor:
    """Round [..., K] to float8 e4m3 with one scale for each output channel, the usual W8 form."""
    scale = weight.float().abs().amax(-1, keepdim=True).clamp_min(1e-30) / _FP8_MAX
    codes = (weight.float() / scale).to(torch.float8_e4m3fn)
    return (codes.float() * scale).to(weight.dtype)


def low_rank_change(weight: torch.Tensor, seed: int) -> torch.Tensor:
    """A random change of rank `OTHER_RANK` whose Frobenius norm is `OTHER_SHARE` of the weight's,
    as an adapter that was merged after some fine-tuning would make."""
    generator = torch.Generator().manual_seed(seed)
    *batch, rows, inputs = weight.shape
    left = torch.randn(*batch, rows, OTHER_RANK, generator=generator)
    right = torch.randn(*batch, OTHER_RANK, inputs, generator=generator)
    change = left @ right
    change *= OTHER_SHARE * float(weight.float().norm()) / float(change.norm())
    return change.to(weight.device, weight.dtype)


def _drop(slice_: ModelSlice, count: int) -> None:
    """Layers whose every matrix is zero pass the residual stream on unchanged."""
    middle = (slice_.layers - count) // 2
    for layer, _, parameter in _by_layer(slice_):
        if middle <= layer < middle + count:
            parameter.zero_()


def _by_layer(slice_: ModelSlice) -> Iterator[tuple[int, str, torch.nn.Parameter]]:
    """(layer of the whole model, name within the layer, matrix), however the model is cut."""
    for name, parameter in slice_.linears():
        index, _, rest = name.partition(".")
        yield slice_.first + int(index), rest, parameter
