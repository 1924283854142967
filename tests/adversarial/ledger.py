"""A stand-in for the chain: what roles use of `ChainClient` and of its events, without any I/O.

Roots are checked as the contract checks them, and events go through the real `read_event`. A reader
starts at the first event each time, as if the cursor had never been stored.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import trio

from chain.encoding.records import Block
from chain.encoding.structs import SettlementTerms
from chain.errors import ChainUnreachable, InvalidInput
from chain.events.cursor import Position
from chain.events.reader import Batch, ChainEvent
from node.roles.pool_terms import PoolTerms
from proofs.encoding.eip712 import Domain
from proofs.encoding.leaves import PostedRoot, ascending
from proofs.encoding.merkle import payout_leaf, verify
from proofs.encoding.receipts import Conviction, EpochRoot
from proofs.encoding.signing import sign_digest, signed_by
from proofs.settlement.epoch import rate_for
from tests.adversarial.standins import DOMAIN, MODEL, PRICE

Signatures = Sequence[tuple[str, bytes]]
BUDGET = 10**24


@dataclass
class Ledger:
    """The chain's state, shared by the clients of all nodes of a test.

    `weights` are the validators' stakes, `owners` the providers of nodes. Reads named in `silent`
    (`validators.weight_of`) fail as if the endpoint were down; pools in `refuse_roots` take none.
    """

    creators: dict[int, str] = field(default_factory=dict)
    open_pools: set[int] = field(default_factory=set)
    members: set[tuple[int, str]] = field(default_factory=set)
    weights: dict[str, int] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    roots: dict[int, list[PostedRoot]] = field(default_factory=dict)
    paid: dict[tuple[int, str], int] = field(default_factory=dict)
    convictions: list[Conviction] = field(default_factory=list)
    accusations: list[tuple[str, int]] = field(default_factory=list)
    refuse_roots: set[int] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    quorum: int = 6_667
    window: int = 0
    posts: int = 0
    refused: int = 0
    events: list[ChainEvent] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)

    def answer(self, read: str) -> None:
        """Raises ChainUnreachable while `read` is silent."""
        if read in self.silent:
            raise ChainUnreachable("http://test", f"{read} is not answered in this test")

    def root_of(self, pool_id: int) -> EpochRoot | None:
        roots = self.roots.get(pool_id)
        return roots[-1].root if roots else None

    def total(self, pool_id: int) -> int:
        """Wei that roots of the pool have promised."""
        root = self.root_of(pool_id)
        return 0 if root is None else root.total_payout

    def require_quorum(self, digest: bytes, signatures: Signatures) -> None:
        weight = sum(self.weights.get(address, 0) for address, _ in signatures)
        if weight * 10_000 < sum(self.weights.values()) * self.quorum:
            raise InvalidInput("QuorumNotReached")
        if not all(signed_by(address, digest, signature) for address, signature in signatures):
            raise InvalidInput("BadSignature")

    def post(self, root: EpochRoot, signers: Iterable[str]) -> None:
        """Let a root stand, whoever signed it."""
        posted = PostedRoot(root, ascending(list(signers)))
        self.roots.setdefault(root.pool_id, []).append(posted)
        self.posts += 1
        self.emit(
            "RootPosted",
            root=root_fields(root),
            signers=list(posted.signers),
            claimableAt=int(time.time()) + self.window,
        )

    def void(self, pool_id: int) -> None:
        """Take the newest root away, as an upheld dispute does."""
        posted = self.roots[pool_id].pop()
        self.emit("RootVoided", poolId=pool_id, epoch=posted.root.epoch)

    def emit(self, event: str, **args: Any) -> None:
        number = len(self.events) + 1
        tx = sha256(b"%d" % number).digest()
        self.events.append(ChainEvent("ReceiptSettlement", event, args, number, tx, 0))
        self.changed.set()
        self.changed = trio.Event()


def root_fields(root: EpochRoot) -> dict[str, Any]:
    """As an event has them."""
    names = (name for _, name in EpochRoot.STRUCT.fields)
    values = (getattr(root, name) for name in EpochRoot.model_fields)
    return dict(zip(names, values, strict=True))


class Reader:
    """`chain.events.reader.EventReader` over a ledger."""

    def __init__(self, rpc: Rpc, *args: object, **options: object) -> None:
        self._ledger = rpc.ledger

    async def batches(self) -> AsyncIterator[Any]:
        seen = 0
        while True:
            events = tuple(self._ledger.events[seen:])
            if events:
                start = Position(seen, None)
                seen += len(events)
                yield Batch(events, block_of(seen), start, start)
            elif len(self._ledger.events) == seen:
                await self._ledger.changed.wait()


def block_of(number: int) -> Block:
    return Block.model_construct(
        number=number, hash=bytes(32), parent_hash=bytes(32), timestamp=int(time.time())
    )


class Rpc:
    """Gas costs nothing here."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    async def block(self, tag: object) -> Any:
        return block_of(len(self.ledger.events))

    async def tip(self) -> int:
        return 0


