"""Who of the network has a stake on chain: asked a few at a time, remembered, told to the network.

A node knows by it whom to prefer where places are scarce (`Network.judge_by`), and an orchestrator
whom to invite. Nobody waits for an answer but who asks for a confirmation: what is not known yet
counts as a stranger. Nodes are looked up when their record or their connection is seen, in fair
turns (`p2p.admission.turns`): a crowd from one subnet holds at most half of the questions that are
under way, and does not keep a newcomer from elsewhere waiting.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from chain.errors import ChainError, ChainUnreachable
from node.context import NodeContext
from node.onchain.known_nodes import KnownNodes, KnownTerms
from node.wire.peer_addresses import address_of_peer
from p2p.admission.places import Shares, quarters
from p2p.admission.sources import UNKNOWN, subnet
from p2p.admission.standing import Standing
from p2p.admission.turns import Turns
from p2p.peering.events import PeerConnected

if TYPE_CHECKING:
    from chain.client import ChainClient

LOOKED_UP = frozenset({"worker", "validator"})
"""Roles whose nodes are registered."""


@dataclass(frozen=True)
class RegistryTiming:
    """Seconds: `deadline` for one look-up, `look` between looks at all records when none changes,
    and `pause` after each. `fresh` is how old a confirmation may be. At most `active` look-ups are
    under way and `waiting` wait."""

    deadline: float = 15.0
    look: float = 15.0
    pause: float = 1.0
    fresh: float = 60.0
    active: int = 8
    waiting: Shares = field(default_factory=lambda: quarters(512))
    known: KnownTerms = field(default_factory=KnownTerms)


class ChainRegistry:
    """What `chain` says of the nodes of `context.network`, which judges by it from now on."""

    def __init__(
        self, context: NodeContext, chain: ChainClient, timing: RegistryTiming | None = None
    ) -> None:
        self._context = context
        self._chain = chain
        self._timing = timing or RegistryTiming()
        self._known = KnownNodes(self._timing.known)
        self._turns = Turns(self._timing.active, self._timing.waiting, context.network.standing)
        self._changed = trio.Event()
        self.version = 0
        context.network.judge_by(self.standing)

    def standing(self, peer_id: str) -> Standing:
        """STAKED or STRANGER, as far as is known; asks nobody."""
        return Standing.STAKED if self._known.provider(peer_id) else Standing.STRANGER

    async def confirm(self, peer_id: str) -> str:
        """The provider that has a stake for this node, "" where there is none; the chain is asked
        unless it has just said so. Raises `ChainError`."""
        now = self._context.now()
        if self._known.age(peer_id, now) <= self._timing.fresh:
            return self._known.provider(peer_id)
        await self._look_up(peer_id)
        return self._known.provider(peer_id)

    async def wait_changed(self, version: int) -> int:
        """Wait until somebody's stake is news since `version`; returns the new version."""
        while self.version <= version:
            await self._changed.wait()
        return self.version

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look nodes up until cancelled."""
        async with trio.open_nursery() as nursery:
            keep = self._context.supervisor.keep
            keep(nursery, "registry: records", self._watch_records, nursery)
            keep(nursery, "registry: connections", self._watch_connections, nursery)
            task_status.started()

    async def _watch_records(self, nursery: trio.Nursery) -> None:
        records, version = self._context.network.records, -1
        while True:
            with trio.move_on_after(self._timing.look):
                version = await records.wait_changed(version)
            found = [r.peer_id for r in records.all() if LOOKED_UP.intersection(r.roles)]
            random.shuffle(found)  # a place in any fixed order is free
            for peer_id in found:
                self._ask(peer_id)
            self._start(nursery)
            await trio.sleep(self._timing.pause)

    async def _watch_connections(self, nursery: trio.Nursery) -> None:
        with self._context.network.peer_events() as changes:
            async for change in changes:
                if isinstance(change, PeerConnected):
                    self._ask(change.peer_id)
                    self._start(nursery)

    def _ask(self, peer_id: str) -> None:
        if peer_id in self._turns or not self._known.due(peer_id, self._context.now()):
            return
        host = self._context.network.seen_at(peer_id)
        if host is not None:
            self._turns.ask(peer_id, subnet(host))
        elif self._turns.waiting < self._timing.waiting.limit:  # or they would only change places
            self._turns.ask(peer_id, UNKNOWN)

    def _start(self, nursery: trio.Nursery) -> None:
        for peer_id in self._turns.start():
            self._context.supervisor.task(
                nursery, "registry: look-up", self._take_turn, nursery, peer_id
            )

    async def _take_turn(self, nursery: trio.Nursery, peer_id: str) -> None:
        try:
            await self._look_up(peer_id)
        except ChainError as exc:
            self._context.log.debug("node not looked up", peer=peer_id, reason=str(exc))
        finally:
            self._turns.done(peer_id)
        self._start(nursery)

    async def _look_up(self, peer_id: str) -> None:
        try:
            with trio.fail_after(self._timing.deadline):
                provider = await self._provider_on_chain(peer_id)
        except trio.TooSlowError as exc:
            self._known.unanswered(peer_id, self._context.now())
            said = f"a look-up took over {self._timing.deadline:g} s"
            raise ChainUnreachable(self._chain.rpc.url, said) from exc
        except ChainError:
            self._known.unanswered(peer_id, self._context.now())
            raise
        if self._known.learned(peer_id, provider, self._context.now()):
            self.version += 1
            self._changed.set()
            self._changed = trio.Event()

    async def _provider_on_chain(self, peer_id: str) -> str:
        address = address_of_peer(peer_id)
        node = await self._chain.nodes.find(address) if address else None
        if node is None or not await self._chain.providers.is_backed(node.provider):
            return ""
        return node.provider
