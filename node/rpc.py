"""Typed request/response between nodes: `Method`s of `node.protocol` over `p2p.Network`.

`serve` decodes and validates before the handler runs, and turns what the handler raises into a
typed refusal; `call` does the opposite on the other side. A body that does not validate is the
sender's fault and costs it score (the network adapter sees `Refused("bad_request")`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from node.protocol import A, BadBody, Method, Q, decode, encode
from p2p.errors import P2PError, ProtocolViolation, Refused, RemoteRefused, RequestTimeout

if TYPE_CHECKING:
    from node.context import NodeContext
    from p2p.network import Network

OUTCOMES: tuple[tuple[type[P2PError], str], ...] = (
    (RemoteRefused, "refused"),
    (RequestTimeout, "timeout"),
    (ProtocolViolation, "violation"),
)

Handler = Callable[[str, Q], Awaitable[A]]


async def call(
    context: NodeContext,
    peer_id: str,
    method: Method[Q, A],
    body: Q,
    *,
    timeout: float | None = None,
) -> A:
    """Ask `peer_id`. Raises the p2p errors (`PeerUnreachable`, `RequestTimeout`,
    `RemoteRefused`, `ProtocolViolation`) and `BadBody` where the answer is not one."""
    started = context.now()
    outcome = "ok"
    try:
        answer = await context.network.request(
            peer_id,
            method.protocol,
            encode(body),
            timeout=method.timeout if timeout is None else timeout,
            max_response=method.max_answer,
        )
        return decode(method.answer, answer)
    except P2PError as exc:
        outcome = next((word for kind, word in OUTCOMES if isinstance(exc, kind)), "unreachable")
        raise
    except BadBody:
        outcome = "violation"
        raise
    finally:
        context.metrics.request(method.name, outcome, context.now() - started)


def serve(network: Network, method: Method[Q, A], handler: Handler[Q, A]) -> None:
    """Answer `method` with `handler(peer_id, request)`; it may raise `Refused`."""

    async def on_request(peer_id: str, payload: bytes) -> bytes:
        try:
            request = decode(method.request, payload)
        except BadBody as exc:
            raise Refused("bad_request", str(exc)) from exc
        return encode(await handler(peer_id, request))

    network.serve(
        method.protocol,
        on_request,
        max_request=method.max_request,
        handler_timeout=method.timeout,
    )
