"""Units that this node accepted: journaled, and each in one bundle only.

Senders choose the ids of their units, so one sender's units say nothing about another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from node.journal import AsyncJournal
from node.roles.validator.journal_events import UnitAccepted
from proofs.encoding.leaves import SignedReceipt
from proofs.encoding.receipts import Receipt


class AcceptedUnits:
    """What the journal says was accepted, and in which bundle."""

    def __init__(self, journal: AsyncJournal, log: Any) -> None:
        self._journal = journal
        self._log = log
        self._bundles: dict[tuple[str, bytes], bytes] = {}

    def accepted_other(self, sender: str, unit_id: bytes, bundle_id: bytes) -> bool:
        """Whether the sender's unit was accepted in another bundle than this one."""
        return self._bundles.get((sender, unit_id), bundle_id) != bundle_id

    async def accept(
        self, sender: str, unit_id: bytes, bundle_id: bytes, receipts: Sequence[SignedReceipt]
    ) -> bool:
        """Journal an accepted unit. False where it was accepted before; that changes nothing."""
        event = UnitAccepted(
            sender=sender,
            unit_id=unit_id,
            bundle_id=bundle_id,
            receipts=tuple(
                (item.receipt.to_bytes(), item.worker_signature, item.counter_signature)
                for item in receipts
            ),
        )
        if not (await self._journal.record(event))[0]:
            return False
        if not receipts:
            self._log.info("not paid: ordered from itself", unit=unit_id.hex()[:12])
        self._bundles[sender, unit_id] = bundle_id
        return True

    async def restore(self) -> list[tuple[bytes, tuple[SignedReceipt, ...]]]:
        """Read the journal; the id and the receipts of every unit, in order of acceptance."""
        units: list[tuple[bytes, tuple[SignedReceipt, ...]]] = []
        for event in await self._journal.replay(UnitAccepted):
            self._bundles[event.sender, event.unit_id] = event.bundle_id
            units.append((event.unit_id, receipts_of(event)))
        return units


def receipts_of(event: UnitAccepted) -> tuple[SignedReceipt, ...]:
    """The receipts that the event holds as bytes. Raises `ProofError` for bytes that are none."""
    return tuple(
        SignedReceipt(Receipt.from_bytes(data), worker, counter)
        for data, worker, counter in event.receipts
    )
