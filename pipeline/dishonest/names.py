"""The faults that an engine can be asked for, by name. Without torch, so that anybody may ask."""

from __future__ import annotations

WEIGHT_FAULTS = ("int4-weights", "int8-weights", "fp8-weights")
"""Weights that are smaller than those of the model that a worker says it serves."""

CONDUCT_FAULTS = (
    "null-proofs",
    "garbage-hidden",
    "garbage-signed",
    "quiet-garbage",
    "wrong-seed",
)
"""Right weights, and something else than an honest stage does with them."""

FAULTS = (*WEIGHT_FAULTS, *CONDUCT_FAULTS)
