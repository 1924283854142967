"""Dishonest weights, on purpose: what a worker that saves memory would serve.

Used by tests and by the simulated network to show that the proofs tell such a stage from an honest
one. Weights are quantised and dequantised in place, in groups of 32 along the input dimension, each
group with its own scale and offset, as common 4- and 8-bit formats do.
"""

from __future__ import annotations

import torch

from pipeline.models.errors import ModelError
from pipeline.models.slice import ModelSlice

GROUP = 32
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
    """Round [..., K] to `bits` bits with a minimum and a step for each group of `GROUP` inputs.

    The error of a value is at most half its group's step, (max - min) / (2**bits - 1) / 2.
    """
    inputs = weight.shape[-1]
    padding = -inputs % GROUP
    # Repeat the last column, so that padding does not widen a group's range.
    padded = torch.cat([weight, weight[..., -1:].expand(*weight.shape[:-1], padding)], dim=-1)
    groups = padded.float().reshape(*weight.shape[:-1], -1, GROUP)
    low = groups.amin(-1, keepdim=True)
    step = (groups.amax(-1, keepdim=True) - low) / (2**bits - 1)
    codes = ((groups - low) / step.clamp_min(torch.finfo(torch.float32).tiny)).round()
    restored: torch.Tensor = (low + codes * step).flatten(-2)[..., :inputs]
    return restored.to(weight.dtype)
