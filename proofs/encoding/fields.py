"""Kinds of values that many messages hold, each with its bounds.

Every list fails at its first bad item (`FailFast`): a full report on a million of them takes
gigabytes, and the list may be a stranger's.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import FailFast, Field

Id16 = Annotated[bytes, Field(min_length=16, max_length=16)]
"""A sequence's id."""

Id32 = Annotated[bytes, Field(min_length=32, max_length=32)]
"""A unit's, a group's, a model's or a bundle's id."""

Digest = Annotated[bytes, Field(min_length=32, max_length=32)]
"""A SHA-256 sum."""

Count = Annotated[int, Field(ge=0, lt=2**63)]
"""Any number of things; MessagePack's signed integers end there."""

TokenIds = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], FailFast(), Field(max_length=1 << 20)
]
"""Ids of a model's vocabulary, at most 2**20 of them."""
