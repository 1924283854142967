"""How tokens are picked: the settings that a submitter asks for, and the key of their noise."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from proofs.encoding.canonical import CanonicalModel
from proofs.sampling.temperature import Temperature


class SamplingSettings(CanonicalModel):
    """How the last stage picks a token from the logits.

    `temperature` 0 is greedy. `top_k` 0 and `top_p` 1 switch those filters off. `noise_key` is the
    64-bit Philox key derived by `proofs.sampling.noise.noise_key`.
    """

    temperature: Temperature = 0.0
    top_k: Annotated[int, Field(ge=0, lt=2**31)] = 0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    noise_key: Annotated[int, Field(ge=0, lt=2**64)] = 0
