"""What a validator writes to its journal, one class for each kind.

A bundle's events follow one another: taken, tried, then (in one transaction) the rows that were
asked for, the limits and the verdict, then what the verdict leads to (a unit that is accepted, or a
conviction). Their key is the bundle's content id, so a bundle that comes twice changes nothing.
Others read them, too: `node.cases.exporting` makes case files of them.

Nothing stays for ever. That a bundle was taken is forgotten once its verdict is delivered or it is
set aside, so what is left is what a restart has to see through. Most others go with the bundle's
file (`retention`), and an accepted unit once the chain has paid it for good. Of cosigned epochs and
of workers' records and alarms the newest are kept, up to a number.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from node.journal import JournalEvent


class BundleTaken(JournalEvent, kind="peer.bundle"):
    """A bundle whose verdict is owed. `sender` is who gets it, `block` the chain's newest block
    when the bundle came (0: unknown); it takes `size` bytes on disk and `tokens` to replay."""

    bundle_id: bytes
    sender: str
    block: int
    size: int
    tokens: int

    @property
    def key(self) -> str:
        """The bundle."""
        return self.bundle_id.hex()


class BundleTried(JournalEvent, kind="self.tried"):
    """A verdict on the bundle is about to be sought for the `attempt`-th time (0 first), `at` Unix
    seconds. On disk before the try begins, so that a bundle that ends this process is counted,
    too."""

    bundle_id: bytes
    attempt: int
    at: float

    @property
    def key(self) -> str:
        """The bundle and the attempt."""
        return f"{self.bundle_id.hex()}:{self.attempt}"


class AskedStage(BaseModel):
    """An inquiry and what came of it: the rows that `stage` received of the sequence at `index`,
    their sha256, and by how much they are off; `error` is None where nobody showed them. Rows that
    were shown are in the blob folder, `<digest in hex>.rows`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    stage: int
    index: int
    digest: bytes
    error: float | None


class RowsAsked(JournalEvent, kind="self.inquiry"):
    """All inquiries that a verdict rests on, in the order in which they were made."""

    bundle_id: bytes
    stages: tuple[AskedStage, ...]

    @property
    def key(self) -> str:
        """The bundle."""
        return self.bundle_id.hex()


class LimitsUsed(JournalEvent, kind="self.judged-by"):
    """The limits that a bundle was judged by: a shipped name, a profile's id in hex, or "" where
    the verdict rests on no measurement."""

    bundle_id: bytes
    limits: str

    @property
    def key(self) -> str:
        """The bundle."""
        return self.bundle_id.hex()


class VerdictSigned(JournalEvent, kind="self.verdict"):
    """This node's verdict; `verdict` are the bytes of a `SignedVerdict`."""

    bundle_id: bytes
    verdict: bytes

    @property
    def key(self) -> str:
        """The bundle."""
        return self.bundle_id.hex()


class UnitAccepted(JournalEvent, kind="self.accepted"):
    """A unit that an epoch is to pay, accepted `at` Unix seconds. `receipts` holds of each receipt
    its bytes, the worker's signature and the counterparty's; none where a pool's owner ordered from
    itself."""

    sender: str
    unit_id: bytes
    bundle_id: bytes
    at: float
    receipts: tuple[tuple[bytes, bytes, bytes], ...]

    @property
    def key(self) -> str:
        """The unit; senders choose the ids of their units, so the sender is part of it."""
        return f"{self.sender}:{self.unit_id.hex()}"


class ConvictionFound(JournalEvent, kind="self.conviction"):
    """This node's own verdict convicts a stage; `conviction` are the bytes of a `Conviction`."""

    bundle_id: bytes
    conviction: bytes

    @property
    def key(self) -> str:
        """The bundle."""
        return self.bundle_id.hex()


class EpochCosigned(JournalEvent, kind="self.cosigned"):
    """Another validator's epoch that this node signed. `root` are the bytes of an `EpochRoot`,
    `digest` is what was signed."""

    pool_id: int
    epoch: int
    digest: bytes
    root: bytes

    @property
    def key(self) -> str:
        """The root: of one epoch there may be several."""
        return f"{self.pool_id}:{self.epoch}:{self.digest.hex()}"


class BundleCounted(JournalEvent, kind="self.checked"):
    """A judged bundle was added to the records of its workers."""

    bundle_id: bytes

    @property
    def key(self) -> str:
        """The bundle."""
        return self.bundle_id.hex()


class WorkerChecked(JournalEvent, kind="self.record"):
    """What this node's checks say of a worker (`reputation.WorkerRecord.to_plain`). Written anew
    with every check, so that the newest are those of workers that still work."""

    worker: str
    record: dict[str, Any]

    @property
    def key(self) -> str:
        """The worker's address."""
        return self.worker


class WorkerDrifted(JournalEvent, kind="self.drifted"):
    """With this bundle a worker's figures began to drift away from honest ones. `worker` is its
    address."""

    worker: str
    bundle_id: bytes

    @property
    def key(self) -> str:
        """The worker and the bundle: a worker may be noticed more than once."""
        return f"{self.worker}:{self.bundle_id.hex()}"
