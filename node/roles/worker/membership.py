"""Joining a pool: weigh an orchestrator's invite, join, remember whom to obey.

A worker serves one pool at a time and takes orders only from the peer whose invite it accepted.
Which invites count is the `PoolRegister`'s business, which of those it wants the operator's
(`policy.rules`), and when another pool may have it is decided by `policy.engagement`. What asks
nobody is asked first, so that an invite that cannot be accepted costs no reading of the chain.

A change of pools is this node's own task. The peer that asked may hang up: what was begun is
finished, or, after a crash, taken up again from what the chain says. One change at a time, and few
invites are weighed at a time; whoever invites meanwhile is told to come again.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from node.context import NodeContext
from node.journal import JournalError
from node.roles.worker.policy.decline import Decline
from node.roles.worker.policy.engagement import Engagement, Patience
from node.roles.worker.policy.rules import Offer, Rules, not_stored
from node.roles.worker.pools import PoolRegister
from node.storage.intake import require_storage
from node.wire.messages.work import Invite, Joined
from node.wire.peer_addresses import address_of_peer
from p2p.errors import Refused

MAX_WEIGHED = 16
"""Invites for which the chain is read at a time."""


@dataclass(frozen=True)
class JoinedPool:
    """The pool this worker is in: its orchestrator's peer id and address, its model, and what it
    pays for one layer and one token (None where it does not pay for work)."""

    peer_id: str
    address: str
    pool_id: int
    model_id: bytes
    model_name: str
    price: int | None = None


@dataclass
class _Change:
    """An accepted invite on its way; `done` is set with a result or the refusal."""

    peer_id: str
    address: str
    invite: Invite
    price: int | None
    done: trio.Event = field(default_factory=trio.Event)
    refusal: Refused | None = field(
        default_factory=lambda: Refused("closing", "this worker is leaving")
    )


class Membership:
    """The pool that this worker is in. `joined` is told the id of each pool before it is joined,
    `used` says how many bytes of the operator's disk are taken, `has_model` whether a model can be
    loaded. `rules` may be set anew. `unpaid` is the work (layers times tokens) on units that pay
    others, as the pool's orchestrator has it."""

    def __init__(
        self,
        context: NodeContext,
        pools: PoolRegister,
        joined: Callable[[int], Awaitable[None]],
        patience: Patience,
        rules: Rules,
        used: Callable[[], Awaitable[int]],
        has_model: Callable[[bytes], Awaitable[bool]],
        local: Callable[[float], time.struct_time] = time.localtime,
    ) -> None:
        self._context = context
        self._pools = pools
        self._joined = joined
        self._used = used
        self._has_model = has_model
        self._local = local
        self._engagement = Engagement(patience)
        self._changes: trio.Nursery | None = None
        self._moving = trio.Lock()
        self._changing = False
        self._weighing = 0
        self._last_offer = ""
        self._word = trio.Event()
        self.ready = trio.Event()
        self.rules = rules
        self.pool: JoinedPool | None = None
        self.unpaid = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the changes of pools until cancelled. Until what an earlier run began is finished,
        and `ready` is set, invites are told to come again."""
        task_status.started()
        await self._pools.restore(self.rules.allows_pool)
        try:
            async with trio.open_nursery() as nursery:
                self._changes, self._changing = nursery, False
                self.ready.set()
                await trio.sleep_forever()
        finally:
            self._changes = None

    async def on_invite(self, peer_id: str, invite: Invite) -> Joined:
        """Answer an invite once this node is a member. Raises `Refused`."""
        require_storage(self._context.journal)
        address = address_of_peer(peer_id)
        if not address:
            raise Refused("bad_invite", "that peer id is not of a secp256k1 key")
        if self._changes is None or self._weighing >= MAX_WEIGHED:
            raise Refused("busy", "other invites are being answered; ask again")
        self._weighing += 1
        try:
            change = await self._weighed(peer_id, address, invite)
        finally:
            self._weighing -= 1
        if self._changes is None or self._changing:
            raise Refused("busy", "another invite is being followed; ask again")
        # While the chain was read another pool may have been joined.
        now = self._context.now()
        self._heed(invite, self._engagement.refuses(peer_id, invite.pool_id, now))
        self._changing = True
        self._context.supervisor.task(self._changes, "worker: joining", self._carry_out, change)
        await change.done.wait()
        if change.refusal is not None:
            raise Refused(change.refusal.code, change.refusal.message)
        return Joined(address=self._context.address, provider=self._context.provider)

    def require_orchestrator(self, peer_id: str) -> JoinedPool:
        """The pool, if `peer_id` is its orchestrator. Raises `Refused`."""
        if self.pool is None or self.pool.peer_id != peer_id:
            raise Refused("not_my_orchestrator", "I take orders only from the pool I joined")
        self._engagement.heard(self._context.now())
        self._heard()
        return self.pool

    def worked(self, units: int, seconds: float) -> None:
        """The engine did `units` (layers times tokens) for the pool, busy for `seconds`."""
        if self.pool is not None:
            price = 1 if self.pool.price is None else self.pool.price
            self._engagement.worked(seconds, units * price, self._context.now())

    async def silence(self, seconds: float) -> None:
        """Wait until this node is in a pool whose orchestrator has said nothing for so long."""
        while True:
            heard_at = self._engagement.heard_at
            if heard_at is None:
                await self._word.wait()
                continue
            left = heard_at + seconds - self._context.now()
            if left <= 0:
                return
            await trio.sleep(left)

    async def word(self) -> None:
        """Wait until an orchestrator says something, or this node changes or leaves its pool."""
        await self._word.wait()

    async def leave(self) -> None:
        """Obey nobody any more, and leave the pool."""
        async with self._moving:
            pool, self.pool = self.pool, None
            self._engagement.left()
            self._heard()
            if pool is not None:
                await self._pools.leave(pool.pool_id)

    def minute(self) -> int:
        """The minute of the local day."""
        local = self._local(self._context.wall())
        return local.tm_hour * 60 + local.tm_min

    def says(self) -> str:
        """Whose work this node does, or what was offered last and why it waits: one line."""
        pool = self.pool
        closed = self.rules.closed(self.minute())
        if pool is None:
            why = closed.reason if closed is not None else self._last_offer
            return f"waiting: {why}" if why else "waiting for an invite"
        said = f"in pool {pool.pool_id} ({pool.model_name})"
        if self._engagement.is_silent(self._context.now()):
            said += ", whose orchestrator is silent: the next invite that fits is taken"
        elif self._engagement.is_idle(self._context.now()):
            said += ", without work for long: the next invite that fits is taken"
        if self.unpaid:
            said += (
                f"; {self.unpaid} layers times tokens done for nothing: rings broke, and others "
                "finished those units"
            )
        return said

    def _heard(self) -> None:
        self._word.set()
        self._word = trio.Event()

    async def _weighed(self, peer_id: str, address: str, invite: Invite) -> _Change:
        offer = Offer(invite.pool_id, invite.model_id)
        now = self._context.now()
        self._heed(invite, self.rules.before_the_chain(offer, self.minute()))
        self._heed(invite, self._engagement.refuses(peer_id, invite.pool_id, now))
        if not await self._has_model(invite.model_id):
            self._heed(invite, not_stored(invite.model_id, invite.model_name))
        price = await self._pools.price(invite, address)
        self._heed(invite, self.rules.price(Offer(invite.pool_id, invite.model_id, price)))
        if self.rules.disk:
            self._heed(invite, self.rules.room(await self._used()))
        return _Change(peer_id, address, invite, price)

    def _heed(self, invite: Invite, declined: Decline | None) -> None:
        if declined is None:
            return
        if declined.code != "taken":
            self._note(invite, declined.reason)
        raise Refused(declined.code, declined.reason)

    def _note(self, invite: Invite, reason: str) -> None:
        self._last_offer = f"pool {invite.pool_id} offered {invite.model_name}: {reason}"[:500]

    async def _carry_out(self, change: _Change) -> None:
        async with self._moving:
            await self._follow(change)

    async def _follow(self, change: _Change) -> None:
        invite, before = change.invite, self.pool
        try:
            cost = await self._pools.enter(invite, lambda: self._about_to_move(invite.pool_id))
            self.pool = JoinedPool(
                change.peer_id,
                change.address,
                invite.pool_id,
                invite.model_id,
                invite.model_name,
                change.price,
            )
            worth = int(cost * self._context.config.worker.tokens_per_ether)
            self.unpaid = 0
            self._engagement.joined(change.peer_id, invite.pool_id, self._context.now(), worth)
            self._heard()
            change.refusal = None
            if before != self.pool:
                self._context.log.info(
                    "joined pool", pool=invite.pool_id, orchestrator=change.peer_id
                )
        except Refused as exc:
            change.refusal = exc
        except JournalError as exc:
            change.refusal = Refused("no_storage", str(exc))
        finally:
            if self.pool is None:
                self._engagement.lost(self._context.now())
            if change.refusal is not None:
                self._note(invite, change.refusal.message)
            self._changing = False
            change.done.set()

    async def _about_to_move(self, pool_id: int) -> None:
        """Before the first transaction: rewards of the pool are looked for from now on, and nobody
        is obeyed until this node is in."""
        await self._joined(pool_id)
        if self.pool is not None and self.pool.pool_id != pool_id:
            self.pool = None
