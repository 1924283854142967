"""A stand-in for the chain's contracts, without any I/O: their state, their rules, their events.

The rules are those of `contracts/src` as far as roles meet them, and refusals have the contracts'
names; `tests/conformance/test_chain_client.py` holds both to the same tests. `ledger_client` has
the client and the reader that roles see.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NoReturn

import trio

from chain.encoding.records import Block
from chain.encoding.structs import Dispute, DisputeKind
from chain.errors import ChainUnreachable, Reverted
from chain.events.reader import ChainEvent
from chain.transactions.manager import TxResult
from proofs.encoding.leaves import PostedRoot, ascending
from proofs.encoding.receipts import Conviction, EpochRoot
from proofs.encoding.signing import signed_by
from proofs.settlement.epoch import rate_is_fair
from tests.adversarial.standins import DOMAIN, PRICE

Signatures = Sequence[tuple[str, bytes]]
BUDGET = 10**24
ANSWER_WINDOW = 60
BOND = 1


def refuse(name: str, *args: object) -> NoReturn:
    """As a contract does, with its custom error."""
    raise Reverted(name, args, b"")


@dataclass
class Ledger:
    """The contracts' state, shared by the clients of all nodes of a test.

    `creators` and `open_pools` are the pools there are, and those that need no invite; `weights`
    are the validators' stakes, `owners` the providers of nodes. `window` (seconds) is how long a
    root can be disputed, `ahead` (seconds) how far the chain's clock is before this machine's.
    Reads named in `silent` (`validators.weight_of`) fail as if the endpoint were down; pools in
    `refuse_roots` take no roots.
    """

    creators: dict[int, str] = field(default_factory=dict)
    open_pools: set[int] = field(default_factory=set)
    members: set[tuple[int, str]] = field(default_factory=set)
    ejected: set[tuple[int, str]] = field(default_factory=set)
    invites_used: dict[tuple[int, str], int] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    roots: dict[int, list[PostedRoot]] = field(default_factory=dict)
    claimable_at: dict[int, int] = field(default_factory=dict)
    voided: set[bytes] = field(default_factory=set)
    disputes: dict[int, Dispute] = field(default_factory=dict)
    paid: dict[tuple[int, str], int] = field(default_factory=dict)
    convictions: list[Conviction] = field(default_factory=list)
    refused_claims: list[str] = field(default_factory=list)
    """Why claims were refused, by the names of the contracts' errors."""
    refuse_roots: set[int] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    quorum: int = 6_667
    window: int = 0
    ahead: int = 0
    conviction_loss: int = 0
    """What a conviction takes of anybody's stake, wei."""
    price: int = PRICE
    """What pools pay for a unit of work, wei."""
    head: int | None = None
    """Number of the newest block; None: one block for every event."""
    beacon: bytes = bytes(32)
    """Every block's hash."""
    posts: int = 0
    refused: int = 0
    events: list[ChainEvent] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)

    def answer(self, read: str) -> None:
        """Raises ChainUnreachable while `read` is silent."""
        if read in self.silent:
            raise ChainUnreachable("http://test", f"{read} is not answered in this test")

    def done(self) -> TxResult:
        """What a transaction that changed something gives."""
        number = len(self.events)
        return TxResult(sha256(b"%d" % number).digest(), number, 21_000, True)

    def now(self) -> int:
        """The chain's clock, Unix seconds."""
        return int(time.time()) + self.ahead

    def block(self, number: int) -> Block:
        return Block(
            number=number, hash=self.beacon, parent_hash=bytes(32), timestamp=self.now(), base_fee=0
        )

    def head_number(self) -> int:
        return len(self.events) if self.head is None else self.head

    # -- pools ---------------------------------------------------------------------------------

    def inviter(self, pool_id: int) -> str | None:
        """Whose invite a pool asks for; None where it asks for none."""
        return None if pool_id in self.open_pools else self.creators[pool_id]

    def join(self, pool_id: int, node: str, deadline: int, digest: bytes, invite: bytes) -> None:
        """As `ComputePool.join`; `digest` is what the invite signs."""
        if pool_id not in self.creators:
            refuse("WrongPoolState", pool_id, 0)
        if (pool_id, node) in self.ejected:
            refuse("NodeEjected", pool_id, node)
        inviter = self.inviter(pool_id)
        if inviter is not None:
            if self.now() > deadline:
                refuse("InviteExpired", deadline)
            if not signed_by(inviter, digest, invite):
                refuse("InvalidInvite", inviter)
            self.invites_used[pool_id, node] = self.invites_used.get((pool_id, node), 0) + 1
        if any(member == node for _, member in self.members):
            refuse("NodeInPool", node)
        self.members.add((pool_id, node))

    # -- roots ---------------------------------------------------------------------------------

    def last(self, pool_id: int) -> int:
        """The pool's last posted epoch; 0 before the first."""
        return len(self.roots.get(pool_id, ()))

    def root_of(self, pool_id: int) -> EpochRoot | None:
        roots = self.roots.get(pool_id)
        return roots[-1].root if roots else None

    def standing(self, pool_id: int, epoch: int) -> bytes:
        """Hash of the root that stands for an epoch; zeros where none does."""
        roots = self.roots.get(pool_id, ())
        return roots[epoch - 1].hash(DOMAIN) if 1 <= epoch <= len(roots) else bytes(32)

    def total(self, pool_id: int) -> int:
        """Wei that roots of the pool have promised."""
        root = self.root_of(pool_id)
        return 0 if root is None else root.total_payout

    def open_disputes(self, pool_id: int) -> int:
        standing = self.standing(pool_id, self.last(pool_id))
        return sum(dispute.root == standing for dispute in self.disputes.values())

    def is_final(self, pool_id: int, epoch: int) -> bool:
        last = self.last(pool_id)
        if not 1 <= epoch <= last:
            return False
        over = self.now() >= self.claimable_at[pool_id] and not self.open_disputes(pool_id)
        return epoch < last or over

    def require_quorum(self, digest: bytes, signatures: Signatures) -> None:
        """As every quorum is checked: two thirds of all stake, each signature a validator's."""
        for address, signature in signatures:
            if not signed_by(address, digest, signature) or not self.weights.get(address):
                refuse("NotValidator", address)
        weight = sum(self.weights[address] for address, _ in signatures)
        needed = -(-sum(self.weights.values()) * self.quorum // 10_000)
        if weight < needed or not weight:
            refuse("QuorumNotMet", weight, needed)

    def accept_root(self, root: EpochRoot, signatures: Signatures) -> None:
        """As `ReceiptSettlement.postRoot`; the epoch is the next one."""
        last, total = self.last(root.pool_id), self.total(root.pool_id)
        if last and not self.is_final(root.pool_id, last):
            refuse("RootNotFinal", self.claimable_at[root.pool_id])
        if not rate_is_fair(root.rate, PRICE, BUDGET - total, root.total_units):
            refuse("WrongRate", root.rate, PRICE)
        if root.total_payout != total + root.total_units * root.rate:
            refuse("WrongTotalPayout", root.total_payout)
        digest = root.digest(DOMAIN)
        if digest in self.voided:
            refuse("RootWasVoided", digest)
        self.require_quorum(digest, signatures)
        self.post(root, [address for address, _ in signatures])

    def post(self, root: EpochRoot, signers: Iterable[str]) -> None:
        """Let a root stand, whoever signed it."""
        posted = PostedRoot(root, ascending(list(signers)))
        self.roots.setdefault(root.pool_id, []).append(posted)
        self.claimable_at[root.pool_id] = self.now() + self.window
        self.posts += 1
        self.emit(
            "RootPosted",
            root=root_fields(root),
            signers=list(posted.signers),
            claimableAt=self.claimable_at[root.pool_id],
        )

    def void(self, pool_id: int) -> None:
        """Take the newest root away, as an upheld dispute does."""
        posted = self.roots[pool_id].pop()
        self.voided.add(posted.root.digest(DOMAIN))
        self.claimable_at[pool_id] = 0
        self.emit("RootVoided", poolId=pool_id, epoch=posted.root.epoch)

    def require_pending(self, posted: PostedRoot) -> None:
        root = posted.root
        if self.standing(root.pool_id, root.epoch) != posted.hash(DOMAIN):
            refuse("UnknownRoot", root.pool_id, root.epoch)
        if self.is_final(root.pool_id, root.epoch):
            refuse("RootIsFinal", root.pool_id, root.epoch)

    def open_dispute(self, posted: PostedRoot, index: int, challenger: str) -> int:
        """Ask for a leaf of a pending root."""
        root = posted.root
        if index >= root.receipt_count:
            refuse("NoSuchLeaf", index, root.receipt_count)
        self.require_pending(posted)
        dispute = Dispute(
            kind=DisputeKind.RECEIPT,
            challenger=challenger,
            epoch=root.epoch,
            answer_by=self.now() + ANSWER_WINDOW,
            pool_id=root.pool_id,
            root=posted.hash(DOMAIN),
            subject=index,
            amount=0,
        )
        number = len(self.disputes) + 1
        self.disputes[number] = dispute
        self.emit("DisputeOpened", disputeId=number, dispute=dispute_fields(dispute))
        return number

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


def dispute_fields(dispute: Dispute) -> dict[str, Any]:
    """As an event has them."""
    return {
        "kind": int(dispute.kind),
        "challenger": dispute.challenger,
        "epoch": dispute.epoch,
        "answerBy": dispute.answer_by,
        "poolId": dispute.pool_id,
        "root": dispute.root,
        "subject": dispute.subject,
        "amount": dispute.amount,
    }
