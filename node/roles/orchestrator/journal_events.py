"""What an orchestrator keeps in the journal. `restore.py` says what a restart makes of it.

The first part of a kind says whose doing the event is: the operator's, a peer's, the chain's, or
this node's own.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter

from node.journal.typed import JournalEvent
from node.prompts import Prompt
from node.roles.orchestrator.coordinator.units import Unit

GENERATION = "generation"
"""The journal's state that counts generations."""

_UNIT = TypeAdapter(Unit)


def unit_to_body(unit: Unit) -> dict[str, Any]:
    """A unit as plain values for the journal, whose maps have no keys but texts."""
    body: dict[str, Any] = _UNIT.dump_python(unit)
    body["claims"] = [[stage, claim] for stage, claim in sorted(unit.claims.items())]
    return body


def unit_from_body(body: Any) -> Unit:
    """The reverse of `unit_to_body`; a unit is returned as it is. Raises ValueError."""
    if isinstance(body, Unit):
        return body
    try:
        return _UNIT.validate_python({**body, "claims": dict(body["claims"])})
    except (KeyError, TypeError) as exc:
        raise ValueError(f"no unit: {exc}") from exc


JournaledUnit = Annotated[Unit, BeforeValidator(unit_from_body), PlainSerializer(unit_to_body)]


class JobSubmitted(JournalEvent, kind="operator.job"):
    """A job, with all that decides which units it is cut into. `job_key` is the submitter's, ""
    where the id follows from the prompts."""

    job_id: str
    prompts: tuple[Prompt, ...]
    job_key: str
    unit_size: int
    model_id: bytes

    @property
    def key(self) -> str:
        """The job's id: submitting a job again does not make another one."""
        return self.job_id


class JobBeacon(JournalEvent, kind="self.beacon"):
    """The beacon of a job's noise. `block` is the number of the block whose hash it is, 0 where it
    is none's."""

    job_id: str
    beacon: bytes
    block: int

    @property
    def key(self) -> str:
        """The job's id: a beacon is drawn once."""
        return self.job_id


class UnitBundled(JournalEvent, kind="self.bundle"):
    """The unit as it is sent to the validators, with its bundle's id."""

    unit: JournaledUnit

    @property
    def key(self) -> str:
        """The unit's attempt: each has one bundle."""
        return f"{self.unit.unit_id.hex()}:{self.unit.attempt}"


class UnitJudged(JournalEvent, kind="peer.verdict"):
    """The unit after what its validators, or stage 0, said of it."""

    unit: JournaledUnit

    @property
    def key(self) -> str:
        """The unit's attempt and state."""
        return f"{self.unit.unit_id.hex()}:{self.unit.attempt}:{self.unit.state}"


class UnitSettled(JournalEvent, kind="chain.settled"):
    """The epoch and the transaction that paid a unit."""

    unit_id: bytes
    epoch: int
    transaction: str

    @property
    def key(self) -> str:
        """The unit's id: it is paid once."""
        return self.unit_id.hex()


class WorkerBanned(JournalEvent, kind="self.ban"):
    """A worker that was convicted, and why."""

    peer_id: str
    reason: str

    @property
    def key(self) -> str:
        """The worker's peer id."""
        return self.peer_id


class UnitRejected(JournalEvent, kind="peer.rejection"):
    """One validator's rejection, to be shown. `at` is unix seconds; `first_faulty` is the stage
    that it blames and `faulty_peer` the peer, None and "" where it blames nobody."""

    unit_id: bytes
    bundle_id: bytes
    validator: str
    at: float
    reason: str
    first_faulty: int | None
    faulty_peer: str

    @property
    def key(self) -> str:
        """The bundle's id and the validator's address."""
        return f"{self.bundle_id.hex()}:{self.validator}"
