"""What the settlement contract said, as the journal stores it.

Chain events are told apart by where they were found. A transaction may come back to the
same place in the block that replaced its own, after what it did was undone; so the place counts how
often the chain was rewound before.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict

from node.journal import JournalEvent
from node.journal.fields import AsBytes
from proofs.encoding.leaves import PostedRoot
from proofs.encoding.receipts import EpochRoot


class ChainPlace(BaseModel):
    """Where an event was found: block number, index of the log in it, hash of the transaction."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rewinds: int
    block: int
    log_index: int
    transaction: bytes

    @property
    def key(self) -> str:
        """The place as text."""
        return f"{self.rewinds}:{self.block}:{self.log_index}:{self.transaction.hex()}"


class RootSeen(JournalEvent, kind="chain.root"):
    """A root was posted. Claims on it open at `claimable_at` (Unix seconds)."""

    place: ChainPlace
    root: Annotated[EpochRoot, AsBytes()]
    signers: tuple[str, ...]
    claimable_at: int

    @property
    def key(self) -> str:
        """Where it was found."""
        return self.place.key

    @property
    def posted(self) -> PostedRoot:
        """The root and its signers, as the contract refers to them."""
        return PostedRoot(self.root, self.signers)


class RootVoidSeen(JournalEvent, kind="chain.void"):
    """The root of an epoch was voided."""

    place: ChainPlace
    pool_id: int
    epoch: int

    @property
    def key(self) -> str:
        """Where it was found."""
        return self.place.key


class DisputeSeen(JournalEvent, kind="chain.dispute"):
    """A dispute was opened about the root with the hash `root`."""

    place: ChainPlace
    dispute_id: int
    root: bytes

    @property
    def key(self) -> str:
        """Where it was found."""
        return self.place.key


class DisputeEndSeen(JournalEvent, kind="chain.answered"):
    """A dispute is over, whoever was right."""

    place: ChainPlace
    dispute_id: int

    @property
    def key(self) -> str:
        """Where it was found."""
        return self.place.key


class RewindSeen(JournalEvent, kind="chain.rewind"):
    """A reorganisation undid everything after a block; `head` is the hash of the block that was
    read last when it was noticed."""

    after_block: int
    head: bytes

    @property
    def key(self) -> str:
        """What was undone, and when it was noticed."""
        return f"{self.after_block}:{self.head.hex()}"


SettlementFact = RootSeen | RootVoidSeen | DisputeSeen | DisputeEndSeen | RewindSeen
FACTS: tuple[type[SettlementFact], ...] = (
    RootSeen,
    RootVoidSeen,
    DisputeSeen,
    DisputeEndSeen,
    RewindSeen,
)
