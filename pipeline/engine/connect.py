"""Making a ring's two edges: accept the upstream stage while dialling the downstream one.

Both at once, because every stage of a ring does the same: if each dialled first, nobody would
accept. The hello says which ring, generation and cut of the model the dialler stands for, and the
acceptor refuses any other, so that a stage of an older generation cannot slip in.
"""

from __future__ import annotations

import threading
import time

from pipeline.dataplane import (
    Edge,
    EdgeError,
    EdgeRefused,
    Endpoint,
    Identity,
    Limits,
    Listener,
    dial,
    fingerprint_of,
)
from pipeline.engine import messages as m
from pipeline.engine.errors import EngineError, StageViolation
from pipeline.engine.frames import MAX_HEADER, Hello, check_hello
from pipeline.engine.ring import Edges

CONNECT_SECONDS = 20.0


class _Accept(threading.Thread):
    """Waits for the upstream stage; `edge` or `error` is set once joined."""

    def __init__(
        self, listener: Listener, certificate: bytes, expected: Hello, limits: Limits, until: float
    ) -> None:
        super().__init__(name="ring-accept", daemon=True)
        self._wait = (listener, fingerprint_of(certificate), until)
        self._expected = expected
        self._limits = limits
        self.edge: Edge | None = None
        self.error: EdgeError | None = None

    def run(self) -> None:
        listener, fingerprint, until = self._wait
        try:
            self.edge = listener.accept_from(fingerprint, self._check, until, limits=self._limits)
        except EdgeError as exc:
            self.error = exc

    def _check(self, hello: bytes) -> bytes:
        try:
            check_hello(hello, self._expected)
        except StageViolation as exc:
            raise EdgeRefused(exc.message) from exc
        return b""


def connect(
    ring: m.Ring,
    identity: Identity,
    listener: Listener,
    place: Hello,
    upstream: Hello,
    row_bytes: int,
) -> Edges:
    """Make both edges within `CONNECT_SECONDS`.

    `place` is what this stage says to the downstream one, `upstream` what the upstream one must
    say. `row_bytes` is the size of one row of hidden states. Raises `EngineError` (edge).
    """
    assert ring.downstream is not None
    assert ring.upstream_certificate is not None
    until = time.monotonic() + CONNECT_SECONDS
    payload = 0 if ring.stage == 0 else ring.max_batch_tokens * row_bytes
    incoming = Limits(MAX_HEADER, payload, window=min(255, ring.micro_batches + 1))
    accept = _Accept(listener, ring.upstream_certificate, upstream, incoming, until)
    accept.start()
    target = ring.downstream
    try:
        downstream = dial(
            identity,
            Endpoint(target.host, target.port, target.unix_path),
            target.fingerprint,
            place.encode(),
            until,
            limits=Limits(max_header=0, max_payload=0, window=1),
        )
    except EdgeError as exc:
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
