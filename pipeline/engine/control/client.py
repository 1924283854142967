"""The control process's handle on its engine process (trio side; imports no torch).

`open_engine` starts `python -m pipeline.engine` with one end of a socket pair and keeps it alive
until the block is left:

    async with open_engine(data_dir, "engine") as engine:
        loaded = await engine.request(LOAD, Load(...), timeout=120)
        async for name, event in engine.events: ...

One supervisor task owns the process. Its reader hands answers to waiting requests and events to
`engine.events`; one writer task does all sends, because a send that is cancelled half way would
corrupt the stream. When the socket ends the process is killed and reaped, every waiting request
raises `EngineDied`, and (with `restart`) a fresh engine is started after a backoff. A fresh engine
knows nothing: the `exited` and `restarted` events tell the owner to load, ring and submit again.

Events are bounded: an owner that stops reading them stops the reader after `EVENT_SLOTS` events,
and requests then time out. So read events in a task of its own.

No engine outlives its owner (see `child.py`), and leaving the block kills whatever did not stop in
time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog
import trio

from pipeline.engine.control import ipc
from pipeline.engine.control.child import (
    EngineChild,
    Waiter,
    edge_socket_path,
    reap,
    spawn,
    write_frames,
)
from pipeline.engine.control.messages import Empty, Message
from pipeline.engine.control.operations import SHUTDOWN, AnswerT, Operation, RequestT
from pipeline.engine.errors import EngineDied, EngineError, IpcViolation

EVENT_SLOTS = 4096
SHUTDOWN_SECONDS = 3.0
RENEWAL_SECONDS = 30.0
FIRST_BACKOFF = 0.1
LAST_BACKOFF = 10.0
HEALTHY_SECONDS = 60.0
"""An engine that lived this long starts its backoff afresh."""

log = structlog.get_logger("pipeline.engine.control.client")


class Exited(Message):
    """Local event: the engine process ended. `code` as in `subprocess`: negative for a signal."""

    code: int


class Restarted(Message):
    """Local event: a fresh engine runs; it has nothing loaded."""

    pid: int


class EngineClient:
    """Use `open_engine`; the constructor starts nothing."""

    def __init__(
        self, edge_socket: str, name: str, *, restart: bool, environment: Mapping[str, str]
    ) -> None:
        self._edge_socket = edge_socket
        self._name = name
        self._restart = restart
        self._environment = dict(environment)
        self._process: EngineChild | None = None
        self._next_id = 0
        self._spawned = trio.Event()
        self._send_event, self.events = trio.open_memory_channel[tuple[str, Message]](EVENT_SLOTS)

    @property
    def pid(self) -> int | None:
        """Process id of the running engine, None between two incarnations."""
        return None if self._process is None else self._process.popen.pid

    async def request(
        self, operation: Operation[RequestT, AnswerT], body: RequestT, timeout: float
    ) -> AnswerT:
        """Ask the engine and wait at most `timeout` seconds for its typed answer.

        Raises `EngineDied` when the engine is not running or dies meanwhile, and `EngineError`
        with the engine's code, or code `timeout`. A timed-out request may still take effect.
        """
        process = self._process
        if process is None:
            raise EngineDied("the engine is restarting; try again after its `restarted` event")
        self._next_id += 1
        request_id, waiter = self._next_id, Waiter()
        frame = ipc.pack_request(request_id, operation, body)
        process.waiting[request_id] = waiter
        try:
            with trio.fail_after(timeout):
                await process.outgoing.send(frame)
                await waiter.done.wait()
        except trio.TooSlowError as exc:
            raise EngineError(
                "timeout", f"no answer to {operation.name} within {timeout:g} s"
            ) from exc
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise EngineDied(f"the engine ended before {operation.name} was sent") from exc
        finally:
            process.waiting.pop(request_id, None)
        if waiter.error is not None:
            raise waiter.error
        return ipc.validate(operation.answer, waiter.body, f"answer to {operation.name}")

    async def renew(self) -> None:
        """End the process, which gives all of its memory back, and wait for a fresh one; where one
        is being started anyway, for that."""
        process, fresh = self._process, self._spawned
        with trio.move_on_after(RENEWAL_SECONDS):
            if process is not None:
                try:
                    await self.request(SHUTDOWN, Empty(), timeout=SHUTDOWN_SECONDS)
                except EngineError:
                    process.popen.kill()  # it hangs; or it is gone, and this does nothing
            await fresh.wait()

    async def _supervise(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        backoff, first = FIRST_BACKOFF, True
        with self._send_event:
            while True:
                started = trio.current_time()
                process = self._process = spawn(self._edge_socket, self._name, self._environment)
                self._spawned.set()
                self._spawned = trio.Event()
                if first:
                    task_status.started()
                else:
                    await self._send_event.send(("restarted", Restarted(pid=process.popen.pid)))
                first = False
                try:
                    await self._serve(process)
                finally:
                    self._process = None
                    code = await reap(process)
                log.warning("engine exited", engine=self._name, code=code)
                await self._send_event.send(("exited", Exited(code=code)))
                if not self._restart:
                    return
                if trio.current_time() - started > HEALTHY_SECONDS:
                    backoff = FIRST_BACKOFF
                await trio.sleep(backoff)
                backoff = min(2 * backoff, LAST_BACKOFF)

    async def _serve(self, process: EngineChild) -> None:
        """Move frames until the socket ends or the engine breaks the protocol."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write_frames, process)
                await self._read(process)
                nursery.cancel_scope.cancel()
        finally:
            process.outgoing.close()
            process.queue.close()
            for waiter in process.waiting.values():
                waiter.error = EngineDied("the engine ended before it answered")
                waiter.done.set()

    async def _read(self, process: EngineChild) -> None:
        splitter = ipc.FrameSplitter()
        try:
            while data := await process.stream.receive_some(1 << 16):
                for frame in splitter.feed(data):
                    reply = ipc.parse_reply(frame)
                    if isinstance(reply, ipc.Event):
                        await self._send_event.send((reply.name, reply.body))
                    elif (waiter := process.waiting.get(reply.id)) is not None:
                        waiter.body = getattr(reply, "body", None)
                        waiter.error = getattr(reply, "error", None)
                        waiter.done.set()
        except IpcViolation as exc:
            log.error("engine broke the protocol", engine=self._name, reason=exc.message)
        except trio.BrokenResourceError:
            log.warning("engine socket broke", engine=self._name)

    async def _stop(self) -> None:
        """Ask the engine to leave; the supervisor kills what remains."""
        self._restart = False
        with trio.move_on_after(SHUTDOWN_SECONDS) as scope:
            scope.shield = True
            with suppress(EngineError):
                await self.request(SHUTDOWN, Empty(), timeout=SHUTDOWN_SECONDS)


@asynccontextmanager
async def open_engine(
    data_dir: Path,
    name: str,
    *,
    restart: bool = True,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[EngineClient]:
    """Run an engine process while the block runs.

    `data_dir` (must exist) is where the engine puts its data-plane socket; `name` tells engines of
    one folder apart. `environment` adds variables to the child's, e.g. `PRIME_ENGINE_THREADS`; of
    this process's own it gets only what `environment.py` names.
    The engine logs JSON lines to this process's stderr. On exit the engine is asked to stop and
    killed after `SHUTDOWN_SECONDS`. Raises OSError when the process cannot be started.
    """
    with edge_socket_path(data_dir, name) as edge_socket:
        client = EngineClient(edge_socket, name, restart=restart, environment=environment or {})
        own: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(client._supervise)
                try:
                    yield client
                except BaseException as exc:
                    own = exc
                    raise
                finally:
                    await client._stop()
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if own is not None and group.exceptions == (own,):
                raise own from None  # the block's error as it was, not wrapped by our nursery
            raise
