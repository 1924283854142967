"""Evidence: what a stage keeps of a sequence so that its work can be checked later.

For every row that produced an output token (positions P-1 … P+T-2 of P prompt and T output tokens)
a stage proves the hidden state that it sends on, the last stage the final-norm state. Rows are cast
to bfloat16 and proven in chunks of 32 as they come (`proofs.toploc`), so a finished sequence costs
258 bytes for each 32 tokens, and at most one chunk is held per running sequence.

Proofs cover the largest values of output rows only. So that no other value can be altered between
two stages without one of them having signed for it, running SHA-256 sums go over *everything* that
passes an edge: `received` and `sent` over all rows, prompt included, and at the ring's seam over
tokens: the last stage's `sent` are the tokens that it sampled, stage 0's `returned` the ones that
came back. Neighbours' sums differ only if one of the two lies, and then the kept rows
(`pipeline.engine.evidence.rows`) show which.

A sequence that is rebuilt after a broken ring starts a new collector: its prefill passes through
the same code, so that the evidence always covers the whole output. Tokens known before were not
sampled in this ring; `UNSAMPLED` stands for each of them in both token sums.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch

from pipeline.engine.evidence.rows import RowsBuffer
from proofs.evidence.statement import StageEvidence
from proofs.toploc import CHUNK_ROWS, build_chunk_proof

UNSAMPLED = b"\xff\xff\xff\xff"


def token_bytes(proven: int, token: int | None) -> bytes:
    """What the last stage's `sent` gets for an item with `proven` output rows: a u32 for each.

    Only an item's last row can be sampled; `token` is what came of it, None if it was not.
    """
    if token is None:
        return UNSAMPLED * proven
    return UNSAMPLED * (proven - 1) + token.to_bytes(4, "little")


class ReturnedTokens:
    """The running sum over the tokens that came back to stage 0.

    Output token i is the id that is fed after output row i, so the sum follows from the ids of the
    items; only the last token, which is never fed, must be told.
    """

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        self._rows = 0
        self._sampled = False

    def feed(self, ids: memoryview, proven: int, sampled: bool) -> None:
        """The next item: all its ids (u32, as bytes), how many of its rows are outputs, and whether
        the last one is sampled."""
        answers = proven if self._rows else max(0, proven - 1)
        self._rows += proven
        if answers:
            # The first one answers the row before it, the others rows within this item.
            at = len(ids) - 4 * answers
            first = ids[at : at + 4] if self._sampled else UNSAMPLED
            self._sum.update(first)
            self._sum.update(UNSAMPLED * (answers - 1))
        self._sampled = sampled

    def finish(self, last_token: int) -> bytes:
        """The digest of a complete output that ends in `last_token`."""
        self._sum.update(last_token.to_bytes(4, "little") if self._sampled else UNSAMPLED)
        return self._sum.digest()


class Collector:
    """Evidence of one sequence in the making.

    Args:
        terms: how the tokens are to be picked (`proofs.evidence.ring_terms`).
        returned: stage 0's sum over the tokens that come back; None in other stages.
        kept: where the received rows are held until the sequence is sealed; None keeps none.
        prove: gives the TOPLOC proof of a chunk, bf16 [1..32, H].
        kernel_class: the arithmetic that the stage computes with.
        final: whether this is the last stage, whose rows that give tokens are hashed.
    """

    def __init__(
        self,
        sequence_id: bytes,
        hidden_size: int,
        terms: bytes,
        *,
        returned: ReturnedTokens | None = None,
        kept: RowsBuffer | None = None,
        prove: Callable[[torch.Tensor], bytes] = build_chunk_proof,
        kernel_class: str = "",
        final: bool = False,
    ) -> None:
        self.kept = kept
        self._sequence_id = sequence_id
        self._terms = terms
        self._unsampled = 0
        self._returned = returned
        self._prove_chunk = prove
        self._kernel_class = kernel_class
        self._final = hashlib.sha256() if final else None
        self._chunk = torch.empty(CHUNK_ROWS, hidden_size, dtype=torch.bfloat16)
        self._filled = 0
        self._rows = 0
        self._proofs: list[bytes] = []
        self._sent = hashlib.sha256()
        self._received = hashlib.sha256()

    def add(
        self,
        proven: torch.Tensor,
        sent: memoryview | bytes,
        received: memoryview,
        sampled: bool,
        final: memoryview | bytes = b"",
    ) -> None:
        """Take the next item.

        Args:
            proven: its output rows, bf16 [n >= 0, H] on the CPU and finite.
            sent: raw bytes of all its rows as sent; in the last stage `token_bytes`.
            received: raw bytes of all its rows as received; in stage 0 its ids as u32.
            sampled: whether its last row gives a token.
            final: in the last stage, raw bytes of its output rows.
        """
        self._sent.update(sent)
        self._received.update(received)
        if self._final is not None:
            self._final.update(final)
        if self.kept is not None:
            self.kept.add(received)
        if self._returned is not None:
            self._returned.feed(received, len(proven), sampled)
        self._rows += len(proven)
        self._unsampled += len(proven) - sampled
        while len(proven):
            taken = min(len(proven), CHUNK_ROWS - self._filled)
            self._chunk[self._filled : self._filled + taken] = proven[:taken]
            self._filled += taken
            proven = proven[taken:]
            if self._filled == CHUNK_ROWS:
                self._prove()

    def seal(self, last_token: int) -> StageEvidence:
        """Prove the last, ragged chunk and give the evidence of an output ending in that token."""
        if self._filled:
            self._prove()
        return StageEvidence(
            sequence_id=self._sequence_id,
            rows=self._rows,
            proofs=tuple(self._proofs),
            sent=self._sent.digest(),
            received=self._received.digest(),
            terms=self._terms,
            returned=b"" if self._returned is None else self._returned.finish(last_token),
            sampled_from=self._unsampled,
            kernel_class=self._kernel_class,
            final=b"" if self._final is None else self._final.digest(),
        )

    def _prove(self) -> None:
        self._proofs.append(self._prove_chunk(self._chunk[: self._filled]))
        self._filled = 0
