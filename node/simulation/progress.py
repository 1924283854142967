"""What a person sees while a simulation runs: one line for each step, one bar for the work."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from node.console.clean import clean
from node.console.output import console


class Progress:
    """Steps as lines with the seconds since the start; prompts as a bar."""

    def __init__(self, console: Console, bars: Bars, prompts: int) -> None:
        self._console = console
        self._bars = bars
        self._started = time.monotonic()
        self._task = bars.add_task("prompts", total=prompts, detail="", visible=False)

    def stage(self, what: str) -> None:
        """A new step begins."""
        self.say(f"{what} …")

    def say(self, text: str) -> None:
        """Print one line, with the seconds since the start."""
        elapsed = time.monotonic() - self._started
        self._console.print(clean(f"{elapsed:6.1f} s  {text}"))

    def completed(self, completed: int, accepted: int, tokens: int) -> None:
        """How far the job is."""
        detail = f"{completed} completed, {accepted} verified, {tokens} tokens"
        self._bars.update(self._task, completed=accepted, detail=detail, visible=True)


@contextmanager
def open_progress(prompts: int) -> Iterator[Progress]:
    """Show progress while the block runs, on stderr."""
    shown = console(sys.stderr)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Bars(*columns, TimeElapsedColumn(), console=shown, transient=True) as bars:
        yield Progress(shown, bars, prompts)
