"""Node processes of a scenario: started, killed with SIGKILL, started again in the same folder."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from node.config.datadir import DataDir
from node.errors import InputError
from tests.paths import ROOT

PROGRAM = "tests.integration.settlement.node_process"
READY_SECONDS = 240
"""For a busy machine; a process takes a few seconds."""


@dataclass
class NodeProcess:
    """One node, through all of its lives. `kills` counts them."""

    name: str
    peer_id: str
    folder: Path
    arguments: Sequence[str]
    kills: int = 0
    held_down: bool = False
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log_path(self) -> Path:
        return self.folder / "log.jsonl"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def fell(self) -> bool:
        """Whether it ended though nobody killed it."""
        return self._process is not None and not self.running

    @property
    def serving(self) -> bool:
        """Whether this life of the process serves already."""
        if self._process is None or not self.running:
            return False
        try:
            return DataDir(self.folder).read_status().pid == self._process.pid
        except InputError:
            return False

    def start(self) -> None:
        command = [sys.executable, "-m", PROGRAM, "--data-dir", str(self.folder), *self.arguments]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=ROOT
            )

    async def wait_serving(self) -> None:
        """Or until it is held down. Raises AssertionError with the end of its log when it ends."""
        with trio.move_on_after(READY_SECONDS):
            while not self.serving and not self.held_down:
                assert self.running, f"{self.name} ended:\n{self.log_tail()}"
                await trio.sleep(0.05)
            return
        raise AssertionError(f"{self.name} does not serve:\n{self.log_tail()}")

    def kill(self) -> None:
        """SIGKILL: nothing is finished, flushed or said."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
            self.kills += 1

    def stop(self) -> None:
        """End it for good."""
        if self._process is not None and self.running:
            self._process.kill()
            self._process.wait()

    def last_event(self) -> str:
        """The last line of its log, cut short."""
        lines = self.log_tail().splitlines()
        return lines[-1][-300:] if lines else "no log"

    def log_tail(self, size: int = 3_000) -> str:
        return self.log_path.read_text(errors="replace")[-size:]
