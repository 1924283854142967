"""What an orchestrator keeps in the journal beside its jobs and units, which are rows (`ledger`).

The first part of a kind says whose doing the event is: the operator's, a peer's, the chain's, or
this node's own.
"""

from __future__ import annotations

from node.journal.typed import JournalEvent

GENERATION = "generation"
"""The journal's state that counts generations."""
ASKED = "asked"
"""The journal's state that names the validators that were asked for verdicts."""
SHOWN = "shown"
"""The journal's state that says how many output tokens were shown, of all jobs."""
SETTLED = "settled"
"""The journal's state that has, by pool, the newest epoch whose payments are noted."""


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


class RingBuilt(JournalEvent, kind="self.ring"):
    """The workers of a generation, by peer id, stage 0 first: who made the tokens that a restart
    finds."""

    generation: int
    peers: tuple[str, ...]

    @property
    def key(self) -> str:
        """The generation: no run counts it again."""
        return str(self.generation)


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
