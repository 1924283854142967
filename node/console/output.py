"""Results on stdout: JSON for programs, tables and short words for people.

Results go to stdout, progress and errors to stderr, so `--json | jq` always works.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_json(value: Any) -> None:
    """Write `value` to stdout as indented JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def console() -> Console:
    """The console for results (stdout)."""
    from rich.console import Console

    return Console()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A plain table; an empty one says so."""
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*row)
    if made.row_count == 0:
        made.add_row("none", *[""] * (len(columns) - 1))
    return made


def human_bytes(count: int) -> str:
    """ "1.5 GiB"; "-" for 0, which stands for unknown."""
    if count <= 0:
        return "-"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def short(identifier: str) -> str:
    """A long identifier, abbreviated as the logs do: peer ids by their end, where they differ, and
    other ids by their beginning."""
    if len(identifier) <= 12:
        return identifier
    return f"…{identifier[-8:]}" if identifier.startswith("16Uiu2") else identifier[:12]
