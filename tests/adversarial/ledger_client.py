"""What roles use of `ChainClient` and `EventReader`, over a `Ledger`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from hashlib import sha256

import trio

from chain.calls.settlement import Claim
from chain.encoding.records import Block
from chain.encoding.structs import Dispute, PoolEpochs, SettlementTerms
from chain.encoding.views import NodeRecord, Pool, PoolFunds, PoolState, Strategy
from chain.errors import ChainUnreachable, InvalidInput, Reverted
from chain.events.cursor import Position
from chain.events.reader import Batch
from chain.transactions.manager import TxResult
from node.roles.pool_terms import PoolTerms
from proofs.encoding.eip712 import Domain
from proofs.encoding.leaves import PostedRoot, ProvenLeaf
from proofs.encoding.merkle import payout_leaf, verify
from proofs.encoding.receipts import Conviction, EpochRoot, Receipt
from proofs.encoding.signing import ZERO_ADDRESS, sign_digest
from tests.adversarial.ledger import ANSWER_WINDOW, BOND, BUDGET, Ledger, Signatures, refuse
from tests.adversarial.standins import DOMAIN, MODEL

NO_HASH = bytes(32)


class Reader:
    """An `EventReader` that starts at the first event each time, as if the cursor had never been
    stored."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def batches(self) -> AsyncIterator[Batch]:
        seen = 0
        while True:
            events = tuple(self._ledger.events[seen:])
            if events:
                start = Position(seen, None)
                seen += len(events)
                yield Batch(events, self._ledger.block(seen), start, start)
            elif len(self._ledger.events) == seen:
                await self._ledger.changed.wait()


class Rpc:
    """Gas costs nothing here."""

    url = "http://test"

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    async def block(self, tag: int | str) -> Block | None:
        head = self.ledger.head_number()
        number = tag if isinstance(tag, int) else head
        return self.ledger.block(number) if number <= head else None

    async def tip(self) -> int:
        return 0


class Pools:
    """`chain.calls.pools.Pools` of the node with this key."""

    def __init__(self, ledger: Ledger, key: bytes, address: str) -> None:
        self._ledger, self._key, self._address = ledger, key, address

    async def info(self, pool_id: int) -> Pool:
        self._ledger.answer("pools.info")
        creator = self._ledger.creators.get(pool_id)
        known = creator is not None
        terms = PoolTerms(model_id=MODEL.hex(), model="tiny")
        return Pool(
            pool_id=pool_id,
            creator=creator or ZERO_ADDRESS,
            state=PoolState.ACTIVE if known else PoolState.NONE,
            inviter=self._ledger.inviter(pool_id) if known else None,
            created_at=int(known),
            started_at=int(known),
            ended_at=0,
            member_count=sum(pool == pool_id for pool, _ in self._ledger.members),
            compute_units=0,
            domain_id=1,
            settlement=DOMAIN.verifying_contract if known else None,
            name="test",
            uri=terms.to_uri() if known else "",
        )

    async def funds(self, pool_id: int) -> PoolFunds:
        return PoolFunds(
            strategy=Strategy.WORK,
            settlement=DOMAIN.verifying_contract,
            rate=self._ledger.price,
            funded=BUDGET,
            paid=sum(paid for (pool, _), paid in self._ledger.paid.items() if pool == pool_id),
            committed=self._ledger.total(pool_id),
        )

    async def current(self, *, node: str | None = None) -> int | None:
        wanted = node or self._address
        return next((pool for pool, member in self._ledger.members if member == wanted), None)

    async def is_member(self, pool_id: int, node: str) -> bool:
        return (pool_id, node) in self._ledger.members

    async def invite_digest(self, pool_id: int, node: str, deadline: int) -> bytes:
        nonce = self._ledger.invites_used.get((pool_id, node), 0)
        return sha256(f"{pool_id}:{node}:{nonce}:{deadline}".encode()).digest()

    async def sign_invite(self, pool_id: int, node: str, deadline: int) -> bytes:
        return sign_digest(self._key, await self.invite_digest(pool_id, node, deadline))

    async def join(
        self,
        pool_id: int,
        invite_signature: bytes = b"",
        deadline: int = 0,
        *,
        node: str | None = None,
    ) -> TxResult | None:
        member = node or self._address
        if await self.is_member(pool_id, member):
            return None
        digest = await self.invite_digest(pool_id, member, deadline)
        self._ledger.join(pool_id, member, deadline, digest, invite_signature)
        return self._ledger.done()

    async def leave(self, pool_id: int, *, node: str | None = None) -> TxResult | None:
        member = (pool_id, node or self._address)
        if member not in self._ledger.members:
            return None
        self._ledger.members.discard(member)
        return self._ledger.done()

    async def eject(self, pool_id: int, node: str) -> TxResult | None:
        if (pool_id, node) in self._ledger.ejected:
            return None
        if self._ledger.creators.get(pool_id) != self._address:
            refuse("NotCreator", self._address)
        self._ledger.ejected.add((pool_id, node))
        self._ledger.members.discard((pool_id, node))
        return self._ledger.done()


