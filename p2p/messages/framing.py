"""Frames of the request/response protocols: a 4-byte big-endian length, then that many bytes.

A request is the payload itself. A response is one msgpack map, ``{"ok": bytes}`` or
``{"error": [code, message]}``. Every length is checked against the reader's limit before a byte of
the body is gathered, so the memory that a peer can claim is the limit and no more.
"""

from __future__ import annotations

import msgpack
import trio

from p2p.errors import ProtocolViolation, RemoteRefused
from p2p.messages.streams import StreamBroken

LENGTH_SIZE = 4
MAX_CODE = 64  # characters of an error code
MAX_MESSAGE = 1024  # characters of an error message
# Map header, key and the widest bytes header.
_ENVELOPE_OVERHEAD = 16
_ERROR_LIMIT = 4 * (MAX_CODE + MAX_MESSAGE) + 64


def envelope_limit(max_payload: int) -> int:
    """The largest response frame that can carry `max_payload` bytes or an error."""
    return max(max_payload + _ENVELOPE_OVERHEAD, _ERROR_LIMIT)


def encode_frame(body: bytes) -> bytes:
    """The body behind its length."""
    return len(body).to_bytes(LENGTH_SIZE, "big") + body


def encode_ok(payload: bytes) -> bytes:
    """The envelope of an answer."""
    return bytes(msgpack.packb({"ok": payload}))


def encode_error(code: str, message: str) -> bytes:
    """An error envelope; both texts are cut to their bounds."""
    return bytes(msgpack.packb({"error": [code[:MAX_CODE], message[:MAX_MESSAGE]]}))


def decode_response(body: bytes, max_payload: int) -> bytes:
    """The payload of a response envelope.

    Raises:
        RemoteRefused: the peer answered with an error.
        ProtocolViolation: the envelope is malformed or the payload exceeds `max_payload`.
    """
    try:
        envelope = msgpack.unpackb(
            body, max_map_len=1, max_array_len=2, max_ext_len=0, max_bin_len=max_payload
        )
    except (ValueError, msgpack.UnpackException) as exc:
        raise ProtocolViolation("the response is no valid msgpack envelope") from exc
    match envelope:
        case {"ok": bytes(payload)}:
            return payload
        case {"error": [str(code), str(message)]} if len(code) <= MAX_CODE:
            raise RemoteRefused(code, message[:MAX_MESSAGE])
    raise ProtocolViolation('the response envelope is neither {"ok"} nor {"error"}')


async def read_frame(stream: trio.abc.ReceiveStream, limit: int) -> bytes:
    """Read one frame of at most `limit` bytes. The deadline is the caller's scope.

    Raises:
        ProtocolViolation: the announced length exceeds the limit.
        StreamBroken: the stream ended within the frame.
    """
    return await read_body(stream, await read_length(stream, limit))


async def read_length(stream: trio.abc.ReceiveStream, limit: int) -> int:
    """How many bytes the next frame has, of which none is read yet. Raises as `read_frame`."""
    length = int.from_bytes(await read_body(stream, LENGTH_SIZE), "big")
    if length > limit:
        raise ProtocolViolation(f"frame of {length} bytes announced, at most {limit} allowed")
    return length


async def read_body(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    """Exactly `count` bytes. Raises StreamBroken where the stream ends before."""
    gathered = bytearray()
    while len(gathered) < count:
        chunk = await stream.receive_some(count - len(gathered))
        if not chunk:
            raise StreamBroken(f"the stream ended after {len(gathered)} of {count} bytes")
        gathered += chunk
    return bytes(gathered)
