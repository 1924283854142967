"""Telling the coordinator of workers: what their records say, where they are, how they stand.

Where there is a chain, whoever has no stake on it is not even mentioned: free identities get no
further than this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from node.roles.orchestrator.coordinator.events import Event, PeerAnnounced
from p2p.admission.sources import UNKNOWN, subnet
from p2p.admission.standing import Standing
from p2p.records.record import NodeRecord


class Records(Protocol):
    """The records of a network."""

    def get(self, peer_id: str) -> NodeRecord | None:
        """The peer's, None where there is none."""
        ...

    def all(self) -> tuple[NodeRecord, ...]:
        """All of them."""
        ...


class Peers(Protocol):
    """What is asked of `p2p.network.Network`."""

    @property
    def records(self) -> Records:
        """What nodes say of themselves."""
        ...

    def standing(self, peer_id: str) -> Standing:
        """How the peer stands."""
        ...

    def seen_at(self, peer_id: str) -> str | None:
        """The host that it is connected from, None where it is not connected."""
        ...


class Announcer:
    """Announces workers of `least` standing to `feed`, each again when its record is renewed, when
    it connects, and when it comes to stand higher."""

    def __init__(
        self, network: Peers, least: Standing, feed: Callable[[Event], Awaitable[None]]
    ) -> None:
        self._network = network
        self._least = least
        self._feed = feed
        self._told: dict[str, tuple[int, Standing]] = {}

    async def look(self) -> None:
        """Announce whoever is new here, renewed or higher than when it was announced."""
        records = self._network.records.all()
        known = {record.peer_id for record in records}
        self._told = {peer_id: told for peer_id, told in self._told.items() if peer_id in known}
        for record in records:
            if "worker" in record.roles:
                sequence, standing = self._told.get(record.peer_id, (-1, Standing.STRANGER))
                if record.sequence != sequence or self._stands(record.peer_id) > standing:
                    await self._announce(record)

    async def connected(self, peer_id: str) -> None:
        """The peer is connected, so it is known where it comes from."""
        record = self._network.records.get(peer_id)
        if record is not None and "worker" in record.roles:
            await self._announce(record)

    def _stands(self, peer_id: str) -> Standing:
        return self._network.standing(peer_id)

    async def _announce(self, record: NodeRecord) -> None:
        standing = self._stands(record.peer_id)
        if standing < self._least:
            return
        host = self._network.seen_at(record.peer_id)
        await self._feed(
            PeerAnnounced(
                record.peer_id,
                record.vram_bytes,
                record.layer_seconds,
                record.location,
                record.region,
                UNKNOWN if host is None else subnet(host),
                standing,
            )
        )
        # Only now: whoever is interrupted before this tells it again.
        self._told[record.peer_id] = (record.sequence, standing)
