"""The engine process's spine: reads requests, runs them on the right thread, answers.

Why threads and blocking sockets rather than trio: torch blocks for as long as a step takes, and
tensors go fastest through blocking sockets (0.09 ms a hop against 0.3 ms for an event loop). So
each thread does one thing:

- the main thread reads IPC frames and answers at once what only touches memory (`status`,
  `submit`, `abort`, `evidence`, `forget`);
- the *device* lane runs, in order, what changes the slice (`load`, `unload`, `listen`);
- each `ring` request waits for its neighbours on a thread of its own, because the next request may
  well be the one that gives up on these neighbours;
- the *audit* lane runs what takes long and depends on neither (`replay`, `bench`);
- the ring's own threads compute and move frames (see `ring`).

So `status` is answered while a load or replay runs. Lanes are bounded queues: a full one refuses.

The end of the IPC socket is the end of the process: edges are closed, then `os._exit`, because a
thread may be deep in torch and unwinding an interpreter under it can crash. A handler that fails in
a way nobody foresaw answers `internal` with the trace in the log; a ring thread that does ends the
process, and the control process starts a fresh one.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from pipeline.engine.control import ipc
from pipeline.engine.control.messages import Empty, Message
from pipeline.engine.control.operations import Lane
from pipeline.engine.errors import EngineError, IpcViolation
from pipeline.engine.service import EngineService

LANE_SLOTS = 64
CRASHED = 70

log = structlog.get_logger("pipeline.engine")

Handler = Callable[[Any], Message]


class Outbox:
    """Sends whole frames from any thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def send(self, frame: bytes) -> None:
        """Blocks while the control process is slow. A lost peer is the reader's to notice."""
        with self._lock:
            try:
                self._sock.sendall(frame)
            except OSError as exc:
                log.debug("control process is gone", reason=str(exc))

    def event(self, name: str, body: Message) -> None:
        """Send an event; blocks as `send` does."""
        self.send(ipc.pack_event(name, body))


def answer(handler: Handler, request: ipc.Request) -> bytes:
    """Run one request; every outcome becomes exactly one answer frame."""
    try:
        return ipc.pack_answer(request.id, handler(request.body))
    except EngineError as exc:
        return ipc.pack_failure(request.id, exc)
    except MemoryError as exc:
        return ipc.pack_failure(request.id, EngineError("out_of_memory", str(exc) or "no memory"))
    except Exception as exc:
        name = request.operation.name
        log.exception("request failed", op=name)
        error = EngineError("internal", f"{type(exc).__name__} in {name}; see the log")
        return ipc.pack_failure(request.id, error)


def _answer_to(outbox: Outbox, handler: Handler, request: ipc.Request) -> None:
    outbox.send(answer(handler, request))


class LaneThread:
    """One thread that answers requests in order."""

    def __init__(self, name: str, outbox: Outbox) -> None:
        self._queue: queue.Queue[tuple[Handler, ipc.Request]] = queue.Queue(LANE_SLOTS)
        self._outbox = outbox
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def put(self, handler: Handler, request: ipc.Request) -> None:
        """Queue a request; one over `LANE_SLOTS` is refused (bad_request)."""
        try:
            self._queue.put_nowait((handler, request))
        except queue.Full:
            error = EngineError("bad_request", f"{LANE_SLOTS} requests wait; ask again later")
            self._outbox.send(ipc.pack_failure(request.id, error))

    def _run(self) -> None:
        while True:
            handler, request = self._queue.get()
            _answer_to(self._outbox, handler, request)


def _crash(args: threading.ExceptHookArgs) -> None:
    """An unforeseen error in a thread leaves the engine in an unknown state: end it."""
    thread = args.thread.name if args.thread else "?"
    exc_info = (args.exc_type, args.exc_value, args.exc_traceback)
    log.error("thread failed; the engine ends", thread=thread, exc_info=exc_info)
    os._exit(CRASHED)


def _read_loop(sock: socket.socket, outbox: Outbox, service: EngineService) -> None:
    """Serve requests until the socket ends or `shutdown` was answered."""
    queues = {lane: LaneThread(lane.name.lower(), outbox) for lane in (Lane.DEVICE, Lane.AUDIT)}
    handlers = service.handlers()
    splitter = ipc.FrameSplitter()
    while data := sock.recv(1 << 16):
        for frame in splitter.feed(data):
            request_id = ipc.parse_request_id(frame)
            try:
                request = ipc.parse_request(frame)
            except IpcViolation as exc:
                outbox.send(ipc.pack_failure(request_id, exc))
                continue
            lane = request.operation.lane
            if lane is Lane.LAST:
                outbox.send(ipc.pack_answer(request.id, Empty()))
                return
            handler = handlers.of(request.operation)
            if lane is Lane.INLINE:
                outbox.send(answer(handler, request))
            elif lane is Lane.OWN_THREAD:
                target = partial(_answer_to, outbox, handler, request)
                threading.Thread(target=target, name="ring-request", daemon=True).start()
            else:
                queues[lane].put(handler, request)


def serve(sock: socket.socket, edge_socket: str, threads: int) -> None:
    """Serve the control process on `sock`; never returns, the process exits with it."""
    threading.excepthook = _crash
    outbox = Outbox(sock)
    service = EngineService(edge_socket, threads, outbox.event)
    code = 0
    try:
        log.info("engine serves", pid=os.getpid(), threads=threads)
        _read_loop(sock, outbox, service)
    except IpcViolation as exc:
        log.error("control process broke the protocol", reason=exc.message)
        code = 1
    except OSError as exc:
        log.info("control process is gone", reason=str(exc))
    except SystemExit:
        log.info("asked to stop")
    finally:
        service.close()
        os._exit(code)
