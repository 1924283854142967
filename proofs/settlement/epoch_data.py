"""The data behind an epoch root, published under its hash.

Anyone who has these bytes can rebuild both trees, find an account's leaf, check every signature and
sum, and answer or raise a dispute. The order is part of the content: receipts by account and
digest, payouts by account. `rebuild` recomputes leaves and trees; that they are the posted ones is
for the caller to compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal

from pydantic import FailFast, Field, PlainSerializer
from pydantic.functional_validators import BeforeValidator

from proofs.encoding.canonical import CanonicalModel
from proofs.encoding.eip712 import Domain
from proofs.encoding.leaves import PayoutAnswer, ProvenLeaf, ProvenPayout, SignedReceipt, WorkLeaf
from proofs.encoding.merkle import MerkleTree, payout_leaf
from proofs.encoding.receipts import EncodedReceipt, EpochRoot, Uint64, Uint256
from proofs.encoding.signing import Address, Signature, address_bytes
from proofs.errors import ProofError

MAX_RECEIPTS = 1 << 14
MAX_ACCOUNTS = 1 << 14
MAX_DATA_BYTES = 12 * 2**20


class EpochDataError(ProofError):
    """Published data of which no trees can be made; the message says why."""


def _wide_from(value: object) -> object:
    return int.from_bytes(value, "big") if isinstance(value, bytes) and len(value) == 32 else value


Wide = Annotated[
    Uint256, BeforeValidator(_wide_from), PlainSerializer(lambda value: value.to_bytes(32, "big"))
]
"""MessagePack integers end at 64 bits; a wide one travels as 32 bytes, big-endian."""


class PaidReceipt(CanonicalModel):
    """A two-signed receipt and the account that it pays."""

    account: Address
    receipt: EncodedReceipt
    worker_signature: Signature
    counter_signature: Signature

    @property
    def signed(self) -> SignedReceipt:
        """The receipt as disputes and answers take it."""
        return SignedReceipt(self.receipt, self.worker_signature, self.counter_signature)


class PaidAccount(CanonicalModel):
    """What an account has earned in the pool since its beginning, wei."""

    account: Address
    cumulative: Wide


class EpochData(CanonicalModel):
    """The receipts of one epoch and the payouts after it. `rate` is wei a unit.

    The contract never takes a root again that was voided, so what is right but was withheld, or
    cancelled, needs another root: `attempt` makes one of the same content.
    """

    MAX_BYTES: ClassVar[int] = MAX_DATA_BYTES

    version: Literal[1] = 1
    pool_id: Uint64
    epoch: Uint64
    attempt: Uint64 = 0
    rate: Wide
    receipts: Annotated[
        tuple[PaidReceipt, ...], FailFast(), Field(min_length=1, max_length=MAX_RECEIPTS)
    ]
    payouts: Annotated[
        tuple[PaidAccount, ...], FailFast(), Field(min_length=1, max_length=MAX_ACCOUNTS)
    ]


def data_hash(data: bytes) -> bytes:
    """The hash under which published bytes are found: their sha256."""
    return hashlib.sha256(data).digest()


@dataclass(frozen=True)
class Epoch:
    """An epoch with its leaves and trees. `content` is the published bytes."""

    data: EpochData
    content: bytes
    leaves: tuple[WorkLeaf, ...]
    root: EpochRoot

    @property
    def earned(self) -> dict[str, int]:
        """Cumulative payout by account: what the next epoch starts from."""
        return {item.account: item.cumulative for item in self.data.payouts}

    @property
    def work(self) -> tuple[tuple[bytes, int], ...]:
        """(job id, stage) of every leaf, in order: what must not be paid again."""
        return tuple((item.receipt.job_id, item.receipt.stage) for item in self.data.receipts)

    @cached_property
    def receipts_tree(self) -> MerkleTree:
        """The tree over the work leaves, in their order."""
        return MerkleTree.of([leaf.hash() for leaf in self.leaves], ordered=True)

    @cached_property
    def payouts_tree(self) -> MerkleTree:
        """The tree over (account, cumulative payout), sorted by hash."""
        return MerkleTree.of([payout_leaf(i.account, i.cumulative) for i in self.data.payouts])

    def leaf(self, index: int) -> ProvenLeaf:
        """Work leaf `index` with its proof. Raises MerkleError when there is none."""
        return ProvenLeaf(self.leaves[index], self.receipts_tree.proof(index))

    def payout(self, account: str) -> ProvenPayout | None:
        """The account's payout with its proof, if it has ever earned anything."""
        index = self._payout_index.get(account)
        if index is None:
            return None
        return ProvenPayout(self.data.payouts[index].cumulative, self.payouts_tree.proof(index))

    def payouts_of(self, account: str) -> list[ProvenPayout]:
        """All payouts under the account's name; an honest epoch has one at most."""
        return [
            ProvenPayout(item.cumulative, self.payouts_tree.proof(index))
            for index, item in enumerate(self.data.payouts)
            if item.account == account
        ]

    def units_of(self, account: str) -> int:
        """Units of the account in this epoch."""
        return self.units.get(account, 0)

    @cached_property
    def units(self) -> Mapping[str, int]:
        """Units by account in this epoch."""
        found: dict[str, int] = {}
        for item in self.data.receipts:
            found[item.account] = found.get(item.account, 0) + item.receipt.units
        return found

    def answer(self, account: str, previous: Epoch | None) -> PayoutAnswer:
        """What shows on chain that the account's payout, or its having none, is right."""
        payout = self.payout(account) or ProvenPayout(0, ())
        wanted = address_bytes(account)
        following = next(
            (leaf.index for leaf in self.leaves if address_bytes(leaf.account) > wanted), None
        )
        last = len(self.leaves) - 1 if following is None else following - 1
        return PayoutAnswer(
            payout,
            None if previous is None else previous.payout(account),
            self.leaf(last) if last >= 0 else None,
            None if following is None else self.leaf(following),
        )

    @cached_property
    def _payout_index(self) -> dict[str, int]:
        return {item.account: index for index, item in enumerate(self.data.payouts)}


