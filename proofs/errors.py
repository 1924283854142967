"""The one base error of `proofs`.

Whatever this package raises about input derives from `ProofError`, so that a caller can translate
it once. Verdicts about a peer's work are values, never exceptions: an error here means that the
caller, or bytes that were meant to be well-formed, broke a rule of the encoding.
"""

from __future__ import annotations


class ProofError(Exception):
    """Base of every error that `proofs` raises."""
