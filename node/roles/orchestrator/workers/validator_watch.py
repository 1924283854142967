"""Tells the coordinator which validators are here, and what their verdicts weigh, as it changes.

A validator that was restarted is never seen to go, since its record outlives it. So its signs of
life are told as well: each time that it connects, and each record that it sends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from chain.errors import ChainError
from node.roles.orchestrator.coordinator.events import (
    ChainQuorum,
    Event,
    PeerAppeared,
    PeerValidates,
)
from node.roles.orchestrator.workers.stakes import ValidatorStakes

Feed = Callable[[Event], Awaitable[None]]


class ValidatorWatch:
    """Feeds the coordinator what changed since the last look."""

    def __init__(self, stakes: ValidatorStakes, feed: Feed, log: Any) -> None:
        self._stakes = stakes
        self._feed = feed
        self._log = log
        self._known: Mapping[str, int] = {}
        self._quorum: ChainQuorum | None = None
        self._unread = False
        self._records: dict[str, int] = {}

    async def connected(self, peer_id: str) -> None:
        """The peer has connected."""
        if peer_id in self._known:
            await self._feed(PeerAppeared(peer_id, connected=True))

    async def renewed(self, sequences: Mapping[str, int]) -> None:
        """How the newest records of connected peers who announce the role are numbered."""
        before, self._records = self._records, dict(sequences)
        for peer_id in self._known.keys() & sequences.keys():
            if sequences[peer_id] != before.get(peer_id):
                await self._feed(PeerAppeared(peer_id, connected=False))

    async def look(self, announced: AbstractSet[str]) -> None:
        """Compare the validators that are here with those known; a chain that does not answer
        changes nothing."""
        try:
            found = await self._stakes.of(announced)
        except ChainError as exc:
            if not self._unread:
                self._log.warning("validators not checked", reason=str(exc))
            self._unread = True
            return
        self._unread = False
        if found.quorum is not None and found.quorum != self._quorum:
            await self._feed(found.quorum)
        for peer_id in self._known.keys() | found.weights.keys():
            if self._known.get(peer_id) != found.weights.get(peer_id):
                await self._feed(PeerValidates(peer_id, found.weights.get(peer_id, 0)))
        self._known, self._quorum = found.weights, found.quorum
