"""Bodies about payment: epochs and convictions to sign, and content fetched by its hash."""

from __future__ import annotations

from typing import Annotated

from pydantic import FailFast, Field

from node.wire.messages.fields import U64, Body
from proofs.encoding.fields import Digest, Id32


class CosignRequest(Body):
    """`root` is the ABI bytes of `proofs.encoding.receipts.EpochRoot`."""

    root: Annotated[bytes, Field(max_length=4096)]


class Cosigned(Body):
    """A signature of 65 bytes; or none, and the units that this validator has not accepted."""

    signature: Annotated[bytes, Field(max_length=65)]
    unknown: Annotated[tuple[Id32, ...], FailFast(), Field(max_length=16384)]


class ConvictRequest(Body):
    """`conviction` is the ABI bytes of `proofs.encoding.receipts.Conviction`."""

    conviction: Annotated[bytes, Field(max_length=4096)]


class FetchRequest(Body):
    """Ask for the content with this SHA-256, from byte `offset` on."""

    digest: Digest
    offset: U64


class FetchedChunk(Body):
    """A part of the content from the asked offset on, and how many bytes it has in all."""

    data: Annotated[bytes, Field(max_length=4 * 2**20)]
    total: U64
