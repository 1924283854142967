"""TOPLOC v1: locality-sensitive proofs of hidden states.

The first group is the drop-in API of the published package; the second is what a node uses, chunk
by chunk or a sequence at a time. Importing this package imports torch.
"""

from __future__ import annotations

from proofs.toploc.api import (
    ProofCountError,
    VerificationResult,
    build_proofs,
    build_proofs_base64,
    build_proofs_bytes,
    verify_proofs,
    verify_proofs_base64,
    verify_proofs_bytes,
)
from proofs.toploc.chunks import (
    CHUNK_ROWS,
    TOPK,
    ChunkResult,
    build_chunk_proof,
    build_chunk_proofs,
    build_row_proofs,
    build_sequence_proofs,
    measure_chunk,
    measure_rows,
    measure_sequences,
)
from proofs.toploc.poly import (
    MalformedProofError,
    ProofPoly,
    find_injective_modulus,
)
from proofs.toploc.topk import ProofInputError

__all__ = [
    "CHUNK_ROWS",
    "TOPK",
    "ChunkResult",
    "MalformedProofError",
    "ProofCountError",
    "ProofInputError",
    "ProofPoly",
    "VerificationResult",
    "build_chunk_proof",
    "build_chunk_proofs",
    "build_proofs",
    "build_proofs_base64",
    "build_proofs_bytes",
    "build_row_proofs",
    "build_sequence_proofs",
    "find_injective_modulus",
    "measure_chunk",
    "measure_rows",
    "measure_sequences",
    "verify_proofs",
    "verify_proofs_base64",
    "verify_proofs_bytes",
]
