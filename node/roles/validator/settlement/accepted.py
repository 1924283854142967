"""Units that this node accepted: journaled, and each in one bundle only.

Senders choose the ids of their units, so one sender's units say nothing about another's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from node.journal import AsyncJournal, Forget
from node.roles.validator.journal_events import UnitAccepted
from proofs.encoding.leaves import SignedReceipt
from proofs.encoding.receipts import Receipt


class AcceptedUnits:
    """What the journal says was accepted, in which bundle, and when. `wall` gives Unix seconds."""

    def __init__(self, journal: AsyncJournal, log: Any, wall: Callable[[], float]) -> None:
        self._journal = journal
        self._log = log
        self._wall = wall
        self._bundles: dict[tuple[str, bytes], bytes] = {}
        self._at: dict[tuple[str, bytes], float] = {}

    def knows(self, sender: str, unit_id: bytes) -> bool:
        """Whether the sender's unit was accepted, as far as is remembered."""
        return (sender, unit_id) in self._bundles

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
            at=self._wall(),
            receipts=tuple(
                (item.receipt.to_bytes(), item.worker_signature, item.counter_signature)
                for item in receipts
            ),
        )
        if not (await self._journal.record(event))[0]:
            return False
        if not receipts:
            self._log.info("not paid: ordered from itself", unit=unit_id.hex()[:12])
        self._bundles[sender, unit_id], self._at[sender, unit_id] = bundle_id, event.at
        return True

    async def settle(self, sender_units: Sequence[tuple[str, bytes]]) -> None:
        """Forget units of senders that are over and done with: paid for good, or never to be."""
        known = [item for item in sender_units if item in self._bundles]
        if not known:
            return
        keys = (f"{sender}:{unit_id.hex()}" for sender, unit_id in known)
        await self._journal.record(*(Forget(UnitAccepted, key) for key in keys))
        for item in known:
            self._bundles.pop(item, None)
            self._at.pop(item, None)

    def older(self, until: float) -> set[tuple[str, bytes]]:
        """Units that were accepted before `until` (Unix seconds), with their senders."""
        return {item for item, at in self._at.items() if at < until}

    def beyond(self, most: int) -> list[tuple[str, bytes]]:
        """The oldest units, with their senders, without which `most` are left."""
        return list(self._bundles)[: max(len(self._bundles) - most, 0)]

    async def restore(self) -> list[tuple[str, bytes, tuple[SignedReceipt, ...]]]:
        """Read the journal; the sender, the id and the receipts of every unit, in order of
        acceptance."""
        units: list[tuple[str, bytes, tuple[SignedReceipt, ...]]] = []
        for event in await self._journal.replay(UnitAccepted):
            self._bundles[event.sender, event.unit_id] = event.bundle_id
            self._at[event.sender, event.unit_id] = event.at
            units.append((event.sender, event.unit_id, receipts_of(event)))
        return units


def receipts_of(event: UnitAccepted) -> tuple[SignedReceipt, ...]:
    """The receipts that the event holds as bytes. Raises `ProofError` for bytes that are none."""
    return tuple(
        SignedReceipt(Receipt.from_bytes(data), worker, counter)
        for data, worker, counter in event.receipts
    )
