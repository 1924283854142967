"""Making a ring's two edges: accept the upstream stage while dialling the downstream one.

Both at once, because every stage of a ring does the same: if each dialled first, nobody would
accept. The hello says which ring, generation and cut of the model the dialler belongs to, and the
acceptor refuses any other, so that a stage of an older generation cannot slip in.

Waiting is done in slices, between which a request that was replaced by a newer one gives up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.dataplane import (
    Edge,
    EdgeBroken,
    EdgeError,
    EdgeLimits,
    EdgeRefused,
    EdgeTimeout,
    Endpoint,
    Identity,
    Listener,
    dial,
    fingerprint_of,
)
from pipeline.engine.control.messages import JoinRing
from pipeline.engine.errors import EngineError, StageViolation
from pipeline.engine.ring.frames import MAX_HEADER, Hello, check_hello
from pipeline.engine.ring.ring import Edges
from pipeline.engine.schedule.scheduler import MAX_FLIGHTS

CONNECT_SECONDS = 20.0
SLICE_SECONDS = 1.0


class _Accept(threading.Thread):
    """Waits for the upstream stage; `edge` or `error` is set once joined."""

    def __init__(self, attempt: Callable[[float], Edge], patience: _Patience) -> None:
        super().__init__(name="ring-accept", daemon=True)
        self._attempt = attempt
        self._patience = patience
        self.edge: Edge | None = None
        self.error: EdgeError | None = None

    def run(self) -> None:
        try:
            self.edge = self._patience.insist(self._attempt)
        except EdgeError as exc:
            self.error = exc


@dataclass(frozen=True)
class _Patience:
    """Tries until `until` (time.monotonic), as long as `wanted`."""

    until: float
    wanted: Callable[[], bool]

    def insist(self, attempt: Callable[[float], Edge]) -> Edge:
        """Call `attempt` with slices of the time; raises what the last one met."""
        while True:
            try:
                return attempt(min(self.until, time.monotonic() + SLICE_SECONDS))
            except (EdgeBroken, EdgeRefused, EdgeTimeout):
                if time.monotonic() >= self.until or not self.wanted():
                    raise


def connect(
    ring: JoinRing,
    identity: Identity,
    listener: Listener,
    own: Hello,
    upstream: Hello,
    row_bytes: int,
    wanted: Callable[[], bool],
) -> Edges:
    """Make both edges within `CONNECT_SECONDS`, or until `wanted` says no.

    `own` is what this stage says to the downstream one, `upstream` what the upstream one must
    say. `row_bytes` is the size of one row of hidden states. Raises `EngineError` (edge).
    """
    assert ring.downstream is not None
    assert ring.upstream_certificate is not None
    certificate = ring.upstream_certificate
    payload = 0 if ring.stage == 0 else ring.max_batch_tokens * row_bytes
    incoming = EdgeLimits(MAX_HEADER, payload, window=min(255, MAX_FLIGHTS + 1))
    against = EdgeLimits(max_header=0, max_payload=0, window=1)
    target = ring.downstream

    def check(hello: bytes) -> bytes:
        try:
            check_hello(hello, upstream)
        except StageViolation as exc:
            raise EdgeRefused(exc.message) from exc
        return b""

    def accept_upstream(until: float) -> Edge:
        return listener.accept_from(fingerprint_of(certificate), check, until, limits=incoming)

    def dial_downstream(until: float) -> Edge:
        there = Endpoint(target.host, target.port, target.unix_path)
        hello = own.encode()
        return dial(identity, there, target.fingerprint, hello, until, limits=against)

    failed = threading.Event()
    patience = _Patience(
        time.monotonic() + CONNECT_SECONDS, lambda: wanted() and not failed.is_set()
    )
    accept = _Accept(accept_upstream, patience)
    accept.start()
    try:
        downstream = patience.insist(dial_downstream)
    except EdgeError as exc:
        failed.set()
        accept.join()
        if accept.edge is not None:
            accept.edge.close()
        raise EngineError("edge", f"downstream stage: {exc.reason}") from exc
    accept.join()
    if accept.edge is None:
        downstream.close()
        reason = "no connection" if accept.error is None else accept.error.reason
        raise EngineError("edge", f"upstream stage: {reason}") from accept.error
    return Edges(accept.edge, downstream)