class Nodes:
    """`chain.calls.nodes.Nodes`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def owner_of(self, node: str) -> str | None:
        return self._ledger.owners.get(node)

    async def find(self, address: str) -> NodeRecord | None:
        self._ledger.answer("nodes.find")
        owner = self._ledger.owners.get(address)
        return None if owner is None else NodeRecord(address, owner, 1, False, None)

    async def owners_of(self, nodes: Iterable[str]) -> dict[str, str]:
        self._ledger.answer("nodes.owners_of")
        return {n: self._ledger.owners[n] for n in nodes if n in self._ledger.owners}


class Providers:
    """`chain.calls.providers.Providers`; each has one node."""

    async def nodes_of(self, provider: str) -> list[str]:
        return [provider]

    async def is_backed(self, provider: str) -> bool:
        return True


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
        return SettlementTerms(self._ledger.quorum, self._ledger.window, ANSWER_WINDOW, BOND)

    async def conviction_loss(self, provider: str) -> int:
        return self._ledger.conviction_loss

    async def epochs_of(self, pool_id: int) -> PoolEpochs:
        ledger = self._ledger
        return PoolEpochs(
            epoch=ledger.last(pool_id),
            claimable_at=ledger.claimable_at.get(pool_id, 0),
            open_disputes=ledger.open_disputes(pool_id),
            total_payout=ledger.total(pool_id),
        )

    async def root_hash(self, pool_id: int, epoch: int) -> bytes:
        return self._ledger.standing(pool_id, epoch)

    async def is_final(self, pool_id: int, epoch: int) -> bool:
        return self._ledger.is_final(pool_id, epoch)

    async def post_root(self, root: EpochRoot, signatures: Signatures) -> TxResult | None:
        await trio.lowlevel.checkpoint()
        ledger = self._ledger
        if root.pool_id in ledger.refuse_roots:
            ledger.refused += 1
            raise ChainUnreachable("http://test", "this pool's roots are refused")
        last = ledger.last(root.pool_id)
        if root.epoch > last + 1:
            raise InvalidInput(f"epoch {root.epoch} cannot be posted: the next is {last + 1}")
        if root.epoch <= last:
            if ledger.roots[root.pool_id][root.epoch - 1].root != root:
                raise InvalidInput(f"epoch {root.epoch} is held by another root")
            return None
        ledger.accept_root(root, signatures)
        return self._ledger.done()

    async def convict(self, conviction: Conviction, signatures: Signatures) -> TxResult | None:
        ledger = self._ledger
        if any(
            (c.node, c.job_id) == (conviction.node, conviction.job_id) for c in ledger.convictions
        ):
            return None
        ledger.require_quorum(conviction.digest(DOMAIN), signatures)
        ledger.convictions.append(conviction)
        return self._ledger.done()

    async def claimed(self, pool_id: int, account: str) -> int:
        return self._ledger.paid.get((pool_id, account), 0)

    async def claim_many(self, claims: Sequence[Claim]) -> list[TxResult]:
        ledger = self._ledger
        try:
            paid = self._paid_after(claims)
        except Reverted as exc:
            ledger.refused_claims.append(exc.name)
            raise
        if paid == ledger.paid:
            return []
        ledger.paid.update(paid)  # all or nothing, as the contract's multicall
        return [ledger.done()]

    def _paid_after(self, claims: Sequence[Claim]) -> dict[tuple[int, str], int]:
        ledger, paid = self._ledger, dict(self._ledger.paid)
        for claim in claims:
            root, purse = claim.posted.root, (claim.posted.root.pool_id, claim.account)
            if paid.get(purse, 0) >= claim.cumulative:
                continue
            if ledger.standing(root.pool_id, root.epoch) != claim.posted.hash(DOMAIN):
                refuse("UnknownRoot", root.pool_id, root.epoch)
            if not ledger.is_final(root.pool_id, root.epoch):
                refuse("RootNotFinal", ledger.claimable_at[root.pool_id])
            leaf = payout_leaf(claim.account, claim.cumulative)
            if not verify(root.payouts_root, leaf, claim.proof):
                refuse("InvalidProof")
            paid[purse] = claim.cumulative
        return paid


class Disputes:
    """`chain.calls.disputes.Disputes` of the account `address`."""

    def __init__(self, ledger: Ledger, address: str) -> None:
        self._ledger, self._address = ledger, address
        self._asked: dict[tuple[bytes, int], int] = {}

    async def find(self, dispute_id: int) -> Dispute | None:
        return self._ledger.disputes.get(dispute_id)

    async def dispute_receipt(self, posted: PostedRoot, index: int) -> int:
        question = (posted.hash(DOMAIN), index)
        if question not in self._asked:
            self._asked[question] = self._ledger.open_dispute(posted, index, self._address)
        return self._asked[question]

    async def prove_double_count(
        self,
        posted: PostedRoot,
        leaf: ProvenLeaf,
        receipt: Receipt,
        other_posted: PostedRoot,
        other_leaf: ProvenLeaf,
        other_receipt: Receipt,
    ) -> TxResult | None:
        """Leaves are taken at their word: only what they are receipts for is compared."""
        root = posted.root
        if self._ledger.standing(root.pool_id, root.epoch) != posted.hash(DOMAIN):
            return None
        self._ledger.require_pending(posted)
        if (receipt.job_id, receipt.stage) != (other_receipt.job_id, other_receipt.stage):
            refuse("NotDoubleCounted")
        self._ledger.void(root.pool_id)
        return self._ledger.done()


class Chain:
    """The client of the node with this key."""

    def __init__(self, ledger: Ledger, key: bytes, address: str) -> None:
        self.ledger, self.address = ledger, address
        self.rpc, self.deployment, self.database = Rpc(ledger), None, None
        self.pools = Pools(ledger, key, address)
        self.nodes = Nodes(ledger)
        self.providers = Providers()
        self.validators = Validators(ledger)
        self.settlement = Settlement(ledger)
        self.disputes = Disputes(ledger, address)

    def domain(self, contract: str) -> Domain:
        return DOMAIN

    async def block_hash(self, number: int) -> bytes | None:
        block = await self.rpc.block(number)
        return None if block is None else block.hash
