"""The places where a stage could lie, and the honest answers: what to prove, send on, sample by.

A stage of a ring asks its conduct at these three places and nowhere else, so that a dishonest one
(`pipeline.dishonest.stages`) differs in nothing but its answers.
"""

from __future__ import annotations

import torch

from proofs.sampling.settings import SamplingSettings
from proofs.toploc import build_chunk_proof


class StageConduct:
    """Honest conduct."""

    def prove(self, rows: torch.Tensor) -> bytes:
        """The TOPLOC proof of a chunk of output rows, bf16 [1..32, H] on the CPU and finite."""
        return build_chunk_proof(rows)

    def outgoing(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of computed rows [N, H]: those to send on, and those to sign for as sent."""
        return rows, rows

    def sampling(self, told: SamplingSettings) -> SamplingSettings:
        """The settings to sample a token by, given those that the stage was told."""
        return told
