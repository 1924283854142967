"""The base of all bodies and the bounded fields that several of them share.

Every list fails at its first bad item: a full report on a million of them would take gigabytes.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from proofs.encoding.fields import Id32

PeerId = Annotated[str, Field(min_length=10, max_length=128)]
Address = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
Signature = Annotated[bytes, Field(min_length=65, max_length=65)]
Short = Annotated[str, Field(max_length=512)]
U64 = Annotated[int, Field(ge=0, lt=2**64)]
Generation = Annotated[int, Field(ge=0, lt=2**32)]
"""Which generation of a group; receipts carry it as a uint32."""

MAX_BUNDLE = 8 * 2**20
"""Bytes of a unit's proof bundle, and of a part of one."""
MAX_VERDICT = 2 * 2**20
"""Bytes of a signed verdict."""
MAX_REPORT = 2**16
"""Bytes of a report of stage 0; longer ones are sent in parts. This many take an orchestrator less
than 10 ms to decode, during which it does nothing else."""
MAX_RUNS = 1024
"""Runs of tokens, and ends of sequences, in one report."""


class Body(BaseModel):
    """Base of every body: frozen, strict, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Done(Body):
    """Nothing to say but that it is done."""


class StageRef(Body):
    """One stage of one generation of a group: the group, its generation, and the stage's index."""

    group_id: Id32
    generation: Generation
    stage: Annotated[int, Field(ge=0, lt=256)]
