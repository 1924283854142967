"""Models with exactly one byte form.

A content id or a signature over a message is only worth something when two parties who hold equal
messages hold equal bytes. The form is MessagePack of the model's fields as a map in declared order;
`from_bytes` re-encodes what it read and refuses any other spelling of the same content (other key
order, wider integers, repeated keys).

Bytes come from strangers, so reading is bounded: by length before anything else, and then as
`proofs.encoding.messagepack` bounds it.
"""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from proofs.encoding.messagepack import MAX_FIELDS, MalformedError, first_problem, pack, unpack
from proofs.errors import ProofError


class CanonicalError(ProofError):
    """Bytes that are not a canonical encoding of the model; the message says where and why."""


class CanonicalModel(BaseModel):
    """A frozen, strict model with canonical bytes of at most `MAX_BYTES`. None of the maps in it,
    those of its parts included, has more than `MAX_KEYS` keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    MAX_BYTES: ClassVar[int] = 1 << 16
    MAX_KEYS: ClassVar[int] = MAX_FIELDS

    def to_bytes(self) -> bytes:
        """Canonical MessagePack. Raises CanonicalError when longer than `MAX_BYTES`."""
        data = pack(self.model_dump())
        if len(data) > self.MAX_BYTES:
            raise CanonicalError(
                f"{type(self).__name__} of {len(data)} bytes; at most {self.MAX_BYTES} are allowed"
            )
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Inverse of `to_bytes`. Raises CanonicalError for anything else."""
        name = cls.__name__
        if len(data) > cls.MAX_BYTES:
            raise CanonicalError(
                f"{name} of {len(data)} bytes; at most {cls.MAX_BYTES} are allowed"
            )
        try:
            model = cls.model_validate(unpack(data, cls.MAX_KEYS))
        except ValidationError as exc:
            raise CanonicalError(f"{name}: {first_problem(exc)}") from exc
        except MalformedError as exc:
            raise CanonicalError(f"{name}: {exc}") from exc
        if model.to_bytes() != data:
            raise CanonicalError(f"{name} is not in its canonical encoding")
        return model
