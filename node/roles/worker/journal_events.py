"""What a worker writes to its journal, one class for each kind.

`EvidenceSaid` and `ReceiptSigned` are kept while their generation lasts (`generations.py`), a pool
joined for as long as there may be something to claim in it: joining one costs a transaction.
"""

from __future__ import annotations

from typing import Annotated

from node.journal import JournalEvent
from node.journal.fields import AsBytes
from proofs.encoding.receipts import Receipt

GENERATIONS = "worker.generations"
"""State: the newest generation that was served in each pool, as pairs."""


class PoolJoined(JournalEvent, kind="self.joined"):
    """This node works in a pool; its epochs are looked at from then on."""

    pool_id: int

    @property
    def key(self) -> str:
        """The pool."""
        return str(self.pool_id)


class EvidenceSaid(JournalEvent, kind="self.evidence"):
    """The evidence that this node stands by: of a unit, in one generation of its group.
    `commitment` is `evidence_commitment` of it, 32 bytes."""

    unit_id: bytes
    group_id: bytes
    generation: int
    stage: int
    commitment: bytes

    @property
    def key(self) -> str:
        """The unit and the generation."""
        return f"{self.unit_id.hex()}:{self.generation}"


class ReceiptSigned(JournalEvent, kind="self.receipt"):
    """The receipt that this node signs for a unit."""

    receipt: Annotated[Receipt, AsBytes()]

    @property
    def key(self) -> str:
        """The unit, the generation and the stage."""
        return f"{self.receipt.job_id.hex()}:{self.receipt.seq}:{self.receipt.stage}"
