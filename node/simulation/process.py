"""One child process of a simulation: started, heard, watched, stopped.

A node's log is JSON lines on its stderr. They go to a file for people, and the event names go to
whoever waits for one (`wait_for("serving")`), so nothing here polls. The child is asked to stop
with SIGINT, twice if need be, and killed with its whole session when it does not. Should the
simulation itself be killed, the kernel kills the children.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio

import prime_node
from node.errors import NodeError
from node.onchain.devchain import FUNDER_VARIABLE

STOP_SECONDS = 20.0
LAST_STOP_SECONDS = 3.0
TAIL = 8192
PR_SET_PDEATHSIG = 1

Line = dict[str, Any]


class ChildFailed(NodeError):
    """A child process ended before it should."""


class Child:
    """A running child. Made by `Children.start`."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self.popen = popen
        self.ended = trio.Event()
        self.expected_to_end = False
        self.outlives_others = False
        self._seen: dict[str, Line] = {}
        self._latest: dict[str, Line] = {}
        self._news = trio.Event()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.popen.pid

    def hear(self, line: Line) -> None:
        """Note one log line, and wake whoever waits for its event."""
        event = str(line.get("event"))
        self._seen.setdefault(event, line)
        self._latest[event] = line
        self._news.set()
        self._news = trio.Event()

    async def wait_for(self, event: str, timeout: float) -> Line:
        """The first log line with this event name. Raises `ChildFailed`."""
        with trio.move_on_after(timeout):
            while event not in self._seen:
                if self.ended.is_set():
                    words = self.last_words().removeprefix("error: ")
                    raise ChildFailed(f"{self.name} ended: {words}", f"see {self.log}")
                await self._news.wait()
            return self._seen[event]
        raise ChildFailed(f"{self.name}: no {event!r} within {timeout:g} s", f"see {self.log}")

    def latest(self, event: str) -> Line | None:
        """The newest log line with this event name, None where there was none yet."""
        return self._latest.get(event)

    def last_words(self) -> str:
        """The last line of its log that is not JSON (an error for people), else the last one."""
        with suppress(OSError):
            lines = self.log.read_bytes()[-TAIL:].decode(errors="replace").strip().splitlines()
            plain = [line for line in lines if not line.startswith("{")]
            return (plain or lines or ["nothing was said"])[-1][:500]
        return "nothing was said"

    def kill(self) -> None:
        """`kill -9`, of the node's control process alone; its engines notice by themselves."""
        self.expected_to_end = True
        self.popen.kill()

    def signal(self, number: int) -> None:
        """Send a signal that may end the child."""
        self.expected_to_end = True
        with suppress(ProcessLookupError):
            self.popen.send_signal(number)


class Children:
    """Starts children in one nursery and stops all of them at the end."""

    def __init__(self, nursery: trio.Nursery, folder: Path) -> None:
        self._nursery = nursery
        self._folder = folder
        self.all: list[Child] = []
        self.on_line: Callable[[Child, Line], None] = lambda child, line: None
        self.on_end: Callable[[Child], None] = lambda child: None

    async def start(self, name: str, arguments: list[str]) -> Child:
        """Run `prime-node <arguments>` as `name`; its stderr and stdout go to `<name>.log`."""
        log = self._folder / f"{name}.log"
        # -P and our own path: a `node` in the folder that somebody works in is not ours.
        command = [sys.executable, "-P", "-m", "node", *arguments]
        kept = {FUNDER_VARIABLE} if name == "chain" else set()
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith("PRIME_NODE_") or k in kept
        }
        environment |= {"PYTHONUNBUFFERED": "1", "PRIME_SIMULATION": "1"}
        path = filter(None, (prime_node.HOME, environment.get("PYTHONPATH")))
        environment["PYTHONPATH"] = os.pathsep.join(path)
        popen = _spawn(command, environment)
        child = Child(name, popen, log)
        self.all.append(child)
        self._nursery.start_soon(self._listen, child)
        return child

    async def stop_all(self) -> None:
        """SIGINT, SIGINT again, then SIGKILL; returns when every child is reaped.

        Waits for the processes themselves, not for `ended`: when the simulation is cancelled, so
        are the tasks that listen.
        """
        with trio.CancelScope(shield=True):
            await self._stop([child for child in self.all if not child.outlives_others])
            await self._stop([child for child in self.all if child.outlives_others])

    def kill_all(self) -> None:
        """`kill -9` of every child, at once."""
        for child in self.all:
            child.kill()

    async def _stop(self, children: list[Child]) -> None:
        for seconds in (STOP_SECONDS, LAST_STOP_SECONDS):
            for child in children:
                if child.popen.poll() is None:
                    child.signal(signal.SIGINT)
            with trio.move_on_after(seconds):
                for child in children:
                    await trio.to_thread.run_sync(child.popen.wait, abandon_on_cancel=True)
        for child in children:
            child.expected_to_end = True
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            await trio.to_thread.run_sync(child.popen.wait)

    async def _listen(self, child: Child) -> None:
        assert child.popen.stdout is not None
        stream = trio.lowlevel.FdStream(os.dup(child.popen.stdout.fileno()))
        child.popen.stdout.close()
        with child.log.open("ab") as file:
            async with stream:
                async for raw in _lines(stream):
                    file.write(raw + b"\n")
                    file.flush()
                    with suppress(ValueError):
                        line = json.loads(raw)
                        if isinstance(line, dict):
                            child.hear(line)
                            self.on_line(child, line)
        await trio.to_thread.run_sync(child.popen.wait)
        child.ended.set()
        child.hear({"event": "ended"})
        self.on_end(child)


@asynccontextmanager
async def open_children(folder: Path) -> AsyncIterator[Children]:
    """Children of the block; none of them outlives it."""
    await trio.Path(folder).mkdir(parents=True, exist_ok=True)
    async with trio.open_nursery() as nursery:
        children = Children(nursery, folder)
        try:
            yield children
        finally:
            await children.stop_all()
            nursery.cancel_scope.cancel()


async def _lines(stream: trio.lowlevel.FdStream) -> AsyncIterator[bytes]:
    buffer = bytearray()
    while data := await stream.receive_some(1 << 16):
        buffer += data
        *whole, rest = bytes(buffer).split(b"\n")
        buffer = bytearray(rest)
        for line in whole:
            yield line
    if buffer:
        yield bytes(buffer)


def _spawn(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_die_with_parent,
        env=environment,
    )


def _die_with_parent() -> None:
    """In the child: be killed when the simulation dies (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
