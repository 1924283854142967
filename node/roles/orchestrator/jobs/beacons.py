"""Where the sampling noise of a job comes from: chance that fell after the job was on disk.

With a chain the beacon is the hash of the first block after the job was journaled; where the chain
makes blocks only for transactions, that of its newest one, which was there before. Without a chain
it is 32 random bytes of this node's own. Once drawn it is journaled, so a restart goes on with the
same; a job that has none yet is drawn one then.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import trio

from node.context import NodeContext
from node.onchain.blocks import Blocks

RETRY_SECONDS = 2.0
KIND = "self.beacon"


@dataclass(frozen=True)
class Beacon:
    """`block` is the number of the block whose hash it is, 0 where it is none's."""

    value: bytes
    block: int


class Beacons:
    """Draws a beacon for each job, once."""

    def __init__(self, context: NodeContext, confirmations: int) -> None:
        self._context = context
        self._blocks = Blocks(context, context.chain, confirmations)  # type: ignore[arg-type]

    async def draw(self, job_id: str) -> Beacon:
        """The beacon of a journaled job; on disk on return. Asks the chain until it answers."""
        from chain.errors import ChainError

        while True:
            try:
                fresh = await self._fresh()
                break
            except ChainError as exc:
                self._context.log.warning("no noise for a job yet", job=job_id, reason=str(exc))
                await trio.sleep(RETRY_SECONDS)
        body = {"beacon": fresh.value, "block": fresh.block}
        await self._context.journal.append(KIND, job_id, body)
        known = await self._context.journal.get(KIND, job_id)
        assert known is not None, "it was appended above, or before"
        return beacon_from_body(known.body)

    async def _fresh(self) -> Beacon:
        from chain.errors import BadResponse

        if self._context.chain is None:
            return Beacon(secrets.token_bytes(32), 0)
        after = await self._blocks.head() + 1
        found = await self._blocks.wait_for(after)
        if found is None:
            after = max(await self._blocks.final(), 1)
            found = await self._blocks.hash_of(after)
        if found is None:
            raise BadResponse(f"the chain has no block {after} that is deep enough")
        return Beacon(found, after)


def beacon_from_body(body: dict[str, Any]) -> Beacon:
    """A beacon as the journal has it."""
    return Beacon(bytes(body["beacon"]), int(body["block"]))
