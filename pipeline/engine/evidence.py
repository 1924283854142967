"""Evidence: what a stage keeps of a sequence so that its work can be checked later.

For every row that produced an output token (positions P-1 … P+T-2 of P prompt and T output tokens)
a stage proves the hidden state that it sends on, the last stage the final-norm state. Rows are cast
to bfloat16 and proven in chunks of 32 as they come (`proofs.toploc`), so a finished sequence costs
258 bytes for each 32 tokens, and at most one chunk is held per running sequence. Two running
SHA-256 sums, over rows sent and rows received, let neighbours show who altered a tensor in between.

A sequence that is rebuilt after a broken ring starts a new collector: its prefill passes through
the same code, so that the evidence always covers the whole output.
"""

from __future__ import annotations

import hashlib

import torch

from pipeline.engine.messages import StageEvidence
from proofs.toploc import CHUNK_ROWS, build_chunk_proof


class Collector:
    """Evidence of one sequence in the making. `null_proofs` is the fault of that name."""

    def __init__(self, sequence_id: bytes, hidden_size: int, *, null_proofs: bool = False) -> None:
        self._sequence_id = sequence_id
        self._null_proofs = null_proofs
        self._chunk = torch.empty(CHUNK_ROWS, hidden_size, dtype=torch.bfloat16)
        self._filled = 0
        self._rows = 0
        self._proofs: list[bytes] = []
        self._sent = hashlib.sha256()
        self._received = hashlib.sha256()

    def add(self, rows: torch.Tensor, sent: memoryview, received: memoryview) -> None:
        """Take the next proven rows, bf16 [n, H] on the CPU and finite, and their raw bytes as sent
        and received."""
        self._sent.update(sent)
        self._received.update(received)
        self._rows += len(rows)
        while len(rows):
            taken = min(len(rows), CHUNK_ROWS - self._filled)
            self._chunk[self._filled : self._filled + taken] = rows[:taken]
            self._filled += taken
            rows = rows[taken:]
            if self._filled == CHUNK_ROWS:
                self._prove()

    def seal(self) -> StageEvidence:
        """Prove the last, ragged chunk and give the evidence."""
        if self._filled:
            self._prove()
        return StageEvidence(
            sequence_id=self._sequence_id,
            rows=self._rows,
            proofs=tuple(self._proofs),
            sent=self._sent.digest(),
            received=self._received.digest(),
        )

    def _prove(self) -> None:
        proof = build_chunk_proof(self._chunk[: self._filled])
        self._proofs.append(bytes(len(proof)) if self._null_proofs else proof)
        self._filled = 0
