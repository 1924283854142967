"""From the contract's events to facts for the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chain.events.settlement_events import (
    DisputeClosed,
    DisputeOpened,
    RootPosted,
    RootVoided,
    read_event,
)
from node.settlement.events import (
    ChainPlace,
    DisputeEndSeen,
    DisputeSeen,
    RootSeen,
    RootVoidSeen,
    SettlementFact,
)

if TYPE_CHECKING:
    from chain.events.reader import ChainEvent


def read_fact(event: ChainEvent, rewinds: int) -> SettlementFact | None:
    """What an event says, for the journal; None for one that settlement does not care about."""
    place = ChainPlace(
        rewinds=rewinds,
        block=event.block_number,
        log_index=event.log_index,
        transaction=event.tx_hash,
    )
    match read_event(event):
        case RootPosted(posted=posted, claimable_at=claimable_at):
            return RootSeen(
                place=place, root=posted.root, signers=posted.signers, claimable_at=claimable_at
            )
        case RootVoided(pool_id=pool_id, epoch=epoch):
            return RootVoidSeen(place=place, pool_id=pool_id, epoch=epoch)
        case DisputeOpened(dispute_id=dispute_id, dispute=dispute):
            return DisputeSeen(place=place, dispute_id=dispute_id, root=dispute.root)
        case DisputeClosed(dispute_id=dispute_id):
            return DisputeEndSeen(place=place, dispute_id=dispute_id)
    return None
