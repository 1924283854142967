"""A worker's membership on a chain that can be killed at every step."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from chain.encoding.records import Block
from chain.encoding.views import PoolFunds, Strategy
from chain.errors import ChainUnreachable
from chain.transactions.manager import TxResult
from node.context import NodeContext
from node.roles.worker.journal_events import PoolJoined
from node.roles.worker.membership import Membership
from node.roles.worker.policy.engagement import Patience
from node.roles.worker.policy.settings import rules_of
from node.roles.worker.pools import ChainPools
from node.roles.worker.purse import GasPurse
from node.roles.worker.shelf import ModelShelf
from node.wire.messages.work import Invite, Joined
from p2p.identity import peer_id_of
from proofs.encoding.signing import address_of, sign_digest
from tests.node.roles.chains import open_context

GAS_PRICE = 10**9
MODEL = b"m" * 32


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Fate:
    """Counts the steps at which a process can die, and ends it at step `at` (-1: never)."""

    at: int = -1
    steps: int = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps - 1 == self.at:
            raise Killed


def boss_key(pool_id: int) -> bytes:
    return hashlib.sha256(b"boss %d" % pool_id).digest()


@dataclass
class FakeChain:
    """Pools by id, each with a boss of its own. A transaction changes the chain, then answers; the
    process may die before and after. `sent` are all transactions ever, each of which was paid."""

    address: str
    rates: dict[int, int] = field(default_factory=lambda: {1: 10**15, 2: 10**15})
    fate: Fate = field(default_factory=Fate)
    sent: list[str] = field(default_factory=list)
    member: int | None = None
    owners: dict[int, int] = field(default_factory=dict)
    """Whose pool it is, where it is not of the boss of the same number."""
    fails: set[int] = field(default_factory=set)
    hangs: set[int] = field(default_factory=set)
    """Pools of which nothing can be read."""
    reads: int = 0
    looks: int = 0
    """How often the worker's store was looked at."""

    def __post_init__(self) -> None:
        self.pools = self.rpc = self

    async def info(self, pool_id: int) -> Any:
        self.reads += 1
        if pool_id in self.hangs:
            await trio.sleep_forever()
        return InviterOf(address_of(boss_key(self.owners.get(pool_id, pool_id))))

    async def funds(self, pool_id: int) -> PoolFunds:
        return PoolFunds(Strategy.WORK, None, self.rates[pool_id], 0, 0, 0)

    async def invite_digest(self, pool_id: int, node: str, deadline: int) -> bytes:
        return digest_of(pool_id, node, deadline)

    async def current(self) -> int | None:
        return self.member

    async def join(self, pool_id: int, signature: bytes, deadline: int) -> TxResult | None:
        if self.member == pool_id:
            return None
        assert self.member is None, "the contract refuses a node that is in a pool"
        return self._send(f"join/{pool_id}", pool_id)

    async def leave(self, pool_id: int) -> TxResult | None:
        return self._send(f"leave/{pool_id}", None) if self.member == pool_id else None

    async def block(self, tag: object) -> Block:
        return Block(
            number=1, hash=bytes(32), parent_hash=bytes(32), timestamp=0, base_fee=GAS_PRICE
        )

    async def tip(self) -> int:
        return 0

    def _send(self, what: str, member: int | None) -> TxResult:
        if member in self.fails:
            raise ChainUnreachable("http://test", "down")
        self.fate.step()
        self.sent.append(what)
        self.member = member
        self.fate.step()
        return TxResult(bytes(32), 1, 100_000, True)


@dataclass(frozen=True)
class InviterOf:
    """What the worker asks of a pool."""

    inviter: str


def digest_of(pool_id: int, node: str, deadline: int) -> bytes:
    return hashlib.sha256(f"{pool_id}{node}{deadline}".encode()).digest()


class MortalJournal:
    """A journal whose process can die before and after each write."""

    def __init__(self, journal: Any, fate: Fate) -> None:
        self._journal, self._fate = journal, fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def record(self, *events: Any) -> Any:
        self._fate.step()
        result = await self._journal.record(*events)
        self._fate.step()
        return result

    async def set_state(self, name: str, value: Any) -> None:
        self._fate.step()
        await self._journal.set_state(name, value)
        self._fate.step()


@dataclass
class Seat:
    """A worker's membership, as its role has it."""

    context: NodeContext
    chain: FakeChain
    membership: Membership
    purse: GasPurse

    async def invite(self, pool_id: int) -> Joined:
        key = boss_key(self.chain.owners.get(pool_id, pool_id))
        deadline = int(self.context.wall()) + 600
        invite = Invite(
            pool_id=pool_id,
            model_id=MODEL,
            model_name="tiny",
            deadline=deadline,
            signature=sign_digest(key, digest_of(pool_id, self.context.address, deadline)),
        )
        return await self.membership.on_invite(peer_id_of(key), invite)

    def ping(self, pool_id: int) -> None:
        self.membership.require_orchestrator(peer_id_of(boss_key(pool_id)))


@asynccontextmanager
async def seated(
    folder: Path,
    chain: FakeChain | None = None,
    *,
    patience: Patience | None = None,
    used: int = 0,
    store: list[bytes] | None = None,
    **policy: Any,
) -> AsyncIterator[Seat]:
    """A membership that runs, on `chain`, with the settings of `policy`; local time is UTC, and
    `store` has the ids of models."""
    await trio.Path(folder).mkdir(exist_ok=True)
    async with open_context(folder, policy=policy) as context, trio.open_nursery() as nursery:
        chain, store = chain or FakeChain(context.address), [MODEL] if store is None else store
        object.__setattr__(context, "journal", MortalJournal(context.journal, chain.fate))

        async def joined(pool_id: int) -> None:
            await context.journal.record(PoolJoined(pool_id=pool_id))

        async def taken() -> int:
            return used

        def stored() -> list[bytes]:
            chain.looks += 1
            return store

        purse = GasPurse(context, chain)  # type: ignore[arg-type]
        pools = ChainPools(context, chain, purse)  # type: ignore[arg-type]
        membership = Membership(
            context,
            pools,
            joined,
            patience or Patience(),
            rules_of(context.config.policy),
            taken,
            ModelShelf(stored, context.now).has,
            time.gmtime,
        )
        await nursery.start(membership.run)
        await membership.ready.wait()
        yield Seat(context, chain, membership, purse)
        nursery.cancel_scope.cancel()
