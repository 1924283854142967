"""What happens to an orchestrator.

An event's prefix says who caused it: the operator, a peer, the chain, or the node itself (time,
its own tasks). Every change of the pool's tables is one of these events; there is no other way in.
"""

from __future__ import annotations

from dataclasses import dataclass

from node.roles.orchestrator.coordinator.units import Unit
from p2p.admission.standing import Standing
from proofs.evidence.sequence import FinishReason


@dataclass(frozen=True)
class Tick:
    """Time passed; nothing else."""


@dataclass(frozen=True)
class Ending:
    """The node ends in good order: what units have is to be on disk from now on."""


@dataclass(frozen=True)
class QueueGrew:
    """There are journaled units to be worked on that have not been read: a job was submitted, or
    the beacon that it waited for is there."""


@dataclass(frozen=True)
class QueueRead:
    """The next units of the journaled jobs, none where there are no more. `arrivals` is that of the
    `ReadQueue` that this answers: what grew since then has not been looked at."""

    units: tuple[Unit, ...]
    arrivals: int = 0


@dataclass(frozen=True)
class JobCancelled:
    """Nothing more of this job is to be begun; what is at work is finished and paid."""

    job_id: str


@dataclass(frozen=True)
class PeerAnnounced:
    """A worker's signed record, new or renewed; `subnet` is where it is connected from, "" while it
    is not, and `standing` how it stands: with a chain, only the staked are announced."""

    peer_id: str
    memory_bytes: int
    layer_seconds: float
    location: tuple[float, float] | None
    region: str
    subnet: str = ""
    standing: Standing = Standing.STRANGER


@dataclass(frozen=True)
class PeerValidates:
    """A validator that is here, with the stake behind it (wei; 1 without a chain); 0: it is not
    here or no longer validates."""

    peer_id: str
    weight: int


@dataclass(frozen=True)
class PeerAppeared:
    """A validator gave a sign of life: it has connected, maybe after a restart, or else it is
    connected and has renewed its record."""

    peer_id: str
    connected: bool


@dataclass(frozen=True)
class BundleMissed:
    """A validator could not be given a unit's bundle: it was not reached, or does not serve yet."""

    unit_id: bytes
    validator: str


@dataclass(frozen=True)
class ChainQuorum:
    """The stake of all validators (wei), and the share of it that decides (basis points)."""

    all_weight: int
    basis_points: int


@dataclass(frozen=True)
class PeerJoined:
    """The worker accepted its invite. Addresses are EVM ones, the worker's and its provider's."""

    peer_id: str
    address: str
    provider: str


@dataclass(frozen=True)
class PeerDeclined:
    """The invite failed: refused, timed out, or its membership is not on chain. `took` is how many
    seconds the worker had to answer."""

    peer_id: str
    reason: str
    took: float = 0.0


@dataclass(frozen=True)
class PeerPinged:
    """One ping of a worker; `ok` is whether it answered in time, `busy` why it says that its ring
    should get no new units, "" where it may."""

    peer_id: str
    ok: bool
    busy: str = ""


@dataclass(frozen=True)
class PeerGone:
    """The worker's process is known to be gone: its connection broke and it cannot be dialled."""

    peer_id: str
    reason: str


@dataclass(frozen=True)
class GroupUp:
    """Every stage of a generation is loaded and the ring is closed."""

    group_id: bytes
    generation: int


@dataclass(frozen=True)
class GroupBroken:
    """A generation failed to come up, or a running ring broke. `suspect` was seen to be at fault:
    it could not be reached, refused or lied. Or one of `suspects` is, and nobody knows which.
    `unconnected` are two neighbours between whom no edge came up."""

    group_id: bytes
    generation: int
    reason: str
    suspect: str = ""
    suspects: tuple[str, ...] = ()
    unconnected: tuple[str, ...] = ()


@dataclass(frozen=True)
class PeerTokens:
    """Stage 0 reports new output tokens of a sequence, from output index `offset` on."""

    generation: int
    unit_id: bytes
    sequence_id: bytes
    offset: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class PeerFinished:
    """Stage 0 reports a sequence's end and why; `ids` are all of its output tokens."""

    generation: int
    unit_id: bytes
    sequence_id: bytes
    reason: FinishReason
    ids: tuple[int, ...]


@dataclass(frozen=True)
class PeerClaimed:
    """A stage's evidence and countersigned receipt for a unit (canonical bytes, checked)."""

    unit_id: bytes
    generation: int
    stage: int
    claim: bytes


@dataclass(frozen=True)
class ClaimsFailed:
    """A stage did not give sound evidence; the unit must be proven again, by another generation.
    `suspects` are the stages of which one is at fault."""

    unit_id: bytes
    generation: int
    reason: str
    suspects: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnitRefused:
    """Stage 0 says that it cannot take the unit (and others may go on). `impossible`: this node
    found that out itself, since it cannot even be sent."""

    unit_id: bytes
    generation: int
    reason: str
    impossible: bool = False


@dataclass(frozen=True)
class UnitsFailed:
    """A stage says that it cannot work on these units, and goes on with others."""

    group_id: bytes
    generation: int
    stage: int
    unit_ids: tuple[bytes, ...]
    reason: str


@dataclass(frozen=True)
class EngineEnded:
    """A stage's engine process ended while it held this generation of its group."""

    group_id: bytes
    generation: int
    stage: int
    reason: str


@dataclass(frozen=True)
class PeerVerdict:
    """A validator's signed verdict, signature checked. `faulty` names the convicted peer, `doubted`
    one whose work was off by too little to convict it."""

    validator: str
    unit_id: bytes
    bundle_id: bytes
    accepted: bool
    faulty: str
    reason: str
    summary: dict[str, object]
    doubted: str = ""


@dataclass(frozen=True)
class BundleMade:
    """The proof bundle of a VERIFYING unit is on disk under its content id."""

    unit_id: bytes
    bundle_id: bytes


@dataclass(frozen=True)
class Restored:
    """What the journal of earlier runs holds: the units that validators have, the peer ids of
    banned workers and of validators that were asked, the newest generation, the ids of cancelled
    jobs of which a unit is left, and the workers of the newest rings by their generation."""

    units: tuple[Unit, ...] = ()
    banned: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    generation: int = 0
    cancelled: tuple[str, ...] = ()
    rings: tuple[tuple[int, tuple[str, ...]], ...] = ()


WorkerEvent = (
    PeerAnnounced | PeerJoined | PeerDeclined | PeerPinged | PeerGone | GroupUp | GroupBroken
)
WorkEvent = (
    Ending
    | QueueGrew
    | QueueRead
    | JobCancelled
    | PeerTokens
    | PeerFinished
    | PeerClaimed
    | ClaimsFailed
    | UnitRefused
    | UnitsFailed
    | EngineEnded
    | BundleMade
)
VerdictEvent = PeerValidates | PeerAppeared | BundleMissed | ChainQuorum | PeerVerdict | Tick
Event = WorkerEvent | WorkEvent | VerdictEvent | Restored
