"""What the journal acknowledged survives `kill -9` of its process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from node.journal import Journal
from tests.paths import ROOT

WRITER = """
import sys
from pathlib import Path
import trio
from node.journal import JournalEvent, open_journal

class A(JournalEvent, kind="self.a"):
    name: str
    n: int
    @property
    def key(self):
        return self.name

class B(JournalEvent, kind="self.b"):
    name: str
    n: int
    @property
    def key(self):
        return self.name

async def write(journal, lane):
    n = 0
    while True:
        key = f"{lane}-{n}"
        await journal.record(A(name=key, n=n), B(name=key, n=n), state={f"last-{lane}": n})
        sys.stdout.write(key + "\\n")
        sys.stdout.flush()
        n += 1

async def main():
    async with open_journal(Path(sys.argv[1]), lambda: 0.0) as journal:
        async with trio.open_nursery() as nursery:
            for lane in range(4):
                nursery.start_soon(write, journal, lane)

trio.run(main)
"""


@pytest.mark.parametrize("acknowledged", [1, 60, 333])
def test_everything_acknowledged_is_there_after_sigkill(tmp_path: Path, acknowledged: int) -> None:
    path = tmp_path / "j.sqlite"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert writer.stdout is not None
    seen = [writer.stdout.readline().strip() for _ in range(acknowledged)]
    writer.send_signal(signal.SIGKILL)
    # Lines written before the kill reached it are acknowledgements too; the last may be cut off.
    rest, _ = writer.communicate()
    seen += [line.strip() for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    assert writer.returncode == -signal.SIGKILL
    assert all(seen)
    with Journal(path, lambda: 0.0) as journal:
        first = {event.key for event in journal.events(["self.a"])}
        assert set(seen) <= first
        assert first == {event.key for event in journal.events(["self.b"])}
        for lane in range(4):
            stored = [int(key.split("-")[1]) for key in first if key.startswith(f"{lane}-")]
            assert sorted(stored) == list(range(len(stored)))
            assert journal.state(f"last-{lane}", -1) == len(stored) - 1
