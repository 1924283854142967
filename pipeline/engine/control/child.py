"""The engine as a child process: started, connected to its owner by a socket pair, and reaped.

No engine outlives its owner: it exits when the socket ends, and it has the kernel kill it when its
parent dies, so even `kill -9` of the control process leaves nothing behind.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from pipeline.engine.control.environment import engine_environment
from pipeline.engine.errors import EngineError

WRITE_SLOTS = 64
GRACE_SECONDS = 1.0
"""How long an engine whose socket ended may take to exit before it is killed."""
MAX_UNIX_PATH = 100
"""Bytes; the kernel's limit is 107, and the data plane's is this."""


@dataclass
class EngineChild:
    """One incarnation of the engine: its process, its socket, and the requests that wait for it.

    Frames go into `outgoing` and are sent from `queue` by one task; `waiting` is by request id.
    """

    popen: subprocess.Popen[bytes]
    stream: trio.SocketStream
    outgoing: trio.MemorySendChannel[bytes]
    queue: trio.MemoryReceiveChannel[bytes]
    waiting: dict[int, Waiter] = field(default_factory=dict)


@dataclass
class Waiter:
    """A request that waits: `done` is set once the answer's `body` or the `error` is there."""

    done: trio.Event = field(default_factory=trio.Event)
    body: object = None
    error: EngineError | None = None


def spawn(edge_socket: str, name: str, environment: Mapping[str, str]) -> EngineChild:
    """Start an engine process and connect to it. Raises OSError when it cannot be started."""
    ours, theirs = socket.socketpair()
    root = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    # -P: a `pipeline` in the folder that somebody works in is not ours.
    command = [sys.executable, "-P", "-m", "pipeline.engine", "--fd", str(theirs.fileno())]
    command += ["--parent", str(os.getpid())]
    command += ["--edge-socket", edge_socket, "--name", name]
    with theirs:
        # Not trio's run_process: that forks in a pool thread, and the kernel's parent-death
        # signal fires when the forking thread ends, not the process.
        popen = subprocess.Popen(
            command,
            env={**engine_environment(os.environ), **environment, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
    ours.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    outgoing, queue = trio.open_memory_channel[bytes](WRITE_SLOTS)
    return EngineChild(popen, stream, outgoing, queue)


async def write_frames(process: EngineChild) -> None:
    """Send what is queued, frame by frame, until the socket ends."""
    with suppress(trio.BrokenResourceError):  # the reader sees the same end and reports it
        async for frame in process.queue:
            await process.stream.send_all(frame)


async def reap(process: EngineChild) -> int:
    """Close the socket, kill the whole process group and collect the exit code."""
    popen = process.popen
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(process.stream)
        with trio.move_on_after(GRACE_SECONDS):
            await trio.to_thread.run_sync(popen.wait, abandon_on_cancel=True)
        with suppress(ProcessLookupError):
            os.killpg(popen.pid, signal.SIGKILL)
        await trio.to_thread.run_sync(popen.wait)
    return popen.returncode


@contextmanager
def edge_socket_path(data_dir: Path, name: str) -> Iterator[str]:
    """Where the engine may put its data-plane socket; removes what a killed engine left there."""
    with ExitStack() as stack:
        path = (data_dir / f"{name}.sock").absolute()
        if len(os.fsencode(path)) > MAX_UNIX_PATH:
            folder = tempfile.TemporaryDirectory(prefix="prime-edge-")
            path = Path(stack.enter_context(folder)) / "edge.sock"
        try:
            yield str(path)
        finally:
            path.unlink(missing_ok=True)
