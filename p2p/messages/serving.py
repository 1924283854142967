"""Request/response and streams, the serving side: authority, then bytes, then work.

A request passes these gates in turn, and none of its bytes is read before the first three:

1. *Authority*: a service may have a check that knows by the peer's id alone who may ask. A peer
   that passes has business with this node and stands as high as the staked from then on.
2. *CPU*: whoever has caused more than its share of work lately comes back later.
3. *A place* among the protocol's calls in progress (`p2p.admission.shares.calls_of`).
4. *Bytes*: the length in front of the request, and the room that its answer may need, are reserved
   before the body is gathered, and stay so until the answer is sent.

A request that is turned away is answered at once with a typed error that names the limit, ``busy``,
and its stream is reset unread; that others have used a budget up is held against nobody. The time
that a call costs is charged to its peer step by step (`p2p.guards.host` does that for streams of
all protocols).

A handler answers with bytes or raises `Refused`; anything else it raises is our own fault, is
logged and reaches the caller as ``internal``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass

import structlog
import trio

from p2p.admission.budgets import Budgets
from p2p.admission.holdings import Holdings, Lease
from p2p.admission.shares import calls_of
from p2p.errors import P2PError, ProtocolViolation, Refused, RequestTimeout
from p2p.messages.framing import (
    decode_response,
    encode_error,
    encode_frame,
    encode_ok,
    read_body,
    read_length,
)
from p2p.messages.streams import Stream, StreamBroken

log = structlog.get_logger(__name__)

Handler = Callable[[str, bytes], Awaitable[bytes]]
StreamHandler = Callable[[Stream, str], Awaitable[None]]
Authorize = Callable[[str], Awaitable[object]]
"""Whether the peer with this id may ask at all; raises `Refused` where it may not."""


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


@dataclass(frozen=True)
class ServiceLimits:
    """`max_request` bytes are accepted of a request, `reserve` bytes are kept for its answer from
    the start, and `concurrency` calls of all peers are in progress at a time."""

    max_request: int = 1 << 20
    reserve: int = 0
    concurrency: int = 64


class Service:
    """Serves one protocol.

    Args:
        handler: ``(peer id, request payload) -> response payload``.
        timing: how long each part of a call may take; a handler that takes longer is cancelled and
            its caller answered ``timeout``.
        authorize: see the module's docstring; None where everybody may ask.
        vouch: told the id of each peer that `authorize` let in.
        on_violation: told the peer id when a request broke the protocol.
    """

    def __init__(
        self,
        protocol: str,
        handler: Handler,
        budgets: Budgets,
        *,
        limits: ServiceLimits,
        on_violation: Callable[[str], None],
        timing: ServiceTiming = DEFAULT_TIMING,
        authorize: Authorize | None = None,
        vouch: Callable[[str], None] = lambda peer_id: None,
    ) -> None:
        self._protocol = protocol
        self._handler = handler
        self._budgets = budgets
        self._limits = limits
        self._timing = timing
        self._authorize = authorize
        self._vouch = vouch
        self._on_violation = on_violation
        self._calls = Holdings("calls in progress", calls_of(limits.concurrency))

    async def handle(self, stream: Stream) -> None:
        """Serve one call on an accepted stream and close it."""
        peer_id = stream.peer_id
        with ExitStack() as held:
            try:
                with trio.fail_after(self._timing.read):
                    await self._require(peer_id)
                    room = self._enter(peer_id, held)
                    size = await read_length(stream, self._limits.max_request)
                    room.resize(size + self._limits.reserve)
                    request = await read_body(stream, size)
            except Refused as refusal:
                await self._turn_away(stream, refusal.code, refusal.message)
                return
            except ProtocolViolation as exc:
                self._on_violation(peer_id)
                await self._turn_away(stream, "too_large", str(exc))
                return
            except (StreamBroken, trio.TooSlowError):
                await stream.reset()
                return
            await self._reply(stream, await self._answer(peer_id, request, room))

    async def ask(self, peer_id: str, request: bytes, timeout: float, max_response: int) -> bytes:
        """Call the handler as `peer_id`, our own, would over the network: same admission, same
        errors (as `call`), no stream."""
        try:
            with trio.fail_after(timeout), ExitStack() as held:
                try:
                    await self._require(peer_id)
                    room = self._enter(peer_id, held)
                    room.resize(len(request) + self._limits.reserve)
                except Refused as refusal:
                    answer = encode_error(refusal.code, refusal.message)
                else:
                    answer = await self._answer(peer_id, request, room)
        except trio.TooSlowError as exc:
            raise RequestTimeout(f"this node gave itself no answer in {timeout:g} s") from exc
        return decode_response(answer, max_response)

    async def _require(self, peer_id: str) -> None:
        if self._authorize is None:
            return
        try:
            await self._authorize(peer_id)
        except Refused:
            raise
        except Exception as exc:
            log.exception("a check of who may ask failed", protocol=self._protocol, peer=peer_id)
            raise Refused("internal", "the handler failed") from exc
        self._vouch(peer_id)

    def _enter(self, peer_id: str, held: ExitStack) -> Lease:
        """Take a place; returns the lease for the bytes, which has none yet."""
        who = self._budgets.asker(peer_id)
        self._budgets.require_cpu(who)
        held.enter_context(self._calls.take(who))
        return held.enter_context(self._budgets.bytes.take(who, 0))

    async def _answer(self, peer_id: str, request: bytes, room: Lease) -> bytes:
        """The handler's answer in its envelope, with room for just that."""
        try:
            with trio.fail_after(self._timing.handler):
                answer = encode_ok(await self._handler(peer_id, request))
            room.resize(len(answer))
        except Refused as refusal:
            return encode_error(refusal.code, refusal.message)
        except trio.TooSlowError:
            return encode_error("timeout", f"no answer in {self._timing.handler:g} s")
        except Exception:
            # The boundary between handlers and the network: a fault in one call must neither
            # take the node down nor leave the caller waiting.
            log.exception("request handler failed", protocol=self._protocol, peer=peer_id)
            return encode_error("internal", "the handler failed")
        return answer

    async def _reply(self, stream: Stream, envelope: bytes) -> None:
        try:
            with trio.fail_after(self._timing.write):
                await stream.send_all(encode_frame(envelope))
            await stream.aclose()
        except (StreamBroken, trio.TooSlowError):
            await stream.reset()

    async def _turn_away(self, stream: Stream, code: str, message: str) -> None:
        """Answer, and drop what the peer has sent or is still sending."""
        try:
            with trio.move_on_after(self._timing.write):
                await stream.send_all(encode_frame(encode_error(code, message)))
        except StreamBroken:
            pass
        await stream.reset()


class StreamService:
    """Serves byte streams of one protocol, at most `concurrency` at a time over all peers.

    The handler owns the stream while it runs; whatever way it ends, the stream is closed after it,
    and reset where the handler failed: what was sent by then must not pass for all of it.
    """

    def __init__(
        self, protocol: str, handler: StreamHandler, budgets: Budgets, *, concurrency: int
    ) -> None:
        self._protocol = protocol
        self._handler = handler
        self._budgets = budgets
        self._places = Holdings("streams in progress", calls_of(concurrency))

    async def handle(self, stream: Stream) -> None:
        """Serve one accepted stream."""
        try:
            place = self._places.take(self._budgets.asker(stream.peer_id))
        except Refused:
            await stream.reset()
            return
        with place:
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
