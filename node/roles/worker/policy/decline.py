"""Why an invite is not accepted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Decline:
    """`code` is for programs, `reason` for people. `waits` tells an invite that may be accepted
    later from one that the operator's policy refuses for good."""

    code: str
    reason: str
    waits: bool = False
