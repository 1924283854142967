#!/usr/bin/env python3
"""Type what README.md says, in the order in which it says it, and see whether it works.

    .venv/bin/python scripts/docs/run_readme.py            # the network by hand: about two minutes
    .venv/bin/python scripts/docs/run_readme.py --faults   # and the two runs of "Now break it"

Each block is a terminal of its own, in one scratch folder that stands for the repository. Programs
that keep running are left running once they say that they are ready. What a reader must fill in is
filled in from what was printed: `0x…` is the address that `init` showed last, and a bootstrap
address is the one that the orchestrator prints. The worker's block is typed three times, as the
text says. Prints what it types, and ends with 0 if every command did what it should; what every
terminal showed is in the folder that `--keep` names, or in a temporary one.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from commands import Block, blocks

ROOT = Path(__file__).resolve().parents[2]
SECTION = "## The same network by hand"
FAULTS = "### Now break it"
READY = {"chain dev": "written ", "run": "serving"}
"""What a program that keeps running says when it is ready."""
WORKERS = 3
READY_SECONDS = 600
COMMAND_SECONDS = 1800
AFTER = (
    "prime-node wallet balance --data-dir net/worker-1",
    "prime-node stake status --data-dir net/worker-1",
    "prime-node rewards list --data-dir net/worker-1",
)
"""What the text says can be asked at the end."""


class Failed(Exception):
    """A command did not do what the document says."""


class Terminals:
    """Runs commands, and keeps those that go on running."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
        self._running: list[subprocess.Popen[str]] = []
        self._opened = 0
        self.address = ""

    def type(self, command: str) -> None:
        """One line; raises `Failed`."""
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self.environment[name] = value
            return
        command = command.replace("0x…", self.address or "0x…")
        print(f"$ {command}", flush=True)
        ready = next((said for name, said in READY.items() if f"prime-node {name} " in command), "")
        process = subprocess.Popen(
            f"exec {command}",
            shell=True,
            cwd=self._folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines: list[str] = []
        seen = threading.Event()
        reader = threading.Thread(
            target=self._read, args=(process, lines, ready, seen), daemon=True
        )
        reader.start()
        if ready:
            self._running.append(process)
            if not seen.wait(READY_SECONDS) or process.poll() is not None:
                raise Failed(f"no {ready!r}:\n" + "".join(lines[-20:]))
            return
        try:
            code = process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired as exc:
            process.kill()
            raise Failed(f"no end within {COMMAND_SECONDS} s") from exc
        reader.join(10)
        if code:
            raise Failed(f"exit code {code}:\n" + "".join(lines[-20:]))

    def _read(
        self, process: subprocess.Popen[str], lines: list[str], ready: str, seen: threading.Event
    ) -> None:
        assert process.stdout is not None
        self._opened += 1
        log = self._folder / f"terminal-{self._opened}.log"
        for line in process.stdout:
            lines.append(line)
            with log.open("a") as file:
                file.write(line)
            shown = re.match(r"address +(0x[0-9a-fA-F]{40})", line)
            if shown:
                self.address = shown[1]
            joined = re.search(r"/ip4/127\.0\.0\.1/tcp/4001/p2p/16Uiu2\w+", line)
            if joined:
                self.environment["ORCHESTRATOR"] = joined[0]
            if ready and ready in line:
                seen.set()
        seen.set()

    def close(self) -> None:
        """Ctrl-C in every terminal, the newest first."""
        for process in reversed(self._running):
            process.send_signal(signal.SIGINT)
        for process in self._running:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def section(title: str) -> list[Block]:
    """The blocks of README.md between a heading and the next one."""
    lines = (ROOT / "README.md").read_text().splitlines()
    first = lines.index(title)
    last = next(n for n in range(first + 1, len(lines)) if lines[n].startswith("#"))
    found = [b for b in blocks(ROOT / "README.md") if first < b.line < last]
    return [block for block in found if block.commands()]


def by_hand(terminals: Terminals) -> None:
    """The network by hand, work for it, and what can be asked afterwards."""
    for block in section(SECTION):
        commands = block.commands()
        times = WORKERS if any("net/worker-1" in command for command in commands) else 1
        for number in range(1, times + 1):
            for command in commands:
                if command.startswith("export PRIME_NODE_BOOTSTRAP="):
                    command = f"export PRIME_NODE_BOOTSTRAP={terminals.environment['ORCHESTRATOR']}"
                terminals.type(command.replace("net/worker-1", f"net/worker-{number}"))
    for command in AFTER:
        terminals.type(command)


def _stop(*_signal: object) -> None:
    raise Failed("stopped")


def main() -> int:
    """Run, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", action="store_true", help='also the runs of "Now break it"')
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, which stays")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    with tempfile.TemporaryDirectory() as name:
        return run(asked.keep or Path(name), asked.faults)


def run(folder: Path, faults: bool) -> int:
    """Type everything in `folder`; returns the exit code."""
    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "node").symlink_to(ROOT / "node")
    terminals = Terminals(folder)
    try:
        by_hand(terminals)
        for block in section(FAULTS) if faults else ():
            for command in block.commands():
                if not command.startswith(". "):
                    terminals.type(command)
    except Failed as exc:
        print(f"failed after {time.monotonic() - begun:.0f} s: {exc}", file=sys.stderr)
        return 1
    finally:
        terminals.close()
    print(f"all of it worked, in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
