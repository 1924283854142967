"""A case: one bundle, what was decided about it, and everything that it takes to decide it again.

Whoever has the model can check a verdict from a case file alone, without a network: the bundle with
every stage's signed statements, the rows that stages revealed, the thresholds, and the verdicts.
Nothing in it is taken on trust. The bundle binds the stages by their signatures, rows are bound by
hashes that two neighbours signed, and verdicts are compared with what comes out here. What a file
cannot show, whoever checks it must know or find out: that rows were requested and not shown; that
its thresholds are those that the pool named; that the chain is the right one, that the signers are
validators there, and that the blocks behind noise and spot checks are as the file says.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar, Literal

from pydantic import FailFast, Field

from proofs.encoding.canonical import CanonicalModel
from proofs.encoding.eip712 import Domain
from proofs.encoding.fields import Count, Id32
from proofs.encoding.signing import Address
from proofs.evidence.bundle import MAX_BUNDLE_BYTES, UnitBundle
from proofs.verdict.blame import Inquiry
from proofs.verdict.message import SignedVerdict

SUFFIX = ".prime"

SequenceIndex = Annotated[int, Field(ge=0, lt=4096)]
Stage = Annotated[int, Field(ge=0, lt=256)]


class AskedRows(CanonicalModel):
    """Rows that `stage` was asked for, received of sequence `index`: the raw bytes, or none
    where nobody gave them."""

    MAX_BYTES: ClassVar[int] = 1 << 28

    stage: Stage
    index: SequenceIndex
    digest: Id32
    rows: bytes = b""

    @property
    def inquiry(self) -> Inquiry:
        """What was asked for."""
        return Inquiry(self.stage, self.index, self.digest)

    @property
    def is_content(self) -> bool:
        """Whether the bytes are those that the digest names."""
        return hashlib.sha256(self.rows).digest() == self.digest


class CaseFile(CanonicalModel):
    """See the module's docstring. `chain_id` and `contract` say for which chain receipts were
    signed (0 and the zero address without one), `thresholds` which built-in ones, where there is no
    `profile` (canonical bytes of `proofs.thresholds.profiles.Profile`)."""

    MAX_BYTES: ClassVar[int] = 1 << 28

    version: Literal[1] = 1
    chain_id: Count
    contract: Address
    bundle: Annotated[bytes, Field(max_length=MAX_BUNDLE_BYTES)]
    verdicts: Annotated[
        tuple[Annotated[bytes, Field(max_length=SignedVerdict.MAX_BYTES)], ...],
        FailFast(),
        Field(max_length=64),
    ] = ()
    thresholds: Annotated[str, Field(max_length=80)] = ""
    profile: Annotated[bytes, Field(max_length=1 << 16)] = b""
    asked: Annotated[tuple[AskedRows, ...], FailFast(), Field(max_length=256)] = ()

    @property
    def domain(self) -> Domain:
        """The domain under which the receipts were signed."""
        return Domain(chain_id=self.chain_id, verifying_contract=self.contract)

    def unit(self) -> UnitBundle:
        """The bundle. Raises CanonicalError."""
        return UnitBundle.from_bytes(self.bundle)

    def signed_verdicts(self) -> tuple[SignedVerdict, ...]:
        """Raises CanonicalError."""
        return tuple(SignedVerdict.from_bytes(data) for data in self.verdicts)
