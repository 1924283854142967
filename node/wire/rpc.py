"""Typed request/response between nodes: `Method`s of `node.wire.methods` over a node's network.

`serve` decodes and validates before the handler runs, and refuses what does not validate
(`bad_request`); `admits` turns strangers away before their bytes are even read. `call` does the
opposite on the other side: an answer that is not one is the peer's `ProtocolViolation`. Neither
sends what is over its method's limit, which the other would count as a violation.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from node.wire.codec import BadBody, decode, encode
from node.wire.decoding import decode_for
from node.wire.methods import A, Method, Q
from p2p.errors import (
    P2PError,
    ProtocolViolation,
    Refused,
    RemoteRefused,
    RequestTimeout,
    RequestTooLarge,
)
from p2p.messages.serving import ServiceTiming

if TYPE_CHECKING:
    from node.context import NodeContext
    from p2p.network import Network

OUTCOMES: tuple[tuple[type[P2PError], str], ...] = (
    (RemoteRefused, "refused"),
    (RequestTimeout, "timeout"),
    (ProtocolViolation, "violation"),
)

ROOM = 64 * 1024
"""Bytes kept for an answer before it is made; a larger one is admitted, or not, when it is there.
Few answers come near their method's limit: were that kept for each, a peer that asks for a dozen at
a time would use its share up with nothing."""

Handler = Callable[[str, Q], Awaitable[A]]
Admits = Callable[[str], object]
"""Raises `Refused` for a peer that may not ask at all; plain or async. Whoever it lets in stands as
high as the staked for a while, so it must not let in those of whom nothing is known."""


async def call(
    context: NodeContext,
    peer_id: str,
    method: Method[Q, A],
    body: Q,
    *,
    timeout: float | None = None,
) -> A:
    """Ask `peer_id`. Raises the p2p errors (`PeerUnreachable`, `RequestTimeout`,
    `RemoteRefused`, `ProtocolViolation`), and `RequestTooLarge` before anything is sent."""
    started, payload = context.now(), encode(body)
    if len(payload) > method.max_request:
        raise RequestTooLarge(
            f"{len(payload)} bytes of {method.name}, and at most {method.max_request} are taken"
        )
    outcome = "ok"
    try:
        answer = await context.network.request(
            peer_id,
            method.protocol,
            payload,
            timeout=method.timeout if timeout is None else timeout,
            max_response=method.max_answer,
        )
        return decode(method.answer, answer)
    except P2PError as exc:
        outcome = next((word for kind, word in OUTCOMES if isinstance(exc, kind)), "unreachable")
        raise
    except BadBody as exc:
        outcome = "violation"
        raise ProtocolViolation(f"{peer_id} answered {method.name} with no answer: {exc}") from exc
    finally:
        context.metrics.request(method.name, outcome, context.now() - started)


def serve(
    network: Network, method: Method[Q, A], handler: Handler[Q, A], admits: Admits | None = None
) -> None:
    """Answer `method` with `handler(peer_id, request)`; it may raise `Refused`."""

    async def on_request(peer_id: str, payload: bytes) -> bytes:
        try:
            request = await decode_for(network, peer_id, payload, partial(decode, method.request))
        except BadBody as exc:
            raise Refused("bad_request", str(exc)) from exc
        answer = encode(await handler(peer_id, request))
        if len(answer) > method.max_answer:
            raise Refused("too_large", f"the answer has {len(answer)} bytes")
        return answer

    network.serve(
        method.protocol,
        on_request,
        max_request=method.max_request,
        reserve=min(method.max_answer, ROOM),
        authorize=None if admits is None else partial(_authorize, admits),
        timing=ServiceTiming(handler=method.timeout),
    )


async def _authorize(admits: Admits, peer_id: str) -> None:
    answer = admits(peer_id)
    if inspect.isawaitable(answer):
        await answer