def make(data: EpochData, domain: Domain) -> Epoch:
    """The trees of `data`. Raises EpochDataError where two leaves are equal or a sum is too large,
    CanonicalError where it has more than `MAX_DATA_BYTES`."""
    return _build(data, data.to_bytes(), domain)


def rebuild(content: bytes, domain: Domain) -> Epoch:
    """The trees of published bytes. Raises EpochDataError or CanonicalError."""
    return _build(EpochData.from_bytes(content), content, domain)


def _build(data: EpochData, content: bytes, domain: Domain) -> Epoch:
    leaves: list[WorkLeaf] = []
    account, account_units, epoch_units = "", 0, 0
    for index, item in enumerate(data.receipts):
        units = item.receipt.units
        account_units = units + (account_units if item.account == account else 0)
        account, epoch_units = item.account, epoch_units + units
        digest = item.receipt.digest(domain)
        leaves.append(WorkLeaf(index, account, account_units, epoch_units, digest))
    try:
        receipts_root = MerkleTree.of([leaf.hash() for leaf in leaves], ordered=True).root
        payouts = [payout_leaf(item.account, item.cumulative) for item in data.payouts]
        root = EpochRoot(
            pool_id=data.pool_id,
            epoch=data.epoch,
            receipts_root=receipts_root,
            payouts_root=MerkleTree.of(payouts).root,
            receipt_count=len(leaves),
            total_units=epoch_units,
            rate=data.rate,
            total_payout=sum(item.cumulative for item in data.payouts),
            data_hash=data_hash(content),
        )
    except ProofError as exc:
        raise EpochDataError(str(exc)) from exc
    except ValueError as exc:  # pydantic: a sum beyond its type
        raise EpochDataError("a sum of units or payouts is too large") from exc
    return Epoch(data, content, tuple(leaves), root)
