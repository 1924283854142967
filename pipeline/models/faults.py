"""Dishonest weights, on purpose: what a worker that saves memory would serve.

Used by tests and by the simulated network to show that the proofs tell such a stage from an honest
one. Weights are quantised and dequantised in place, symmetrically, in groups of 128 along the input
dimension with one scale each, as GPTQ- and AWQ-style formats do.

Not in groups of 32 with scale and offset: that is the form (Q4_1) in which some models come, and
quantising such weights again changes nothing, so nobody would be cheated.
"""

from __future__ import annotations

import torch

from pipeline.models.errors import ModelError
from pipeline.models.slice import ModelSlice

GROUP = 128
BITS = {"int4-weights": 4, "int8-weights": 8}


@torch.inference_mode()
def apply_fault(slice_: ModelSlice, fault: str) -> None:
    """Degrade the decoder layers' weight matrices of a slice, before a runner takes it.

    Raises:
        ModelError: there is no such fault.
    """
    if fault not in BITS:
        raise ModelError(f"no weight fault {fault!r}: choose from {', '.join(BITS)}")
    for _, parameter in slice_.linears():
        parameter.copy_(quantised(parameter, BITS[fault]))


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
