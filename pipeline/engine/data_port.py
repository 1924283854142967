"""Where an engine meets its neighbours: its data-plane identity, its listener, its ring's edges.

The identity is made once and lasts as long as the process, whatever address is listened on. There
is one listener at a time.
"""

from __future__ import annotations

import threading

from pipeline.dataplane import Identity, Listener, ListenFailed, Recall
from pipeline.engine.control.messages import JoinRing, Listen, Listening
from pipeline.engine.errors import EngineError
from pipeline.engine.loading import LoadedModel
from pipeline.engine.ring.connect import connect
from pipeline.engine.ring.joining import hellos
from pipeline.engine.ring.ring import Edges


class DataPort:
    """Thread-safe. `edge_socket` is the path of the Unix socket that it listens on besides TCP."""

    def __init__(self, edge_socket: str) -> None:
        self._edge_socket = edge_socket
        self._lock = threading.Lock()
        self._identity: Identity | None = None
        self._listener: Listener | None = None
        self._listening_on: tuple[str, int] = ("", 0)

    def listen(self, body: Listen) -> Listening:
        """Open the listener, or reopen it where another address is asked for.

        Raises `EngineError` (edge) where the address cannot be used.
        """
        with self._lock:
            wanted = (body.host, body.port)
            if self._listener is not None and self._listening_on != wanted:
                self._listener.close()
                self._listener = None
            if self._identity is None:
                self._identity = Identity()
            if self._listener is None:
                try:
                    self._listener = Listener(
                        self._identity, body.host, body.port, self._edge_socket
                    )
                except ListenFailed as exc:
                    raise EngineError("edge", exc.reason) from exc
                self._listening_on = wanted
            return Listening(
                port=self._listener.port,
                certificate=self._identity.certificate,
                fingerprint=self._identity.fingerprint,
                unix_path=self._listener.unix_path,
            )

    def connect(self, body: JoinRing, model: LoadedModel, recall: Recall) -> Edges:
        """Both edges of a ring of several stages; waits for the neighbours until `recall` is given.

        Raises `EngineError`: bad_request before `listen`, else as `connect`.
        """
        if self._identity is None or self._listener is None:
            raise EngineError("bad_request", "listen before joining a ring of several stages")
        own, upstream = hellos(body, model)
        return connect(body, self._identity, self._listener, own, upstream, model.row_bytes, recall)

    def close(self) -> None:
        """Stop listening, so that nobody waits for an engine that is going."""
        if self._listener is not None:
            self._listener.close()
