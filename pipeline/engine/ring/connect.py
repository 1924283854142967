"""Making a ring's two edges: accept the upstream stage while dialling the downstream one.

Both at once, because every stage of a ring does the same: if each dialled first, nobody would
accept. The hello says which ring, generation and cut of the model the dialler belongs to, and the
acceptor refuses any other, so that a stage of an older generation cannot slip in.

Stages are told to connect at about the same time, but each first asks its neighbour where it is, so
they begin seconds apart. A request that was replaced by a newer one is recalled: it waits for
nobody any more, while a handshake that is under way is finished.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pipeline.dataplane import (
    Edge,
    EdgeClosed,
    EdgeError,
    EdgeLimits,
    EdgeRefused,
    Endpoint,
    Identity,
    Listener,
    Recall,
    dial,
    fingerprint_of,
)
from pipeline.engine.control.messages import JoinRing
from pipeline.engine.errors import EngineError, StageViolation
from pipeline.engine.ring.frames import MAX_HEADER, Hello, check_hello
from pipeline.engine.ring.ring import Edges
from pipeline.engine.schedule.scheduler import MAX_FLIGHTS

CONNECT_SECONDS = 30.0
"""Three attempts (`DialTiming.attempt`), so that every way to a neighbour has its turn."""


class _Accept(threading.Thread):
    """Waits for the upstream stage; `edge` or `error` is set once joined."""

    def __init__(self, accept: Callable[[], Edge]) -> None:
        super().__init__(name="ring-accept", daemon=True)
        self._accept = accept
        self.edge: Edge | None = None
        self.error: EdgeError | None = None

    def run(self) -> None:
        try:
            self.edge = self._accept()
        except EdgeError as exc:
            self.error = exc


def connect(
    ring: JoinRing,
    identity: Identity,
    listener: Listener,
    own: Hello,
    upstream: Hello,
    row_bytes: int,
    recall: Recall,
) -> Edges:
    """Make both edges within `CONNECT_SECONDS`, or until `recall` is given.

    `own` is what this stage says to the downstream one, `upstream` what the upstream one must
    say. `row_bytes` is the size of one row of hidden states. Raises `EngineError`: downstream or
    upstream for the edge that did not come up, edge once this was recalled. It gives `recall` then,
    since one edge is of no use without the other.
    """
    assert ring.downstream
    assert ring.upstream_certificate is not None
    certificate = ring.upstream_certificate
    payload = 0 if ring.stage == 0 else ring.max_batch_tokens * row_bytes
    incoming = EdgeLimits(MAX_HEADER, payload, window=min(255, MAX_FLIGHTS + 1))
    against = EdgeLimits(max_header=0, max_payload=0, window=1)
    until = time.monotonic() + CONNECT_SECONDS

    def check(hello: bytes) -> bytes:
        try:
            check_hello(hello, upstream)
        except StageViolation as exc:
            raise EdgeRefused(exc.message) from exc
        return b""

    def accept_upstream() -> Edge:
        expected = fingerprint_of(certificate)
        return listener.accept_from(expected, check, until, limits=incoming, recall=recall)

    accept = _Accept(accept_upstream)
    accept.start()
    ways = [Endpoint(way.host, way.port, way.unix_path) for way in ring.downstream]
    fingerprint = ring.downstream[0].fingerprint
    try:
        downstream = dial(
            identity, ways, fingerprint, own.encode(), until, limits=against, recall=recall
        )
    except EdgeError as exc:
        recall.give()
        accept.join()
        if accept.edge is not None:
            accept.edge.close()
        code = "edge" if isinstance(exc, EdgeClosed) else "downstream"
        raise EngineError(code, f"downstream stage: {exc.reason}") from exc
    accept.join()
    if accept.edge is None:
        downstream.close()
        reason = "no connection" if accept.error is None else accept.error.reason
        code = "edge" if isinstance(accept.error, EdgeClosed) else "upstream"
        raise EngineError(code, f"upstream stage: {reason}") from accept.error
    return Edges(accept.edge, downstream)
