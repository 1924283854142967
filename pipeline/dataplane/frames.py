"""Bytes of the data plane: preamble, frame heads and hellos. Pure, no I/O.

A connection starts with a **preamble** in the clear: 8 bytes of magic, a big-endian u16 length and
the dialler's self-signed certificate in DER. It exists because a TLS server written with Python's
`ssl` can only ask for a client certificate that it already trusts, while our two ends know each
other by a 32-byte fingerprint alone. The listener hashes the certificate, compares it with the
fingerprints it expects, and only then begins a handshake in which that one certificate is the only
trusted root. Nothing is believed because of the preamble: possession of the key is proven by TLS,
and an unknown certificate is dropped before any cryptography beyond one SHA-256. The certificate
is ephemeral, so that sending it in the clear tells an observer nothing.

Inside TLS everything is a **frame**: a fixed 16-byte head, then `header_len` bytes of header, then
`payload_len` bytes of payload.

    magic u16 = 0x5044 | kind u8 | argument u8 | header_len u32 | payload_len u64    (big endian)

Kinds: HELLO, WELCOME and REFUSE open an edge (their content is in the header); DATA carries the
user's header and payload; CREDIT grants `argument` more DATA frames; BEAT shows life; BYE ends the
edge. CREDIT, BEAT and BYE are a bare head. All lengths are judged by the receiver's own limits
before anything is allocated (`link`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from pipeline.dataplane.errors import EdgeMisuse, EdgeViolation

PREAMBLE_MAGIC = b"PRIMEDP1"
PREAMBLE_HEAD = struct.Struct(">8sH")
MAX_CERTIFICATE = 1024

FRAME_MAGIC = 0x5044
FRAME_HEAD = struct.Struct(">HBBIQ")

VERSION = 1
HELLO_HEAD = struct.Struct(">HHIQ")
MAX_HELLO = 4096
MAX_WINDOW = 255
MAX_HEADER = 2**20
MAX_PAYLOAD = 2**40


class Kind(IntEnum):
    """What a frame of an edge is."""

    HELLO = 1
    WELCOME = 2
    REFUSE = 3
    DATA = 4
    CREDIT = 5
    BEAT = 6
    BYE = 7


_KINDS = {int(kind): kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class FrameHead:
    """A decoded frame head; lengths in bytes, not yet judged."""

    kind: Kind
    argument: int
    header_len: int
    payload_len: int


@dataclass(frozen=True)
class EdgeLimits:
    """What one side accepts: bytes of header and payload a frame, and frames not yet consumed.

    A receiver sets aside `window` buffers of up to `max_payload` bytes; untouched pages of them
    cost address space only. Raises EdgeMisuse for values the wire cannot carry.
    """

    max_header: int = 256 * 1024
    max_payload: int = 64 * 2**20
    window: int = 4

    def __post_init__(self) -> None:
        if not (
            0 <= self.max_header <= MAX_HEADER
            and 0 <= self.max_payload <= MAX_PAYLOAD
            and 1 <= self.window <= MAX_WINDOW
        ):
            raise EdgeMisuse(
                f"edge limits out of range: header {self.max_header} (at most {MAX_HEADER}), "
                f"payload {self.max_payload} (at most {MAX_PAYLOAD}), "
                f"window {self.window} (1 to {MAX_WINDOW})"
            )


@dataclass(frozen=True)
class Hello:
    """First frame each way: the sender's receive limits and opaque bytes for the user."""

    limits: EdgeLimits
    text: bytes


def encode_preamble(certificate: bytes) -> bytes:
    """Preamble for a DER certificate. Raises EdgeMisuse when it is empty or over 1 KiB."""
    if not 0 < len(certificate) <= MAX_CERTIFICATE:
        raise EdgeMisuse(f"certificate of {len(certificate)} bytes; at most {MAX_CERTIFICATE}")
    return PREAMBLE_HEAD.pack(PREAMBLE_MAGIC, len(certificate)) + certificate


def preamble_missing(received: bytes | bytearray) -> int:
    """How many more bytes complete the preamble begun by `received` (0: complete).

    Reading exactly that many never takes a byte of the TLS stream behind it. Raises EdgeViolation
    as soon as the bytes cannot be a preamble.
    """
    if not PREAMBLE_MAGIC.startswith(bytes(received[: len(PREAMBLE_MAGIC)])):
        raise EdgeViolation("not a data-plane connection")
    if len(received) < PREAMBLE_HEAD.size:
        return PREAMBLE_HEAD.size - len(received)
    _, length = PREAMBLE_HEAD.unpack_from(received)
    if not 0 < length <= MAX_CERTIFICATE:
        raise EdgeViolation(f"preamble announces a certificate of {length} bytes")
    return PREAMBLE_HEAD.size + int(length) - len(received)


def preamble_certificate(received: bytes | bytearray) -> bytes:
    """The DER certificate of a complete preamble."""
    return bytes(received[PREAMBLE_HEAD.size :])


def encode_head(kind: Kind, argument: int = 0, header_len: int = 0, payload_len: int = 0) -> bytes:
    """A frame's 16-byte head; lengths in bytes, `argument` as its kind has it."""
    return FRAME_HEAD.pack(FRAME_MAGIC, kind, argument, header_len, payload_len)


def decode_head(data: bytes | bytearray | memoryview) -> FrameHead:
    """Decode exactly 16 bytes. Raises EdgeViolation for bad magic or an unknown kind."""
    magic, kind, argument, header_len, payload_len = FRAME_HEAD.unpack(data)
    if magic != FRAME_MAGIC:
        raise EdgeViolation(f"frame magic {magic:#06x}, expected {FRAME_MAGIC:#06x}")
    known = _KINDS.get(kind)
    if known is None:
        raise EdgeViolation(f"unknown frame kind {kind}")
    return FrameHead(known, argument, header_len, payload_len)


def encode_hello(kind: Kind, hello: Hello) -> bytes:
    """A whole HELLO or WELCOME frame. Raises EdgeMisuse when the text is over 4 KiB."""
    if len(hello.text) > MAX_HELLO:
        raise EdgeMisuse(f"hello text of {len(hello.text)} bytes; at most {MAX_HELLO}")
    limits = hello.limits
    body = HELLO_HEAD.pack(VERSION, limits.window, limits.max_header, limits.max_payload)
    body += hello.text
    return encode_head(kind, header_len=len(body)) + body


def decode_hello(body: bytes) -> Hello:
    """Decode a HELLO or WELCOME header. Raises EdgeViolation for anything out of bounds."""
    if not HELLO_HEAD.size <= len(body) <= HELLO_HEAD.size + MAX_HELLO:
        raise EdgeViolation(f"hello of {len(body)} bytes")
    version, window, max_header, max_payload = HELLO_HEAD.unpack_from(body)
    if version != VERSION:
        raise EdgeViolation(f"data-plane version {version}, this node speaks {VERSION}")
    try:
        limits = EdgeLimits(max_header, max_payload, window)
    except EdgeMisuse as exc:
        raise EdgeViolation(f"peer's {exc.reason}") from exc
    return Hello(limits, body[HELLO_HEAD.size :])


def encode_refusal(reason: str) -> bytes:
    """A whole REFUSE frame; the reason is cut to what fits."""
    body = reason.encode()[:MAX_HELLO]
    return encode_head(Kind.REFUSE, header_len=len(body)) + body
