"""Where the sampling noise of a job comes from: randomness drawn once the job is on disk.

With a chain the beacon is the hash of the first block after the job was journaled; where the chain
makes blocks only for transactions, that of its newest one, which was there before. Without a chain
it is 32 random bytes of this node's own. Once drawn it is journaled, so a restart goes on with the
same; a job that has none yet is drawn one then.
"""

from __future__ import annotations

import secrets
from typing import Any, Protocol

from chain.errors import BadResponse, ChainError
from node.journal import AsyncJournal
from node.onchain.blocks import Blocks
from node.retry import Backoff, tries
from node.roles.orchestrator.jobs.beacon import Beacon
from node.roles.orchestrator.journal_events import JobBeacon


class BeaconSource(Protocol):
    """Where beacons come from."""

    async def fresh(self) -> Beacon:
        """Randomness that is drawn after this call. Raises `ChainError`."""
        ...


class BlockBeacons:
    """Hashes of the chain's blocks."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks

    async def fresh(self) -> Beacon:
        """The hash of the next block, once it is deep enough; see the head of this file."""
        after = await self._blocks.head() + 1
        found = await self._blocks.wait_for(after)
        if found is None:
            after = max(await self._blocks.final(), 1)
            found = await self._blocks.hash_of(after)
        if found is None:
            raise BadResponse(f"the chain has no block {after} that is deep enough")
        return Beacon(found, after)


class RandomBeacons:
    """This node's own randomness, which others have to take on trust."""

    async def fresh(self) -> Beacon:
        """32 random bytes."""
        return Beacon(secrets.token_bytes(32), 0)


class Beacons:
    """Draws a beacon for each job, once."""

    def __init__(
        self, source: BeaconSource, journal: AsyncJournal, log: Any, backoff: Backoff
    ) -> None:
        self._source = source
        self._journal = journal
        self._log = log
        self._backoff = backoff

    async def draw(self, job_id: str) -> Beacon:
        """The beacon of a journaled job; on disk on return. Asks the chain until it answers."""
        fresh = await self._fresh(job_id)
        await self._journal.record(JobBeacon(job_id=job_id, beacon=fresh.value, block=fresh.block))
        known = await self._journal.find(JobBeacon, job_id)
        assert known is not None, "it was recorded above, or before"
        return Beacon(known.beacon, known.block)

    async def _fresh(self, job_id: str) -> Beacon:
        async for _ in tries(self._backoff):
            try:
                return await self._source.fresh()
            except ChainError as exc:
                self._log.warning("no noise for a job yet", job=job_id, reason=str(exc))
        raise AssertionError("a backoff without an end")
