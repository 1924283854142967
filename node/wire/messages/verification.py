"""Bodies about what was done: claims, countersignatures, proof bundles and verdicts."""

from __future__ import annotations

from typing import Annotated

from pydantic import FailFast, Field

from node.wire.messages.fields import MAX_BUNDLE, MAX_VERDICT, U64, Body, Signature, StageRef
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
    """An offer of a proof bundle of `size` bytes that replays `tokens` tokens, prompts included.
    `pool_id` is the pool that would pay for it: only its owner may offer. The bundle itself must
    say the same of everything here."""

    pool_id: Annotated[int, Field(ge=0, lt=2**63)]
    unit_id: Id32
    bundle_id: Id32
    size: Annotated[int, Field(ge=1, le=MAX_BUNDLE)]
    tokens: Annotated[int, Field(ge=1, lt=2**32)]


class VerifyAnswer(Body):
    """`wanted`: send the bundle now. Otherwise it is here already, and its verdict will come."""

    wanted: bool


class BundleUpload(Body):
    """`bundle` is the canonical bytes of the `proofs.evidence.bundle.UnitBundle` that was offered,
    `bundle_id` their sha256."""

    bundle_id: Id32
    bundle: Annotated[bytes, Field(max_length=MAX_BUNDLE)]


class VerdictNotice(Body):
    """`verdict` is the canonical bytes of `proofs.verdict.message.SignedVerdict`."""

    verdict: Annotated[bytes, Field(max_length=MAX_VERDICT)]
