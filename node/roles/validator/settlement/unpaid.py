"""Settlement and convictions in a network without a chain: work is verified and nobody is paid.

Accepted units are journaled all the same, so that none is accepted in two bundles.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from node.roles.validator.settlement.accepted import AcceptedUnits
from proofs.encoding.leaves import SignedReceipt
from proofs.evidence.bundle import UnitBundle
from proofs.verdict.message import Verdict

REMEMBERED = 65_536
"""Accepted units; nobody is paid, so that an older one is accepted again does no harm."""


class UnpaidSettlement:
    """Remembers what was accepted."""

    def __init__(self, accepted: AcceptedUnits) -> None:
        self._accepted = accepted

    async def accepted_other(
        self, sender: str, pool_id: int, unit_id: bytes, bundle_id: bytes
    ) -> bool:
        """Whether the sender's unit was accepted in another bundle than this one."""
        return self._accepted.accepted_other(sender, unit_id, bundle_id)

    def has_room(self, pool_id: int) -> bool:
        """Always: nothing waits to be paid."""
        return True

    async def accept(
        self, sender: str, unit_id: bytes, bundle_id: bytes, receipts: Sequence[SignedReceipt]
    ) -> None:
        """Journal an accepted unit. Repeating is harmless. The newest `REMEMBERED` are kept."""
        await self._accepted.accept(sender, unit_id, bundle_id, receipts)
        await self._accepted.settle(self._accepted.beyond(REMEMBERED))

    async def restore(self) -> None:
        """Read the journal."""
        await self._accepted.restore()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """There is nothing to do."""
        task_status.started()

    async def settled(self) -> None:
        """Nothing waits to be paid."""


class NoConvictions:
    """Where nothing is staked, nobody is slashed."""

    async def note(self, bundle: UnitBundle, verdict: Verdict) -> None:
        """There is nothing to do."""

    async def run(self) -> None:
        """There is nothing to do."""
