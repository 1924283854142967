"""Request/response, the asking side: one stream per call, bounded sizes, one deadline.

A call opens a stream for the protocol, sends one frame, finishes sending and reads one frame. The
serving side is `p2p.messages.serving`; it may answer and reset the stream before it has read the
request, so the answer is looked for even where sending failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from p2p.errors import PeerUnreachable, RequestTimeout
from p2p.messages.framing import decode_response, encode_frame, envelope_limit, read_frame
from p2p.messages.streams import Stream, StreamBroken


async def call(
    open_stream: Callable[[], Awaitable[Stream]],
    payload: bytes,
    *,
    timeout: float,
    max_response: int,
) -> bytes:
    """Send one request and return the response payload.

    Args:
        open_stream: opens a stream for the protocol (connecting if need be).
        timeout: seconds for everything, connecting included.
        max_response: largest accepted response payload in bytes.

    Raises:
        PeerUnreachable: no connection in time, or it broke before the answer was complete.
        RequestTimeout: connected, but the answer was not complete in time.
        RemoteRefused: the peer answered with an error.
        ProtocolViolation: the answer breaks the protocol.
    """
    stream: Stream | None = None
    answered = False
    try:
        with trio.fail_after(timeout):
            stream = await open_stream()
            with suppress(StreamBroken):  # refused before all of it was read
                await stream.send_all(encode_frame(payload))
                await stream.send_eof()
            body = await read_frame(stream, envelope_limit(max_response))
            answered = True
    except trio.TooSlowError as exc:
        if stream is None:
            raise PeerUnreachable(f"no connection within {timeout:g} s") from exc
        raise RequestTimeout(f"{stream.peer_id} gave no answer within {timeout:g} s") from exc
    except StreamBroken as exc:
        raise PeerUnreachable(f"the connection broke before the answer: {exc}") from exc
    finally:
        if stream is not None:
            await (stream.aclose() if answered else stream.reset())
    return decode_response(body, max_response)
