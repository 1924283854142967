"""The leaves of an epoch's trees, and how one refers to them on chain.

These mirror the structs of `IReceiptSettlement`; field order and types are those of the contract.
Of a posted root the chain keeps one hash, so whoever refers to a root brings all of it, as a
`PostedRoot`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proofs.encoding.eip712 import Domain, word
from proofs.encoding.receipts import EpochRoot, Receipt
from proofs.encoding.signing import address_bytes, keccak256

Proof = tuple[bytes, ...]


@dataclass(frozen=True)
class WorkLeaf:
    """A receipt as a numbered leaf of its epoch.

    `account_units` and `epoch_units` are running sums up to and with this leaf, `receipt` is the
    receipt's EIP-712 digest.
    """

    index: int
    account: str
    account_units: int
    epoch_units: int
    receipt: bytes

    def hash(self) -> bytes:
        """As StandardMerkleTree hashes (uint64, address, uint128, uint128, bytes32)."""
        encoded = (
            word("uint64", self.index)
            + word("address", self.account)
            + word("uint128", self.account_units)
            + word("uint128", self.epoch_units)
            + word("bytes32", self.receipt)
        )
        return keccak256(keccak256(encoded))


@dataclass(frozen=True)
class ProvenLeaf:
    """A work leaf with its proof into the receipts' root."""

    leaf: WorkLeaf
    proof: Proof


@dataclass(frozen=True)
class ProvenPayout:
    """What a payouts' root grants a known account in total (wei), with the proof."""

    cumulative: int
    proof: Proof


@dataclass(frozen=True)
class SignedReceipt:
    """A receipt with the worker's and the counterparty's signature, 65 bytes each."""

    receipt: Receipt
    worker_signature: bytes
    counter_signature: bytes

    def valid(self, domain: Domain) -> bool:
        """Whether two different parties signed it."""
        receipt = self.receipt
        return (
            receipt.worker != receipt.counterparty
            and receipt.signed_by(receipt.worker, domain, self.worker_signature)
            and receipt.signed_by(receipt.counterparty, domain, self.counter_signature)
        )


@dataclass(frozen=True)
class PayoutAnswer:
    """What shows that an account's payout is right: see `IReceiptSettlement.PayoutAnswer`.

    `previous` is None where the account had no payout before, `last` where all work leaves belong
    to accounts above it, `next` where `last` is the epoch's last leaf.
    """

    payout: ProvenPayout
    previous: ProvenPayout | None
    last: ProvenLeaf | None
    next: ProvenLeaf | None


@dataclass(frozen=True)
class PostedRoot:
    """A root with the validators who signed it, as it stands on chain."""

    root: EpochRoot
    signers: tuple[str, ...]

    @property
    def signers_hash(self) -> bytes:
        """keccak256(abi.encode(address[] signers)); the signers ascend."""
        words = b"".join(word("address", signer) for signer in self.signers)
        return keccak256(word("uint256", 32) + word("uint256", len(self.signers)) + words)

    def hash(self, domain: Domain) -> bytes:
        """What `ReceiptSettlement.rootHash` holds for the epoch."""
        return keccak256(self.root.digest(domain) + self.signers_hash)


def ascending(signers: Sequence[str]) -> tuple[str, ...]:
    """Addresses in the order in which the contract takes signatures."""
    return tuple(sorted(signers, key=address_bytes))
