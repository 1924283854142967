#!/usr/bin/env python3
"""Run several commands at once; show the last one's output as it comes, the others' at their end.

    python scripts/side_by_side.py "make lint" "make contracts"

Each of the other commands' output stays in one piece, and the last line of all is the last
command's closing line, whichever ended last. The exit status is 0 only if every command's is.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass

_screen = threading.Lock()


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, and how long it ran in seconds."""

    command: str
    status: int
    seconds: float

    def __str__(self) -> str:
        outcome = "passed" if self.status == 0 else f"FAILED (exit status {self.status})"
        return f"== {self.command}: {outcome} after {self.seconds:.0f} s"


def beside(command: str, ended: list[Ended]) -> None:
    """Run a command, and show its whole output once it has ended."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        status = subprocess.call(command, shell=True, stdout=output, stderr=subprocess.STDOUT)
        output.seek(0)
        text = output.read()
    ended.append(Ended(command, status, time.monotonic() - started))
    show(f"\n{ended[-1]}\n".encode() + text)


def in_front(command: str, ended: list[Ended]) -> bytes:
    """Run a command, showing what it writes at once; returns its closing line."""
    started = time.monotonic()
    process = subprocess.Popen(
        command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    )
    assert process.stdout is not None
    tail = b""
    while data := process.stdout.read(65536):
        tail = (tail + data)[-4096:]
        show(data)
    status = process.wait()
    ended.append(Ended(command, status, time.monotonic() - started))
    return (tail.strip().splitlines() or [b""])[-1]


def show(data: bytes) -> None:
    """Write to standard output, one piece at a time."""
    with _screen:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def main(commands: list[str]) -> int:
    """Run them all; 0 if all of them ran and succeeded, else the first failure's exit status."""
    if not commands:
        print(__doc__, file=sys.stderr)
        return 2
    ended: list[Ended] = []
    others = [threading.Thread(target=beside, args=(each, ended)) for each in commands[:-1]]
    for thread in others:
        thread.start()
    closing = in_front(commands[-1], ended)
    for thread in others:
        thread.join()
    summary = "\n".join(str(each) for each in ended)
    show(f"\n{summary}\n".encode() + closing + b"\n")
    if len(ended) < len(commands):
        return 1  # one could not even be started; its thread has said why
    return next((each.status for each in ended if each.status), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
