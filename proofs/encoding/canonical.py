"""Models with exactly one byte form.

A content id or a signature over a message is only worth something when two parties who hold equal
messages hold equal bytes. The form is MessagePack of the model's fields as a map in declared order;
`from_bytes` re-encodes what it read and refuses any other spelling of the same content (other key
order, wider integers, repeated keys).

Bytes come from strangers, so reading is bounded: by length before anything else, and by the number
of maps and arrays, which cost far more memory decoded than encoded.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import msgpack
from pydantic import BaseModel, ConfigDict, ValidationError

from proofs.errors import ProofError

MAX_CONTAINERS = 1 << 16


class CanonicalError(ProofError):
    """Bytes that are no canonical encoding of the model; the message says where and why."""


class CanonicalModel(BaseModel):
    """A frozen, strict model with canonical bytes of at most `MAX_BYTES`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    MAX_BYTES: ClassVar[int] = 1 << 16

    def to_bytes(self) -> bytes:
        """Canonical MessagePack. Raises CanonicalError when longer than `MAX_BYTES`."""
        data: bytes = msgpack.packb(self.model_dump())
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
            model = cls.model_validate(_unpack(data))
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "value"
            raise CanonicalError(f"{name}: {where}: {first['msg']}") from exc
        if model.to_bytes() != data:
            raise CanonicalError(f"{name} is not in its canonical encoding")
        return model


def _unpack(data: bytes) -> Any:
    """Bounded MessagePack decoding, arrays as tuples. Raises CanonicalError."""
    budget = MAX_CONTAINERS

    def count(container: Any) -> Any:
        nonlocal budget
        budget -= 1
        if budget < 0:
            raise ValueError(f"more than {MAX_CONTAINERS} maps and arrays")
        return container

    try:
        return msgpack.unpackb(data, use_list=False, list_hook=count, object_hook=count)
    except (ValueError, msgpack.UnpackException) as exc:
        raise CanonicalError(f"not MessagePack: {exc}") from exc
