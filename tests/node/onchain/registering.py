"""A network of nothing but records, and a chain that knows who has a stake."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio

from chain.encoding.views import NodeRecord as NodeOnChain
from chain.errors import ChainUnreachable
from node.context import NodeContext
from node.wire.peer_addresses import address_of_peer
from p2p.admission.standing import Judge, Standing
from p2p.identity import peer_id_of
from p2p.peering.events import PeerConnected
from p2p.records.record import NodeRecord
from tests.node.roles.chains import open_context


def peer(name: str) -> str:
    return peer_id_of(hashlib.sha256(name.encode()).digest())


@dataclass
class Records:
    by_id: dict[str, NodeRecord] = field(default_factory=dict)
    version: int = 0
    changed: trio.Event = field(default_factory=trio.Event)

    def add(self, names: Iterable[str], role: str = "worker") -> None:
        self.version += 1
        for name in names:
            who = peer(name)
            self.by_id[who] = NodeRecord(
                peer_id=who,
                sequence=self.version,
                issued_at=0.0,
                expires_at=1e9,
                roles=(role,),
                vram_bytes=7,
            )
        self.changed.set()
        self.changed = trio.Event()

    def get(self, peer_id: str) -> NodeRecord | None:
        return self.by_id.get(peer_id)

    def all(self) -> tuple[NodeRecord, ...]:
        return tuple(self.by_id.values())

    async def wait_changed(self, since: int) -> int:
        while self.version == since:
            await self.changed.wait()
        return self.version


class Network:
    """What of `p2p.network.Network` is asked; `hosts` says where peers are connected from."""

    def __init__(self) -> None:
        self.records = Records()
        self.hosts: dict[str, str] = {}
        self._judge: Judge = lambda peer_id: Standing.STRANGER
        self._events: list[trio.MemorySendChannel[PeerConnected]] = []

    def judge_by(self, judge: Judge) -> None:
        self._judge = judge

    def standing(self, peer_id: str) -> Standing:
        return self._judge(peer_id)

    def seen_at(self, peer_id: str) -> str | None:
        return self.hosts.get(peer_id)

    def peer_events(self) -> trio.MemoryReceiveChannel[PeerConnected]:
        send, receive = trio.open_memory_channel[PeerConnected](64)
        self._events.append(send)
        return receive

    def connect(self, name: str, host: str) -> None:
        self.hosts[peer(name)] = host
        for events in self._events:
            events.send_nowait(PeerConnected(peer(name)))


@dataclass
class Chain:
    """`staked` are registered with their provider, `poor` with one that has not the stake for them.
    An answer takes `takes` seconds, and none comes while it is `down`."""

    staked: dict[str, str] = field(default_factory=dict)
    poor: dict[str, str] = field(default_factory=dict)
    takes: float = 0.1
    down: bool = False
    url: str = "http://test"
    asked: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self.nodes = self.providers = self.rpc = self

    def register(self, name: str, provider: str) -> None:
        self.staked[address_of_peer(peer(name))] = provider

    async def find(self, address: str) -> NodeOnChain | None:
        self.asked.append(address)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await trio.sleep(self.takes)
        finally:
            self.at_once -= 1
        if self.down:
            raise ChainUnreachable(self.url, "down")
        provider = self.staked.get(address) or self.poor.get(address)
        return NodeOnChain(address, provider, 1, False, None) if provider else None

    async def is_backed(self, provider: str) -> bool:
        return provider in self.staked.values()


@asynccontextmanager
async def networked(folder: Path) -> AsyncIterator[tuple[NodeContext, Network, Any]]:
    """The context of a node of such a network, the network, and a chain."""
    async with open_context(folder) as context:
        network: Any = Network()
        yield replace(context, network=network), network, Chain()
