"""Bodies about what was done: claims, countersignatures, proof bundles and verdicts."""

from __future__ import annotations

from typing import Annotated

from pydantic import FailFast, Field

from node.wire.messages.fields import MAX_BUNDLE, U64, Body, Signature, StageRef
from proofs.encoding.fields import Id16, Id32


class ClaimRequest(Body):
    """Ask a stage for what it proves and is owed for a unit of `token_count` tokens, prompts
    included, to be paid in `epoch`."""

    ref: StageRef
    unit_id: Id32
    epoch: U64
    sequence_ids: Annotated[tuple[Id16, ...], FailFast(), Field(min_length=1, max_length=1024)]
    token_count: U64


class ClaimAnswer(Body):
    """`claim` is the canonical bytes of `proofs.evidence.bundle.StageClaim`."""

    claim: Annotated[bytes, Field(max_length=MAX_BUNDLE)]


class CountersignRequest(Body):
    """`claim` is the canonical bytes of the asking stage's `proofs.evidence.bundle.StageClaim`,
    complete but for the signature that is asked for."""

    ref: StageRef
    claim: Annotated[bytes, Field(max_length=MAX_BUNDLE)]


class Countersigned(Body):
    """A signature over what was asked about."""

    signature: Signature


class Forget(Body):
    """Sequences whose evidence is no longer needed."""

    ref: StageRef
    sequence_ids: Annotated[tuple[Id16, ...], FailFast(), Field(max_length=4096)]


class VerifyRequest(Body):
    """`bundle` is the canonical bytes of `proofs.evidence.bundle.UnitBundle`."""

    bundle: Annotated[bytes, Field(max_length=MAX_BUNDLE)]


class VerdictNotice(Body):
    """`verdict` is the canonical bytes of `proofs.verdict.message.SignedVerdict`."""

    verdict: Annotated[bytes, Field(max_length=MAX_BUNDLE)]
