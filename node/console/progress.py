"""Progress of long steps on stderr: bars on a terminal, one line per tenth elsewhere.

A log file or a CI page cannot redraw a bar, but its reader also wants to see that something is
happening, and how long it may take: a step that has no new tenth for a while says how far it is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from node.console.clean import MAX_CELL, clean
from node.console.output import console, write_line

Report = Callable[[str, int, int], None]
"""`report(step, done, total)`; `total` 0 while it is not known."""
TENTHS = 10
PATIENCE = 30.0
"""Seconds without a line after which a long step says how far it is."""
ESTIMABLE = 10.0
"""Seconds of a step after which what is left of it can be estimated."""


@contextmanager
def shown_progress(
    stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Report]:
    """Show what is reported within the block. `stream` None is stderr; `clock` gives seconds."""
    out = sys.stderr if stream is None else stream
    if not out.isatty():
        yield _lines(out, clock)
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TaskID,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(out), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(clean(step, limit=MAX_CELL))
            bars.update(tasks[step], completed=done, total=total or None)

        yield report


@dataclass
class _Step:
    """What was told of a step: when and where it began, the last tenth, and when."""

    began: float
    first: int
    tenth: int = -1
    told: float = 0.0


def _lines(out: TextIO, clock: Callable[[], float]) -> Report:
    steps: dict[str, _Step] = {}

    def report(step: str, done: int, total: int) -> None:
        now = clock()
        known = steps.setdefault(step, _Step(now, done))
        tenth = done * TENTHS // total if total else 0
        if tenth <= known.tenth and now - known.told < PATIENCE:
            return
        share = f"{tenth * 100 // TENTHS} %" if tenth > known.tenth else f"{done} of {total or '?'}"
        known.tenth, known.told = max(tenth, known.tenth), now
        write_line(out, f"{step} {share}{_left(known, done, total, now)}")

    return report


def _left(step: _Step, done: int, total: int, now: float) -> str:
    """How long the rest may take, by the pace so far."""
    lasted, made = now - step.began, done - step.first
    if lasted < ESTIMABLE or made <= 0 or done >= total:
        return ""
    seconds = lasted * (total - done) / made
    return (
        f", about {seconds:.0f} s left" if seconds < 120 else f", about {seconds / 60:.0f} min left"
    )
