"""Request/response: one stream per call, bounded sizes, a deadline on every wait.

Client: open a stream for the protocol, send one frame, finish sending, read one frame. Server: read
one frame, call the handler, send one envelope. A handler answers with bytes or raises `Refused`;
anything else it raises is our own fault, is logged and reaches the caller as ``internal``.

Admission on the serving side: at most `concurrency` calls of a protocol at a time and a quarter of
that from any one peer; anything above that is answered ``busy`` at once instead of queueing unseen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
import trio

from p2p.errors import (
    P2PError,
    PeerUnreachable,
    ProtocolViolation,
    Refused,
    RequestTimeout,
)
from p2p.messages.framing import (
    decode_response,
    encode_error,
    encode_frame,
    encode_ok,
    envelope_limit,
    read_frame,
)
from p2p.messages.streams import Stream, StreamBroken

log = structlog.get_logger(__name__)

Handler = Callable[[str, bytes], Awaitable[bytes]]
StreamHandler = Callable[[Stream, str], Awaitable[None]]


@dataclass(frozen=True)
class ServiceTiming:
    """How long a served call may take, in seconds.

    `read` lasts from the opened stream to the complete request, `handler` until the handler has
    answered, `write` until the answer is sent.
    """

    read: float = 10.0
    handler: float = 120.0
    write: float = 30.0


DEFAULT_TIMING = ServiceTiming()


class Service:
    """Serves one protocol.

    Args:
        handler: ``(peer id, request payload) -> response payload``.
        max_request: largest accepted request in bytes.
        concurrency: calls in progress over all peers.
        timing: how long each part of a call may take; a handler that takes longer is cancelled and
            its caller answered ``timeout``.
        on_violation: told the peer id when a request broke the protocol.
    """

    def __init__(
        self,
        protocol: str,
        handler: Handler,
        *,
        max_request: int,
        concurrency: int,
        on_violation: Callable[[str], None],
        timing: ServiceTiming = DEFAULT_TIMING,
    ) -> None:
        self._protocol = protocol
        self._handler = handler
        self._max_request = max_request
        self._concurrency = concurrency
        self._per_peer = max(1, concurrency // 4)
        self._timing = timing
        self._on_violation = on_violation
        self._running: Counter[str] = Counter()

    async def handle(self, stream: Stream) -> None:
        """Serve one call on an accepted stream and close it."""
        peer_id = stream.peer_id
        try:
            with trio.fail_after(self._timing.read):
                request = await read_frame(stream, self._max_request)
        except ProtocolViolation as exc:
            self._on_violation(peer_id)
            await self._reply(stream, encode_error("too_large", str(exc)))
            return
        except (StreamBroken, trio.TooSlowError):
            await stream.reset()
            return
        await self._reply(stream, await self._answer(peer_id, request))

    async def ask(self, peer_id: str, request: bytes, timeout: float, max_response: int) -> bytes:
        """Call the handler as `peer_id`, our own, would over the network: same admission, same
        errors (as `call`), no stream."""
        try:
            with trio.fail_after(timeout):
                answer = await self._answer(peer_id, request)
        except trio.TooSlowError as exc:
            raise RequestTimeout(f"this node gave itself no answer in {timeout:g} s") from exc
        return decode_response(answer, max_response)

    async def _answer(self, peer_id: str, request: bytes) -> bytes:
        if self._running.total() >= self._concurrency or self._running[peer_id] >= self._per_peer:
            return encode_error("busy", "too many calls are in progress; try again later")
        self._running[peer_id] += 1
        try:
            with trio.fail_after(self._timing.handler):
                return encode_ok(await self._handler(peer_id, request))
        except Refused as refusal:
            return encode_error(refusal.code, refusal.message)
        except trio.TooSlowError:
            return encode_error("timeout", f"no answer in {self._timing.handler:g} s")
        except Exception:
            # The boundary between handlers and the network: a fault in one call must neither
            # take the node down nor leave the caller waiting.
            log.exception("request handler failed", protocol=self._protocol, peer=peer_id)
            return encode_error("internal", "the handler failed")
        finally:
            self._running[peer_id] -= 1
            if not self._running[peer_id]:
                del self._running[peer_id]

    async def _reply(self, stream: Stream, envelope: bytes) -> None:
        try:
            with trio.fail_after(self._timing.write):
                await stream.send_all(encode_frame(envelope))
            await stream.aclose()
        except (StreamBroken, trio.TooSlowError):
            await stream.reset()


class StreamService:
    """Serves byte streams of one protocol, at most `concurrency` at a time over all peers.

    The handler owns the stream while it runs; whatever way it ends, the stream is closed after it,
    and reset where the handler failed: what was sent by then must not pass for all of it.
    """

    def __init__(self, protocol: str, handler: StreamHandler, *, concurrency: int) -> None:
        self._protocol = protocol
        self._handler = handler
        self._places = trio.CapacityLimiter(concurrency)

    async def handle(self, stream: Stream) -> None:
        """Serve one accepted stream."""
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            await stream.reset()
            return
        try:
            async with stream:
                try:
                    await self._handler(stream, stream.peer_id)
                except P2PError as exc:
                    log.debug("stream ended", protocol=self._protocol, reason=str(exc))
                except Exception:
                    # The boundary between handlers and the network, as in `Service`.
                    log.exception(
                        "stream handler failed", protocol=self._protocol, peer=stream.peer_id
                    )
                    await stream.reset()  # before the block would end it in order
        finally:
            self._places.release()


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
