"""Watching workers: their records, their pings, and connections that break.

A broken connection is looked into at once: the peer is pinged, and if it cannot even be dialled it
is gone. So a killed process is noticed in well under a second, a hung one after three pings, and a
connection that merely dropped costs nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from node.context import NodeContext
from node.roles.orchestrator.coordinator.events import (
    Event,
    GroupBroken,
    PeerGone,
    PeerPinged,
)
from node.roles.orchestrator.coordinator.groups import GroupState
from node.roles.orchestrator.coordinator.members import MemberState
from node.roles.orchestrator.coordinator.view import PoolView
from node.roles.orchestrator.timing import OrchestratorTiming
from node.roles.orchestrator.workers.announcing import Announcer
from node.roles.orchestrator.workers.membership import Membership
from node.roles.orchestrator.workers.validator_watch import ValidatorWatch
from node.wire.messages.work import Ping, Pong
from node.wire.methods import PING
from node.wire.rpc import call
from p2p.errors import P2PError, RemoteRefused
from p2p.peering.events import PeerDisconnected

WATCHED = frozenset({MemberState.HEALTHY, MemberState.UNHEALTHY})

Feed = Callable[[Event], Awaitable[None]]


class WorkerWatch:
    """Feeds what it sees of other nodes to the coordinator."""

    def __init__(
        self,
        context: NodeContext,
        pool: PoolView,
        validators: ValidatorWatch,
        membership: Membership,
        feed: Feed,
        timing: OrchestratorTiming,
    ) -> None:
        self._context = context
        self._pool = pool
        self._validators = validators
        self._membership = membership
        self._announcer = Announcer(context.network, membership.least, feed)
        self._feed = feed
        self._timing = timing
        self.pongs: dict[str, Pong] = {}

    async def records(self) -> None:
        """Announce workers and validators as their records come and go."""
        version = -1
        while True:
            version = await self._context.network.records.wait_changed(version)
            await self._announcer.look()
            records = self._context.network.records.all()
            sequences = {r.peer_id: r.sequence for r in records if "validator" in r.roles}
            await self._validators.look(sequences.keys())
            seen_at = self._context.network.seen_at
            await self._validators.renewed({p: s for p, s in sequences.items() if seen_at(p)})

    async def stakes(self) -> None:
        """Announce workers once it is known that they have a stake."""
        version = -1
        while True:
            version = await self._membership.wait_changed(version)
            await self._announcer.look()

    async def validators(self) -> None:
        """Look again at who may judge now and then: roles and stakes change without a record."""
        while True:
            await trio.sleep(self._timing.validators)
            announced = self._context.network.records.all()
            await self._validators.look({r.peer_id for r in announced if "validator" in r.roles})

    async def pings(self) -> None:
        """Ping every member, each on its own schedule, so that a slow one delays nobody."""
        async with trio.open_nursery() as nursery:
            watched: set[str] = set()

            async def ping_while_member(peer_id: str) -> None:
                while self._watched(peer_id):
                    ok = await self._ping(peer_id)
                    pong = self.pongs.get(peer_id) if ok else None
                    await self._feed(PeerPinged(peer_id, ok, pong.busy if pong else ""))
                    await trio.sleep(self._timing.ping)
                watched.discard(peer_id)
                self.pongs.pop(peer_id, None)

            while True:
                for member in list(self._pool.members.values()):
                    if member.state in WATCHED and member.peer_id not in watched:
                        watched.add(member.peer_id)
                        nursery.start_soon(ping_while_member, member.peer_id)
                await trio.sleep(self._timing.ping / 2)

    async def connections(self) -> None:
        """Look into every broken connection of a member at once, and note where workers that
        connect come from, and that a validator is back."""
        with self._context.network.peer_events() as changes:
            async for change in changes:
                if isinstance(change, PeerDisconnected):
                    await self.probe(change.peer_id)
                else:
                    await self._announcer.connected(change.peer_id)
                    await self._validators.connected(change.peer_id)

    def _watched(self, peer_id: str) -> bool:
        member = self._pool.members.get(peer_id)
        return member is not None and member.state in WATCHED

    async def probe(self, peer_id: str) -> None:
        """Ping a suspect now; feed `PeerGone` where it does not answer."""
        if not self._watched(peer_id):
            return
        if not await self._ping(peer_id, self._timing.probe):
            await self._feed(PeerGone(peer_id, "its connection broke and it does not answer"))

    async def _ping(self, peer_id: str, timeout: float = PING.timeout) -> bool:
        member = self._pool.members.get(peer_id)
        try:
            ping = Ping(unpaid=0 if member is None else member.unpaid)
            pong = await call(self._context, peer_id, PING, ping, timeout=timeout)
        except RemoteRefused as exc:
            # Only a worker that has restarted does not know whose orders it takes.
            if exc.code == "not_my_orchestrator":
                await self._feed(PeerGone(peer_id, "it was restarted"))
                await self._announcer.connected(peer_id)  # it is here, with its old record maybe
            return exc.code != "not_my_orchestrator"
        except P2PError:
            return False
        if self._watched(peer_id):
            self.pongs[peer_id] = pong
        await self._check_generation(peer_id, pong)
        return True

    async def _check_generation(self, peer_id: str, pong: Pong) -> None:
        """A worker whose engine lost its slice breaks its group, even if nobody reported it."""
        for group in list(self._pool.groups.values()):
            if group.state is not GroupState.RUNNING or peer_id not in group.peers:
                continue
            if pong.generation < group.generation or not pong.engine_up:
                await self._feed(
                    GroupBroken(
                        group.group_id,
                        group.generation,
                        f"{peer_id} no longer holds its stage",
                        suspects=(peer_id,),
                    )
                )
