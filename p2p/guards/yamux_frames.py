"""Yamux frames: the 12-byte header and its rules, without I/O.

    version u8 = 0 | type u8 | flags u16 | stream id u32 | length u32      (big endian)

`length` is the payload size of a DATA frame, the increment of a WINDOW_UPDATE, the nonce of a PING
and the reason of a GO_AWAY. Source: github.com/hashicorp/yamux/blob/master/spec.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag

PROTOCOL_ID = "/yamux/1.0.0"
HEADER_SIZE = 12
INITIAL_WINDOW = 256 * 1024  # bytes a sender may have unacknowledged on a new stream (spec)
_HEADER = struct.Struct("!BBHII")
_KNOWN_FLAGS = 0xF


class FrameType(IntEnum):
    """What a frame carries; see the module's docstring for `length` in each."""

    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


class Flag(IntFlag):
    """Opening (SYN, ACK), closing one direction (FIN) and aborting (RST) a stream."""

    NONE = 0
    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


class GoAway(IntEnum):
    """Why a connection is closed."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


class YamuxViolation(Exception):
    """The peer broke a rule of the multiplexer; the connection is closed."""


@dataclass(frozen=True, slots=True)
class Header:
    """One decoded header; `stream_id` is 0 for frames about the whole connection."""

    type: FrameType
    flags: Flag
    stream_id: int
    length: int


def encode(
    kind: FrameType, *, flags: Flag = Flag.NONE, stream_id: int = 0, length: int = 0
) -> bytes:
    """One header of 12 bytes."""
    return _HEADER.pack(0, kind, flags, stream_id, length)


def decode(buffer: bytes | bytearray, offset: int = 0) -> Header:
    """The header at `offset`; the buffer must hold 12 bytes from there.

    Raises:
        YamuxViolation: unknown version, type or flag, or a stream id where none belongs.
    """
    version, kind, flags, stream_id, length = _HEADER.unpack_from(buffer, offset)
    if version != 0:
        raise YamuxViolation(f"yamux version {version}")
    if kind > FrameType.GO_AWAY:
        raise YamuxViolation(f"yamux frame type {kind}")
    if flags & ~_KNOWN_FLAGS:
        raise YamuxViolation(f"yamux flags {flags:#x}")
    of_a_stream = kind in (FrameType.DATA, FrameType.WINDOW_UPDATE)
    if of_a_stream != (stream_id != 0):
        raise YamuxViolation(f"yamux frame type {kind} with stream id {stream_id}")
    return Header(FrameType(kind), Flag(flags), stream_id, length)


def cut_frames(
    pending: bytearray, check: Callable[[Header], None]
) -> Iterator[tuple[Header, bytes]]:
    """Whole frames at the front of `pending`, which keeps the rest once they are all taken.

    `check` sees the header of a payload before the payload is waited for, and raises
    YamuxViolation where there is no room for it.
    """
    start = 0
    while len(pending) - start >= HEADER_SIZE:
        header = decode(pending, start)
        size = header.length if header.type is FrameType.DATA else 0
        if size:
            check(header)
        if len(pending) - start < HEADER_SIZE + size:
            break
        body = start + HEADER_SIZE
        yield header, bytes(memoryview(pending)[body : body + size])
        start = body + size
    del pending[:start]
