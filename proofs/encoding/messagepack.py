"""Reading MessagePack from strangers: bounded before anything is built, and errors in one line.

What a map or an array costs decoded is a hundred times what it costs encoded, so their number is
bounded, not only their bytes (which the caller bounds). Arrays become tuples.
"""

from __future__ import annotations

from typing import Any

import msgpack
from pydantic import ValidationError

from proofs.errors import ProofError

MAX_CONTAINERS = 1 << 16
"""Maps and arrays in one message."""
MAX_FIELDS = 64
"""Keys of one map, unless a message says otherwise of its own."""
MAX_ITEMS = 1 << 20
"""Items of one array."""
MAX_REASON = 400
"""Characters of a message about a field."""


class MalformedError(ProofError):
    """Bytes that are not MessagePack, or hold more than is read."""


def pack(value: Any) -> bytes:
    """MessagePack of plain values; maps keep their order."""
    return bytes(msgpack.packb(value, use_bin_type=True))


def unpack(data: bytes, max_fields: int = MAX_FIELDS) -> Any:
    """The plain value of `data`, whose maps have at most `max_fields` keys each. Raises
    `MalformedError`."""
    budget = MAX_CONTAINERS

    def count(container: Any) -> Any:
        nonlocal budget
        budget -= 1
        if budget < 0:
            raise ValueError(f"more than {MAX_CONTAINERS} maps and arrays")
        return container

    try:
        return msgpack.unpackb(
            data,
            use_list=False,
            strict_map_key=True,
            max_array_len=MAX_ITEMS,
            max_map_len=max_fields,
            max_ext_len=0,
            list_hook=count,
            object_hook=count,
        )
    except (ValueError, msgpack.UnpackException) as exc:
        raise MalformedError(f"not MessagePack: {exc}") from exc


def first_problem(error: ValidationError) -> str:
    """The first thing wrong with a message: `field.0: what`. It repeats nothing of the input."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "value"
    return f"{where}: {first['msg']}"[:MAX_REASON]
