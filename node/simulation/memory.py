"""Peak resident memory of a simulation's processes, read from /proc while they run."""

from __future__ import annotations

from dataclasses import dataclass, field

import psutil


@dataclass
class MemoryWatch:
    """The highest resident set seen of each node's control process and engines, in bytes."""

    control: dict[str, int] = field(default_factory=dict)
    engine: dict[str, int] = field(default_factory=dict)

    def sample(self, pids: dict[str, int]) -> None:
        """Look at every named process and its children once."""
        for name, pid in pids.items():
            try:
                process = psutil.Process(pid)
                children = process.children(recursive=True)
                self._note(self.control, name, process)
            except psutil.NoSuchProcess:
                continue
            for child in children:
                self._note(self.engine, name, child)

    @staticmethod
    def _note(peaks: dict[str, int], name: str, process: psutil.Process) -> None:
        try:
            peaks[name] = max(peaks.get(name, 0), process.memory_info().rss)
        except psutil.NoSuchProcess:
            return
