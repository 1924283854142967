"""`python -m pipeline.engine`: start of the engine process.

The control process passes one end of a socket pair (`--fd`); for work by hand the engine can
connect to a listening Unix socket instead (`--socket`). Nothing heavy is imported before the
socket is served, so `status` answers at once.

Signals: SIGINT is ignored, because Ctrl-C reaches the whole terminal and the control process
decides when the engine stops. SIGTERM stops cleanly. When the parent dies the kernel sends SIGKILL.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import structlog

from pipeline.engine.process import serve

_PR_SET_PDEATHSIG = 1


def _die_with_parent(parent: int) -> None:
    """Have the kernel kill us with our parent; leave if it went away before we asked."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit("the control process is gone")


def _configure_logging(level: str, name: str) -> None:
    def add_name(_logger: object, _method: str, event: structlog.typing.EventDict) -> Any:
        return {"engine": name, **event}

    structlog.configure(
        processors=[
            add_name,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _threads() -> int:
    """Compute threads: PRIME_ENGINE_THREADS, else half the cores this process may run on."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    wanted = os.environ.get("PRIME_ENGINE_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else max(1, cores // 2)


def _connect(arguments: argparse.Namespace) -> socket.socket:
    if arguments.fd is not None:
        return socket.socket(fileno=arguments.fd)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(arguments.socket))
    return sock


def main() -> None:
    """Parse the command line and serve; never returns."""
    parser = argparse.ArgumentParser(prog="pipeline.engine")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--fd", type=int, help="inherited socket to the control process")
    source.add_argument("--socket", type=Path, help="Unix socket to connect to")
    parser.add_argument("--parent", type=int, help="process id to die with")
    parser.add_argument("--edge-socket", default="", help="path of the data-plane Unix socket")
    parser.add_argument("--name", default="engine")
    parser.add_argument(
        "--log-level", default="info", choices=["debug", "info", "warning", "error"]
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if arguments.parent is not None:
        _die_with_parent(arguments.parent)
    _configure_logging(arguments.log_level, arguments.name)
    threads = _threads()
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    serve(_connect(arguments), arguments.edge_socket, threads)


if __name__ == "__main__":
    main()
