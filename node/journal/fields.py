"""How journal events store the fields that MessagePack has no form for.

class ReceiptSigned(JournalEvent, kind="self.receipt"):
    receipt: Annotated[Receipt, AsBytes()]
    amount: Annotated[int, AsDecimal()]
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from proofs.errors import ProofError

_DECIMAL = re.compile(r"[0-9]{1,78}")


class AsBytes:
    """A message of `proofs` as its own bytes: whatever has `to_bytes` and `from_bytes`."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Takes the message itself or its bytes; the dump holds the bytes."""

        def read(value: object) -> Any:
            if isinstance(value, source):
                return value
            if not isinstance(value, bytes):
                raise ValueError(f"not the bytes of a {source.__name__}")
            try:
                return source.from_bytes(value)
            except ProofError as exc:
                raise ValueError(str(exc)) from exc

        return core_schema.no_info_plain_validator_function(
            read,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value.to_bytes()
            ),
        )


class AsDecimal:
    """A whole number of up to 256 bits as decimal text: MessagePack's integers end at 64."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Takes the number itself or its text; the dump holds the text."""

        def read(value: object) -> int:
            if isinstance(value, str) and _DECIMAL.fullmatch(value):
                value = int(value)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**256:
                raise ValueError("not a whole number below 2^256")
            return value

        return core_schema.no_info_plain_validator_function(
            read, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )
