"""Faster matrix products on CPUs: weights laid out once for oneDNN's kernels.

torch's `linear` multiplies float32 through MKL, which on non-Intel CPUs uses neither their widest
vectors nor a layout fit for a handful of rows. oneDNN, which ships inside torch, picks its kernel
by what the CPU can do and wants weights in blocks; torch's compiler uses it through the same
operators. Measured on one AVX-512 core with a 3072 x 576 weight: 130 against 54 GFLOP/s at 16 rows,
57 against 20 at 4, 15 against 7 at one.

Results differ from `linear` in the last bits (another order of summation), so a test that wants
bits equal to transformers' leaves it off. Nothing is approximated.
"""

from __future__ import annotations

import torch
from torch import nn

from pipeline.models.slice import ModelSlice

# Rows for which the layout is chosen; it serves 1 to thousands about as well.
_TYPICAL_ROWS = 64


class PackedLinear(nn.Module):
    """`nn.Linear` on packed weights: [..., K] → [..., M]."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.data, _TYPICAL_ROWS)
        self._bias = None if linear.bias is None else linear.bias.data

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """y = x Wᵀ + b; x [..., in_features]."""
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self._packed, self._bias, "none", [], ""
        )
        return out


def can_pack(slice_: ModelSlice) -> bool:
    """Whether this torch has the kernels for the slice's device and dtype."""
    return (
        slice_.device.type == "cpu"
        and slice_.dtype == torch.float32
        and torch._C._has_mkldnn
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


@torch.inference_mode()
def pack_linears(slice_: ModelSlice) -> int:
    """Replace the slice's float32 linear layers by packed ones, where that is possible.

    Returns:
        Bytes of memory added: those of a tied output head, whose plain matrix stays in use as the
        embedding; the other weights take the place of the plain ones.
    """
    if not can_pack(slice_):
        return 0
    return slice_.replace_linears(PackedLinear)
