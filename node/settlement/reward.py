"""An account's leaf in a posted root, with all that claiming takes, as it lies in the journal.

The worker role writes it (kind `chain.reward`), and claims; `prime-node rewards` reads it, whether
or not the node runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from node.journal import Event, JournalError
from proofs.encoding.leaves import PostedRoot
from proofs.encoding.receipts import EpochRoot
from proofs.errors import ProofError

if TYPE_CHECKING:
    from chain.calls.settlement import Claim

REWARD = "chain.reward"


@dataclass(frozen=True)
class Reward:
    """`cumulative` in the token's smallest unit; `transaction` posted the root."""

    posted: PostedRoot
    account: str
    cumulative: int
    proof: tuple[bytes, ...]
    transaction: str = ""

    @property
    def pool_id(self) -> int:
        return self.posted.root.pool_id

    @property
    def epoch(self) -> int:
        return self.posted.root.epoch

    def to_body(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "pool_id": self.pool_id,
            "epoch": self.epoch,
            "account": self.account,
            "cumulative": str(self.cumulative),
            "proof": list(self.proof),
            "root": self.posted.root.to_bytes(),
            "signers": list(self.posted.signers),
            "transaction": self.transaction,
        }

    @staticmethod
    def from_event(event: Event) -> Reward:
        """The reverse of `to_body`. Raises `JournalError` for a body that is not a reward."""
        body: Any = event.body
        try:
            return Reward(
                posted=PostedRoot(EpochRoot.from_bytes(body["root"]), tuple(body["signers"])),
                account=str(body["account"]),
                cumulative=int(body["cumulative"]),
                proof=tuple(bytes(node) for node in body["proof"]),
                transaction=str(body["transaction"]),
            )
        except (KeyError, TypeError, ValueError, ProofError) as exc:
            raise JournalError(f"event {event.id} is no reward: {exc}") from exc

    def to_claim(self) -> Claim:
        """For `ChainClient.claim_many`."""
        from chain.calls.settlement import Claim

        return Claim(self.posted, self.account, self.cumulative, self.proof)
