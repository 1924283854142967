"""ReceiptSettlement's events as typed values.

Pure: `read_event` takes what `chain.events.reader` delivers. A reader that has followed a pool from
its first epoch knows every posted root, every open dispute and what became of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from chain.encoding.structs import Dispute, root_from_abi
from proofs.encoding.leaves import PostedRoot

if TYPE_CHECKING:
    from chain.events.reader import ChainEvent


class DisputeOutcome(StrEnum):
    """How a dispute ended: the root was right, it was wrong, or it was voided otherwise."""

    ANSWERED = "answered"
    UPHELD = "upheld"
    MOOT = "moot"


@dataclass(frozen=True)
class RootPosted:
    """A root stands for its epoch, and can be claimed against from `claimable_at` (Unix s) on
    unless it is disputed."""

    posted: PostedRoot
    claimable_at: int


@dataclass(frozen=True)
class RootVoided:
    """The root of an epoch no longer stands; the epoch can be posted again."""

    pool_id: int
    epoch: int


@dataclass(frozen=True)
class DisputeOpened:
    """Somebody asked."""

    dispute_id: int
    dispute: Dispute


@dataclass(frozen=True)
class DisputeClosed:
    """A dispute is over."""

    dispute_id: int
    outcome: DisputeOutcome


SettlementEvent = RootPosted | RootVoided | DisputeOpened | DisputeClosed

_CLOSED = {
    "DisputeAnswered": DisputeOutcome.ANSWERED,
    "DisputeUpheld": DisputeOutcome.UPHELD,
    "DisputeMoot": DisputeOutcome.MOOT,
}


def read_event(event: ChainEvent) -> SettlementEvent | None:
    """What an event says about roots and disputes; None for any other event."""
    if event.contract != "ReceiptSettlement":
        return None
    args = event.args
    if event.name == "RootPosted":
        return root_posted(args)
    if event.name == "RootVoided":
        return RootVoided(args["poolId"], args["epoch"])
    if event.name == "DisputeOpened":
        return DisputeOpened(args["disputeId"], Dispute.from_event(args["dispute"]))
    if event.name in _CLOSED:
        return DisputeClosed(args["disputeId"], _CLOSED[event.name])
    return None


def root_posted(args: Mapping[str, Any]) -> RootPosted:
    """From the arguments of `RootPosted`."""
    return RootPosted(
        PostedRoot(root_from_abi(args["root"]), tuple(args["signers"])), args["claimableAt"]
    )
