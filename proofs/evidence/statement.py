"""What one stage says about the sequences of a unit, and the one commitment that it signs.

A stage makes one statement about a sequence, when it is finished: proofs of the rows that gave
tokens, and hashes of everything that came in and went out. The statements of a unit are leaves of a
Merkle tree; the root is in the stage's receipt, which the stage signs and its downstream neighbour
countersigns. So one signature of each, off the token path, covers every hand-over of a unit, and a
single statement can be shown to others with a path of hashes.

Signing after the fact loses nothing: an honest stage countersigns only if what its neighbour says
it sent is what came in here, hash for hash, so whoever sent other rows than it signs for gets no
countersignature and no pay. A signature on every step could prove no more, since nothing proves
what an unsigned packet held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

import msgpack
from pydantic import FailFast, Field, model_validator

from proofs.encoding.canonical import CanonicalModel
from proofs.encoding.fields import Count, Digest, Id16
from proofs.encoding.merkle import MerkleTree
from proofs.encoding.signing import tagged_hash

NOT_SAMPLED = 0xFFFFFFFF
"""Stands in a token hash for a token that came from an earlier generation of the group."""

Proofs = Annotated[
    tuple[Annotated[bytes, Field(max_length=4096)], ...], FailFast(), Field(max_length=1 << 16)
]
KernelClass = Annotated[str, Field(max_length=64, pattern=r"^[0-9a-z.-]*$")]


class StageEvidence(CanonicalModel):
    """What one stage proves about one sequence of P prompt and T output tokens.

    `rows` rows gave an output token each and are proven in `proofs` of 32 rows, the last ragged.
    `sent` and `received` are sha256 over all rows of positions 0 .. P+T-2, in wire dtype, as they
    went downstream and as they came in. Where tokens travel instead of rows: stage 0's `received`
    is over the input ids (`input_digest`), the last stage's `sent` over the tokens that it sampled
    from output index `sampled_from` on (`token_digest`), and stage 0's `returned` over the same as
    they came back to it. `returned` is empty for every other stage. `sampled_from` and `terms`, how
    tokens were to be picked (`proofs.evidence.ring_terms`), are as this stage was told.
    `kernel_class` names the arithmetic that it computed with (`pipeline.runner.kernel_class`).
    `final` is the last stage's: sha256 over the rows that gave tokens, after the final norm, in the
    compute dtype; empty for every other stage.
    """

    sequence_id: Id16
    rows: Count
    proofs: Proofs
    sent: Digest
    received: Digest
    terms: Digest = bytes(32)
    returned: Annotated[bytes, Field(max_length=32)] = b""
    sampled_from: Count = 0
    kernel_class: KernelClass = ""
    final: Annotated[bytes, Field(max_length=32)] = b""

    @model_validator(mode="after")
    def _whole_digest(self) -> StageEvidence:
        if len(self.returned) not in (0, 32) or len(self.final) not in (0, 32):
            raise ValueError("returned and final must be empty or 32 bytes")
        return self


def evidence_commitment(evidence: Sequence[StageEvidence]) -> bytes:
    """What a receipt commits to, 32 bytes: the number of statements and their Merkle root.

    Leaf i is a tagged hash over i (u32, big-endian) and the statement's MessagePack map; the tree
    is `MerkleTree` with ordered leaves, and zeros stand for the root of none.
    """
    leaves = [
        tagged_hash("evidence-leaf/3", index.to_bytes(4, "big") + msgpack.packb(item.model_dump()))
        for index, item in enumerate(evidence)
    ]
    root = MerkleTree.of(leaves, ordered=True).root if leaves else bytes(32)
    return tagged_hash("evidence/2", len(leaves).to_bytes(4, "big") + root)


def input_digest(prompt_ids: Sequence[int], output_ids: Sequence[int]) -> bytes:
    """What an honest stage 0 has as `received`: all ids that it embedded, u32 little-endian.

    These are the prompt and all output tokens but the last, so stage 0's signed evidence fixes the
    prompt and the output up to its last token.
    """
    return _digest((*prompt_ids, *output_ids[:-1]))


def token_digest(output_ids: Sequence[int], sampled_from: int) -> bytes:
    """What an honest last stage has as `sent`: T ids, u32 little-endian, `NOT_SAMPLED` standing for
    those before `sampled_from`."""
    known = min(sampled_from, len(output_ids))
    return _digest((*(NOT_SAMPLED,) * known, *output_ids[known:]))


def _digest(ids: Sequence[int]) -> bytes:
    return hashlib.sha256(b"".join(token.to_bytes(4, "little") for token in ids)).digest()