class Pools:
    """`chain.calls.pools.Pools` of the node with this key."""

    def __init__(self, ledger: Ledger, key: bytes, address: str) -> None:
        self._ledger, self._key, self._address = ledger, key, address

    async def info(self, pool_id: int) -> Any:
        self._ledger.answer("pools.info")
        creator = self._ledger.creators.get(pool_id, "0x" + "0" * 40)
        terms = PoolTerms(model_id=MODEL.hex(), model="tiny")
        return SimpleNamespace(
            pool_id=pool_id,
            creator=creator,
            inviter=None if pool_id in self._ledger.open_pools else creator,
            uri=terms.to_uri(),
        )

    async def funds(self, pool_id: int) -> Any:
        return SimpleNamespace(rate=PRICE, funded=BUDGET)

    async def is_member(self, pool_id: int, node: str) -> bool:
        return (pool_id, node) in self._ledger.members

    async def invite_digest(self, pool_id: int, node: str, deadline: int) -> bytes:
        return sha256(f"{pool_id}:{node}:{deadline}".encode()).digest()

    async def sign_invite(self, pool_id: int, node: str, deadline: int) -> bytes:
        return sign_digest(self._key, await self.invite_digest(pool_id, node, deadline))

    async def join(self, pool_id: int, signature: bytes, deadline: int) -> None:
        self._ledger.members.add((pool_id, self._address))

    async def leave(self, pool_id: int) -> None:
        self._ledger.members.discard((pool_id, self._address))

    async def eject(self, pool_id: int, node: str) -> None:
        self._ledger.members.discard((pool_id, node))


class Nodes:
    """`chain.calls.nodes.Nodes`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def owners_of(self, nodes: Iterable[str]) -> dict[str, str]:
        self._ledger.answer("nodes.owners_of")
        return {n: self._ledger.owners[n] for n in nodes if n in self._ledger.owners}


class Validators:
    """`chain.calls.validators.Validators`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def addresses(self) -> list[str]:
        self._ledger.answer("validators.addresses")
        return list(self._ledger.weights)

    async def is_admitted(self, address: str) -> bool:
        return address in self._ledger.weights

    async def weight_of(self, node: str) -> int:
        self._ledger.answer("validators.weight_of")
        await trio.lowlevel.checkpoint()
        return self._ledger.weights.get(node, 0)

    async def total_weight(self) -> int:
        return sum(self._ledger.weights.values())


class Settlement:
    """`chain.calls.settlement.Settlement`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def terms(self) -> SettlementTerms:
        self._ledger.answer("settlement.terms")
        return SettlementTerms(self._ledger.quorum, self._ledger.window, 60, 1)

    async def root_hash(self, pool_id: int, epoch: int) -> bytes:
        roots = self._ledger.roots.get(pool_id, [])
        return roots[epoch - 1].hash(DOMAIN) if 1 <= epoch <= len(roots) else bytes(32)

    async def is_final(self, pool_id: int, epoch: int) -> bool:
        count = len(self._ledger.roots.get(pool_id, []))
        return epoch < count or (epoch == count and self._ledger.window == 0)

    async def post_root(self, root: EpochRoot, signatures: Signatures) -> Any:
        await trio.lowlevel.checkpoint()
        ledger, count = self._ledger, len(self._ledger.roots.get(root.pool_id, []))
        if root.pool_id in ledger.refuse_roots:
            ledger.refused += 1
            raise ChainUnreachable("http://test", "this pool's roots are refused")
        if count >= root.epoch:
            return None
        total = ledger.total(root.pool_id)
        rate = rate_for(PRICE, BUDGET - total, root.total_units)
        if root.epoch != count + 1 or root.previous_total != total or root.rate != rate:
            raise InvalidInput("InvalidRoot")
        ledger.require_quorum(root.digest(DOMAIN), signatures)
        ledger.post(root, [address for address, _ in signatures])
        return SimpleNamespace(hash=bytes([root.epoch]) * 32, gas_used=1)

    async def convict(self, conviction: Conviction, signatures: Signatures) -> Any:
        self._ledger.require_quorum(conviction.digest(DOMAIN), signatures)
        if conviction in self._ledger.convictions:
            return None
        self._ledger.convictions.append(conviction)
        return SimpleNamespace(hash=b"\x01" * 32)

    async def claimed(self, pool_id: int, account: str) -> int:
        return self._ledger.paid.get((pool_id, account), 0)

    async def claim_many(self, claims: Sequence[Any]) -> list[Any]:
        for claim in claims:
            root = claim.posted.root
            assert await self.root_hash(root.pool_id, root.epoch) == claim.posted.hash(DOMAIN)
            assert await self.is_final(root.pool_id, root.epoch)
            leaf = payout_leaf(claim.account, claim.cumulative)
            assert verify(root.payouts_root, leaf, claim.proof)
            self._ledger.paid[root.pool_id, claim.account] = claim.cumulative
        return [SimpleNamespace(hash=b"\x01" * 32) for _ in claims]


class Disputes:
    """`chain.calls.disputes.Disputes`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def find(self, dispute_id: int) -> None:
        return None  # it is over at once

    async def dispute_receipt(self, posted: PostedRoot, index: int) -> int:
        self._ledger.accusations.append(("receipt", posted.root.epoch))
        return len(self._ledger.accusations)

    async def prove_double_count(self, posted: PostedRoot, *shown: object) -> None:
        self._ledger.accusations.append(("double", posted.root.epoch))
        self._ledger.void(posted.root.pool_id)


class Chain:
    """The client of the node with this key."""

    def __init__(self, ledger: Ledger, key: bytes, address: str) -> None:
        self.ledger, self.address = ledger, address
        self.rpc, self.deployment, self.database = Rpc(ledger), None, None
        self.pools = Pools(ledger, key, address)
        self.nodes = Nodes(ledger)
        self.validators = Validators(ledger)
        self.settlement = Settlement(ledger)
        self.disputes = Disputes(ledger)

    def domain(self, contract: str) -> Domain:
        return DOMAIN
