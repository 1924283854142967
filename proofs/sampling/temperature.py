"""The temperatures there are: 0, which is greedy, and 0.001 to 10.

Below that the division of logits by a temperature leaves float32, and nothing but the largest logit
could be sampled anyway.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

LEAST = 1e-3


def _not_tiny(value: float) -> float:
    if 0.0 < value < LEAST:
        raise ValueError(f"temperature is 0 (greedy) or at least {LEAST}")
    return value


Temperature = Annotated[float, Field(ge=0.0, le=10.0), AfterValidator(_not_tiny)]
