"""How far a stage's rows are from the verifier's own, in one number.

A proof commits to the largest values only. Where whole rows are at hand (a stage revealed what it
sent), all of them are compared, each channel by its own scale, because a few channels of a residual
stream are thousands of times larger than the rest.
"""

from __future__ import annotations

import math

import torch

_TINY = torch.finfo(torch.float64).tiny


@torch.inference_mode()
def rows_error(claimed: torch.Tensor, own: torch.Tensor) -> float:
    """Channel-normalised RMS error of `claimed` rows x against `own` rows y, both [N, H].

        e = sqrt(mean_ij(((x_ij - y_ij) / (c_j + tiny))^2)),   c_j = mean_i |y_ij|

    in float64, for rows of any floating dtype. Infinite when shapes differ, there are no rows, or
    anything claimed is not finite: such rows say nothing about these.
    """
    if claimed.shape != own.shape or claimed.dim() != 2 or own.numel() == 0:
        return math.inf
    x, y = claimed.to("cpu", torch.float64), own.to("cpu", torch.float64)
    scale = y.abs().mean(dim=0) + _TINY
    error = float(((x - y) / scale).square().mean().sqrt())
    return error if math.isfinite(error) else math.inf
