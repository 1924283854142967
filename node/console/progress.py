"""Progress of long steps on stderr: bars on a terminal, one line per tenth elsewhere.

A log file or a CI page cannot redraw a bar, but its reader also wants to see that something is
happening.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from node.console.clean import MAX_CELL, clean
from node.console.output import console, write_line

Report = Callable[[str, int, int], None]
"""`report(step, done, total)`; `total` 0 while it is not known."""
TENTHS = 10


@contextmanager
def shown_progress(stream: TextIO | None = None) -> Iterator[Report]:
    """Show what is reported within the block. `stream` None is stderr."""
    out = sys.stderr if stream is None else stream
    if not out.isatty():
        yield _lines(out)
        return
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console(out), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(clean(step, limit=MAX_CELL))
            bars.update(tasks[step], completed=done, total=total or None)

        yield report


def _lines(out: TextIO) -> Report:
    reached: dict[str, int] = {}

    def report(step: str, done: int, total: int) -> None:
        tenth = done * TENTHS // total if total else 0
        if tenth > reached.get(step, -1):
            reached[step] = tenth
            write_line(out, f"{step} {tenth * 100 // TENTHS} %")

    return report
