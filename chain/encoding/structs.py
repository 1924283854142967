"""Conversions between `proofs`' types and the structs that ReceiptSettlement takes and returns.

Pure. Structs go in as tuples whose fields are in the contract's order; where the contract ignores
part of an answer, an empty struct stands for None.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from chain.encoding.hexdata import address_bytes
from proofs.encoding.leaves import PayoutAnswer, PostedRoot, ProvenLeaf, ProvenPayout, SignedReceipt
from proofs.encoding.receipts import EpochRoot, TypedMessage
from proofs.encoding.signing import ZERO_ADDRESS, checksum_address

Struct = tuple[object, ...]

NO_HASH = bytes(32)
_NO_LEAF: Struct = ((0, ZERO_ADDRESS, 0, 0, NO_HASH), [])
_NO_PAYOUT: Struct = (0, [])
_NO_POSTED: Struct = ((0, 0, NO_HASH, NO_HASH, 0, 0, 0, 0, NO_HASH), NO_HASH)


class DisputeKind(IntEnum):
    """What a dispute asks about: a work leaf, a payout leaf, or whether an account gets its due.

    NONE is a dispute that is over, or was never opened.
    """

    NONE = 0
    RECEIPT = 1
    PAYOUT = 2
    OMISSION = 3


@dataclass(frozen=True)
class Dispute:
    """An open question about a posted root.

    `subject` is the leaf's index for RECEIPT, else the account as a number. `amount` (wei) is what
    the leaf grants for PAYOUT, and what the epoch before had granted for OMISSION. `answer_by`
    (Unix s) is the last second for an answer. `root` is the root's hash on chain.
    """

    kind: DisputeKind
    challenger: str
    epoch: int
    answer_by: int
    pool_id: int
    root: bytes
    subject: int
    amount: int

    @property
    def account(self) -> str:
        """The account that a PAYOUT or OMISSION dispute is about."""
        return checksum_address(self.subject.to_bytes(20, "big"))

    @staticmethod
    def from_abi(value: Any) -> Dispute | None:
        """From `ReceiptSettlement.disputeOf`; None when no such dispute is open."""
        if value.kind == DisputeKind.NONE:
            return None
        return Dispute.from_event(value._asdict())

    @staticmethod
    def from_event(value: Any) -> Dispute:
        """From the struct in `DisputeOpened`."""
        return Dispute(
            kind=DisputeKind(value["kind"]),
            challenger=value["challenger"],
            epoch=value["epoch"],
            answer_by=value["answerBy"],
            pool_id=value["poolId"],
            root=bytes(value["root"]),
            subject=value["subject"],
            amount=value["amount"],
        )


@dataclass(frozen=True)
class SettlementTerms:
    """What a settlement contract was deployed with.

    `quorum` is in basis points of the validators' stake, the windows are seconds, `bond` is wei of
    the token.
    """

    quorum: int
    challenge_window: int
    answer_window: int
    bond: int


@dataclass(frozen=True)
class PoolEpochs:
    """How far a pool's settlement has come: see `IReceiptSettlement.PoolEpochs`.

    `epoch` is the last posted one (0 before the first), `claimable_at` (Unix s) the end of its
    challenge window, `total_payout` (wei) what roots have promised so far.
    """

    epoch: int
    claimable_at: int
    open_disputes: int
    total_payout: int

    @staticmethod
    def from_abi(value: Any) -> PoolEpochs:
        """From `ReceiptSettlement.epochsOf`."""
        return PoolEpochs(value.epoch, value.claimableAt, value.openDisputes, value.totalPayout)


def message(value: TypedMessage) -> Struct:
    """A receipt, an epoch root or a conviction."""
    kinds = (kind for kind, _ in value.STRUCT.fields)
    fields = (getattr(value, name) for name in type(value).model_fields)
    return tuple(
        _address(field) if kind == "address" else field
        for kind, field in zip(kinds, fields, strict=True)
    )


def posted_struct(posted: PostedRoot | None) -> Struct:
    """A posted root."""
    return _NO_POSTED if posted is None else (message(posted.root), posted.signers_hash)


def leaf_struct(proven: ProvenLeaf | None) -> Struct:
    """A work leaf with its proof."""
    if proven is None:
        return _NO_LEAF
    leaf = proven.leaf
    fields = (
        leaf.index,
        _address(leaf.account),
        leaf.account_units,
        leaf.epoch_units,
        leaf.receipt,
    )
    return (fields, list(proven.proof))


def payout_struct(payout: ProvenPayout | None) -> Struct:
    """A payout with its proof."""
    return _NO_PAYOUT if payout is None else (payout.cumulative, list(payout.proof))


def signed_struct(signed: SignedReceipt) -> Struct:
    """A receipt with its two signatures."""
    return (message(signed.receipt), signed.worker_signature, signed.counter_signature)


def answer_struct(answer: PayoutAnswer) -> Struct:
    """What shows that a payout is right."""
    return (
        payout_struct(answer.payout),
        payout_struct(answer.previous),
        answer.last is not None,
        leaf_struct(answer.last),
        leaf_struct(answer.next),
    )


def signer_list(posted: PostedRoot) -> list[str]:
    """The signers of a posted root, as addresses that web3 takes."""
    return [_address(signer) for signer in posted.signers]


def root_from_abi(value: Any) -> EpochRoot:
    """The root in `RootPosted`."""
    return EpochRoot(
        pool_id=value["poolId"],
        epoch=value["epoch"],
        receipts_root=bytes(value["receiptsRoot"]),
        payouts_root=bytes(value["payoutsRoot"]),
        receipt_count=value["receiptCount"],
        total_units=value["totalUnits"],
        rate=value["rate"],
        total_payout=value["totalPayout"],
        data_hash=bytes(value["dataHash"]),
    )


def _address(value: str) -> str:
    return checksum_address(address_bytes(value))
