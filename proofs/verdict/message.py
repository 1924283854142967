"""Verdicts as messages: what a validator signs and sends.

A verdict names the bundle that it judged, so it cannot be held against other evidence for the same
unit. The signature is over the tagged hash of its canonical bytes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import FailFast, Field, model_validator

from proofs.encoding.canonical import CanonicalModel
from proofs.encoding.fields import Count, Id32
from proofs.encoding.signing import (
    Address,
    Signature,
    SignatureError,
    address_of,
    recover,
    sign_message,
    tagged_hash,
)
from proofs.evidence.bundle import PeerId

_DOMAIN = "verdict/2"
MAX_FIGURES = 2048
"""Figures in a verdict. The longest ring has 256 stages, and each stage several."""
Reason = Annotated[str, Field(max_length=1024)]


class StageStatus(StrEnum):
    """`unchecked`: off, but perhaps only because of a stage before it, or nobody's words bind.
    `doubted`: off by more than is likely for honest work, and by less than convicts."""

    HONEST = "honest"
    FAULTY = "faulty"
    UNCHECKED = "unchecked"
    DOUBTED = "doubted"


class StageVerdict(CanonicalModel):
    """What was found about one stage, and why."""

    stage: Annotated[int, Field(ge=0, lt=256)]
    peer_id: PeerId
    status: Annotated[StageStatus, Field(strict=False)]
    reason: Reason = ""


class Verdict(CanonicalModel):
    """The judgement of one bundle. `first_faulty` is the stage to blame, None for nobody;
    `replayed` are the numbers of the sequences that were replayed, others were not chosen."""

    MAX_BYTES: ClassVar[int] = 1 << 20
    MAX_KEYS: ClassVar[int] = MAX_FIGURES

    unit_id: Id32
    bundle_id: Id32
    accepted: bool
    stages: Annotated[tuple[StageVerdict, ...], Field(min_length=1, max_length=256)]
    first_faulty: Annotated[int, Field(ge=0, lt=256)] | None = None
    reason: Reason = ""
    replayed: Annotated[tuple[Count, ...], FailFast(), Field(max_length=4096)] = ()
    figures: Annotated[
        dict[Annotated[str, Field(max_length=64)], float],
        Field(max_length=MAX_FIGURES, default_factory=dict),
    ]

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if [stage.stage for stage in self.stages] != list(range(len(self.stages))):
            raise ValueError("stages must be numbered in ring order")
        faulty = [s.stage for s in self.stages if s.status == StageStatus.FAULTY]
        if self.first_faulty != (faulty[0] if faulty else None):
            raise ValueError("first_faulty is not the first faulty stage")
        if self.accepted != (self.reason == "") or (self.accepted and faulty):
            raise ValueError("an accepted verdict has no reason and no faulty stage")
        if self.accepted and any(s.status == StageStatus.DOUBTED for s in self.stages):
            raise ValueError("an accepted verdict doubts no stage")
        return self

    @property
    def faulty_peer(self) -> str:
        """Peer id of the first faulty stage, or ""."""
        return "" if self.first_faulty is None else self.stages[self.first_faulty].peer_id

    @property
    def doubted_peer(self) -> str:
        """Peer id of the stage in doubt, or ""."""
        doubted = (s.peer_id for s in self.stages if s.status == StageStatus.DOUBTED)
        return next(doubted, "")

    def summary(self) -> dict[str, Any]:
        """Plain values for logs and the HTTP API."""
        return {
            "accepted": self.accepted,
            "reason": self.reason,
            "first_faulty": self.first_faulty,
            "faulty_peer": self.faulty_peer,
            "doubted_peer": self.doubted_peer,
            "stages": [stage.model_dump(mode="json") for stage in self.stages],
            "figures": dict(self.figures),
        }


class SignedVerdict(CanonicalModel):
    """A verdict with its validator's address and signature."""

    MAX_BYTES: ClassVar[int] = Verdict.MAX_BYTES + 1024
    MAX_KEYS: ClassVar[int] = Verdict.MAX_KEYS

    verdict: Verdict
    validator: Address
    signature: Signature

    @classmethod
    def sign(cls, verdict: Verdict, private_key: bytes) -> SignedVerdict:
        """Raises SigningError for an unusable key."""
        signature = sign_message(private_key, _DOMAIN, verdict.to_bytes())
        return cls(verdict=verdict, validator=address_of(private_key), signature=signature)

    def signer(self) -> str:
        """The address that signed, which is `validator`. Raises SignatureError otherwise."""
        address = recover(tagged_hash(_DOMAIN, self.verdict.to_bytes()), self.signature)
        if address != self.validator:
            raise SignatureError(f"signed by {address}, not by {self.validator}")
        return address
