"""A body to bytes and back. Bodies are MessagePack maps, read with bounds before validation."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from node.wire.messages.fields import Body
from proofs.encoding.messagepack import MalformedError, first_problem, pack, unpack

B = TypeVar("B", bound=Body)


class BadBody(ValueError):
    """Bytes that are not a valid body of the method they came for."""


def encode(body: Body) -> bytes:
    """The body as it travels."""
    return pack(body.model_dump(mode="python"))


def decode(model: type[B], data: bytes) -> B:
    """Parse and validate a body. Raises `BadBody` on anything that is not one."""
    try:
        return model.model_validate(unpack(data))
    except ValidationError as exc:
        raise BadBody(f"{model.__name__}: {first_problem(exc)}") from exc
    except MalformedError as exc:
        raise BadBody(f"{model.__name__}: {exc}") from exc
