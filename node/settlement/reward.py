"""An account's leaf in a posted root, with everything that a claim needs, as the journal stores it.

The worker role writes it, and claims; `prime-node rewards` reads it, whether or not the node runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from node.journal import JournalEvent
from node.journal.fields import AsBytes, AsDecimal
from node.settlement.history import PostedEpoch
from proofs.encoding.leaves import PostedRoot, ProvenPayout
from proofs.encoding.receipts import EpochRoot

if TYPE_CHECKING:
    from chain.calls.settlement import Claim


class Reward(JournalEvent, kind="chain.reward"):
    """`cumulative` is what the pool's epochs up to this one grant `account` in total, in the
    token's smallest unit; `proof` leads from that leaf to the root's payouts. `transaction` posted
    the root."""

    root: Annotated[EpochRoot, AsBytes()]
    signers: tuple[str, ...]
    account: str
    cumulative: Annotated[int, AsDecimal()]
    proof: tuple[bytes, ...]
    transaction: str

    @classmethod
    def of(cls, entry: PostedEpoch, account: str, payout: ProvenPayout) -> Self:
        """The reward that a posted epoch's payout to `account` is."""
        return cls(
            root=entry.posted.root,
            signers=entry.posted.signers,
            account=account,
            cumulative=payout.cumulative,
            proof=payout.proof,
            transaction=entry.transaction,
        )

    @property
    def key(self) -> str:
        """Pool, epoch, the transaction that posted the root, and account."""
        return f"{self.pool_id}:{self.epoch}:{self.transaction}:{self.account}"

    @property
    def posted(self) -> PostedRoot:
        """The root and its signers, as the contract refers to them."""
        return PostedRoot(self.root, self.signers)

    @property
    def pool_id(self) -> int:
        """The pool that pays."""
        return self.root.pool_id

    @property
    def epoch(self) -> int:
        """Number of the epoch in its pool, 1 for the first."""
        return self.root.epoch

    def to_claim(self) -> Claim:
        """For `ChainClient.claim_many`."""
        from chain.calls.settlement import Claim

        return Claim(self.posted, self.account, self.cumulative, self.proof)
