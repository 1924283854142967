"""Which temperatures are allowed: 0, which means greedy decoding, and 0.001 to 10.

Dividing logits by anything smaller overflows float32, and would sample nothing but the largest
logit anyway.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

MIN_TEMPERATURE = 1e-3


def _not_tiny(value: float) -> float:
    if 0.0 < value < MIN_TEMPERATURE:
        raise ValueError(f"temperature is 0 (greedy) or at least {MIN_TEMPERATURE}")
    return value


Temperature = Annotated[float, Field(ge=0.0, le=10.0), AfterValidator(_not_tiny)]
"""By what logits are divided before sampling."""
