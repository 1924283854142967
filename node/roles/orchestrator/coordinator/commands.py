"""What an orchestrator decides to do.

None of these waits for an answer here: what became of a command comes back as an event. Those whose
name begins with `Record` go to the journal before anybody is answered.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.planner import GroupPlan


@dataclass(frozen=True)
class InviteWorker:
    peer_id: str


@dataclass(frozen=True)
class BuildGroup:
    """Load every stage of the plan and close the ring; supersedes older builds of the group."""

    group_id: bytes
    generation: int
    plan: GroupPlan


@dataclass(frozen=True)
class AssignUnit:
    group_id: bytes
    generation: int
    unit_id: bytes


@dataclass(frozen=True)
class CollectClaims:
    unit_id: bytes
    generation: int


@dataclass(frozen=True)
class VerifyUnit:
    unit_id: bytes
    validator: str


@dataclass(frozen=True)
class ForgetUnit:
    """Stages may drop the unit's evidence."""

    unit_id: bytes
    generation: int


@dataclass(frozen=True)
class BanWorker:
    peer_id: str
    reason: str


@dataclass(frozen=True)
class RecordVerdict:
    """Journal the unit as it now stands (ACCEPTED, REJECTED or EXPIRED)."""

    unit_id: bytes


@dataclass(frozen=True)
class RecordSettled:
    unit_id: bytes


Command = (
    InviteWorker
    | BuildGroup
    | AssignUnit
    | CollectClaims
    | VerifyUnit
    | ForgetUnit
    | BanWorker
    | RecordVerdict
    | RecordSettled
)
