"""Which generations of groups this node has served, so that none is served twice.

What a stage said about a unit is journaled, so that it never says two things of the same unit in
the same generation (`signing`). That need not be kept for ever: once a newer generation is loaded,
nothing of an older one is signed any more. So the newest generation of every pool is on disk before
a slice of it is loaded, older ones are refused from then on, by every later run as well, and what
was said in them is forgotten. An orchestrator numbers its generations upwards as long as its pool
lives.

Within one generation there is an end, too: after `MOST_SAID` units the group must be built anew.
"""

from __future__ import annotations

from node.journal import AsyncJournal, OnlyNewest
from node.roles.worker.journal_events import GENERATIONS, EvidenceSaid, ReceiptSigned
from p2p.errors import Refused

MOST_POOLS = 1024
"""Pools whose newest generation is remembered."""
MOST_SAID = 131_072
"""Units of one generation that this node signs for: about 100 MB of journal."""


class Generations:
    """The newest generation by pool, and how many units the current one has had."""

    def __init__(self, journal: AsyncJournal, most_said: int = MOST_SAID) -> None:
        self._journal = journal
        self._most_said = most_said
        self._newest: dict[int, int] | None = None
        self._said = 0

    async def require_newer(self, pool_id: int, generation: int) -> None:
        """Raise `Refused` for a generation that is over."""
        newest = (await self._known()).get(pool_id, -1)
        if newest >= generation:
            raise Refused("stale", f"generation {newest} is newer")

    async def begin(self, pool_id: int, generation: int) -> None:
        """A newer generation is about to be served, and nothing of any other is signed any more: on
        disk on return."""
        table = {p: g for p, g in (await self._known()).items() if p != pool_id}
        table[pool_id] = generation
        pairs = tuple(table.items())[-MOST_POOLS:]
        await self._journal.record(
            OnlyNewest(EvidenceSaid, 0), OnlyNewest(ReceiptSigned, 0), state={GENERATIONS: pairs}
        )
        self._newest, self._said = dict(pairs), 0

    def require_room(self) -> None:
        """Raise `Refused` where this generation has had as many units as it may have."""
        if self._said >= self._most_said:
            raise Refused("spent", f"this generation had {self._said} units: build the group anew")

    def said(self) -> None:
        """Another unit was spoken for."""
        self._said += 1

    async def _known(self) -> dict[int, int]:
        if self._newest is None:
            self._newest = dict(await self._journal.state(GENERATIONS, ()))
        return self._newest
