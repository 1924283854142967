"""Parts under trio: whatever a part raises is logged and shown, and the part begins again.

A *part* is a background task that belongs to the node for good: it watches, reports, settles. A
surprise in one (any `Exception`: nobody expected it, or it would have been handled) says nothing
about the others, so it ends that part alone, which is tried again after a growing pause. A *task*
is about one thing, a bundle or a command; it is not repeated blindly, and whoever began it is told
that it failed, so that the thing is not stuck.

`Cancelled` and `KeyboardInterrupt` are nobody's surprise and pass. What a part raises before it has
started for the first time is the starter's: a wrong setting has to end the start with a clear
error.

A part that is begun again must find its state sound. What it keeps in its object stays as it was,
local variables and child tasks are new; so a part's children either are tasks of this supervisor,
or all of them can be begun anew from what the object, the journal or the chain says.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog
import trio

from node.supervisor.life import PartBook, PartLife, PartReport, RestartPolicy, reason_of


class Startable(Protocol):
    """A part that says when it is ready."""

    def __call__(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> Awaitable[None]:
        """Run; `task_status.started()` once ready."""
        ...


class Supervisor:
    """Keeps parts running and knows how they are. `wall` gives the unix seconds of reports."""

    def __init__(
        self,
        log: Any = None,
        policy: RestartPolicy | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._log = structlog.get_logger("node") if log is None else log
        self._policy = policy or RestartPolicy()
        self._wall = wall
        self._book = PartBook()

    def reports(self) -> list[PartReport]:
        """How the parts are, by name."""
        return sorted(self._book.reports.values(), key=lambda report: report.name)

    def keep(
        self, nursery: trio.Nursery, name: str, part: Callable[..., Awaitable[None]], *args: Any
    ) -> None:
        """Run `part(*args)` in the nursery until it returns; begin it again after a surprise."""
        nursery.start_soon(self._keep, name, lambda: part(*args))

    async def start(self, nursery: trio.Nursery, name: str, part: Startable) -> None:
        """Like `keep`, returning once the part has started. Raises what it raises before that."""
        await nursery.start(self._start, name, part)

    def task(
        self,
        nursery: trio.Nursery,
        name: str,
        call: Callable[..., Awaitable[None]],
        *args: Any,
        failed: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """Run `call(*args)` once. After a surprise `failed(reason)` puts right what it left."""
        nursery.start_soon(self._once, name, lambda: call(*args), failed)

    # -- the tasks -------------------------------------------------------------------------------

    async def _keep(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        life = PartLife(self._policy, trio.current_time())
        while True:
            self._book.runs(name)
            surprise = await _surprise(part)
            if surprise is None:
                self._book.ended(name)
                return
            await self._pause(name, life, surprise)

    async def _start(
        self,
        name: str,
        part: Startable,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        started = False

        async def run() -> None:
            nonlocal started
            async with trio.open_nursery() as nursery:
                await nursery.start(lambda *, task_status: part(task_status=task_status))
                if not started:
                    started = True
                    task_status.started()

        life = PartLife(self._policy, trio.current_time())
        while True:
            self._book.runs(name)
            surprise = await _surprise(run)
            if surprise is None:
                self._book.ended(name)
                return
            if not started:
                raise surprise
            await self._pause(name, life, surprise)

    async def _once(
        self,
        name: str,
        call: Callable[[], Awaitable[None]],
        failed: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        surprise = await _surprise(call)
        if surprise is None:
            return
        self._book.failed(name, reason_of(surprise), self._wall(), None)
        self._log.error("task failed", task=name, reason=reason_of(surprise), exc_info=surprise)
        if failed is not None:
            await self._once(name, lambda: failed(reason_of(surprise)))

    async def _pause(self, name: str, life: PartLife, surprise: Exception) -> None:
        pause = life.failed(trio.current_time())
        self._book.failed(name, reason_of(surprise), self._wall(), pause)
        self._log.error(
            "part failed", part=name, reason=reason_of(surprise), next_try=pause, exc_info=surprise
        )
        await trio.sleep(pause)


async def _surprise(call: Callable[[], Awaitable[None]]) -> Exception | None:
    """What `call` raised, None where it returned. Cancellation and interrupts pass."""
    try:
        await call()
    except Exception as exc:  # noqa: BLE001 - that is what a supervisor is for
        return exc
    except BaseExceptionGroup as group:
        _, rest = group.split(Exception)
        raise (rest or group) from None
    return None
