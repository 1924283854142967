"""What an orchestrator decides to do.

None of these waits for an answer here: what became of a command comes back as an event. Those in
`Record` go to the journal before the tables are published and anybody is answered.
"""

from __future__ import annotations

from dataclasses import dataclass

from node.roles.orchestrator.coordinator.units import Unit
from pipeline.planner import GroupPlan


@dataclass(frozen=True)
class InviteWorker:
    """Ask the worker to join the pool."""

    peer_id: str


@dataclass(frozen=True)
class BuildGroup:
    """Load every stage of the plan and close the ring; supersedes the group's older generations."""

    group_id: bytes
    generation: int
    plan: GroupPlan


@dataclass(frozen=True)
class AssignUnit:
    """Give the unit's sequences, as they stand, to stage 0 of that generation."""

    group_id: bytes
    generation: int
    unit_id: bytes


@dataclass(frozen=True)
class CollectClaims:
    """Ask every stage of that generation for its evidence of the unit."""

    unit_id: bytes
    generation: int


@dataclass(frozen=True)
class VerifyUnit:
    """Send the unit's bundle, made first where there is none yet, to the validator."""

    unit_id: bytes
    validator: str


@dataclass(frozen=True)
class ForgetUnit:
    """The stages of a generation, `peers` in order, may drop what they keep of these sequences, a
    unit's."""

    group_id: bytes
    generation: int
    peers: tuple[str, ...]
    sequence_ids: tuple[bytes, ...]


@dataclass(frozen=True)
class BanWorker:
    """Journal the ban, and eject the worker from the pool on chain."""

    peer_id: str
    reason: str


@dataclass(frozen=True)
class RecordUnit:
    """Journal the unit as it now stands: sent to validators, accepted, queued once more or given
    up."""

    unit: Unit


@dataclass(frozen=True)
class RecordProgress:
    """Journal what these units, which a group works on, have so far."""

    units: tuple[Unit, ...]


@dataclass(frozen=True)
class ReadQueue:
    """Read the next `limit` units that wait on disk. `arrivals` comes back with them."""

    limit: int
    arrivals: int


Record = RecordUnit | RecordProgress | BanWorker | BuildGroup
"""What must be on disk before anybody is answered: of a build its generation, so that no later run
of this node counts it again, and its workers, who answer for what it brings."""

Command = (
    InviteWorker
    | BuildGroup
    | AssignUnit
    | CollectClaims
    | VerifyUnit
    | ForgetUnit
    | BanWorker
    | ReadQueue
    | RecordUnit
    | RecordProgress
)
