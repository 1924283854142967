"""Results on stdout: JSON for programs, tables and short words for people.

Results go to stdout, progress and errors to stderr, so `--json | jq` always works. This is the one
place where commands and simulations write, and whatever they write is cleaned here (`clean`): no
caller has to know what came from a stranger.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from node.console.clean import MAX_CELL, MAX_SHOWN, clean, clean_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def say(
    text: object = "", *, err: bool = False, lines: bool = False, limit: int = MAX_SHOWN
) -> None:
    """Write one line to stdout, or to stderr; several where `lines`."""
    write_line(sys.stderr if err else sys.stdout, text, lines=lines, limit=limit)


def complain(text: object) -> None:
    """Write an error as one line to stderr."""
    write_line(sys.stderr, " ".join(str(text).split("\n")))


def write_line(
    stream: TextIO, text: object, *, lines: bool = False, limit: int = MAX_SHOWN
) -> None:
    """Write one line, or with `lines` several, to a stream that may be a terminal."""
    shown = clean(text, lines=lines, limit=limit) + "\n"
    # What the terminal's encoding lacks is shown as an escape, too.
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except OSError:
        if stream is not sys.stderr:
            raise  # what was asked for is lost; words beside it may be


def print_json(value: Any) -> None:
    """Write `value` to stdout as indented JSON."""
    utf8 = (sys.stdout.encoding or "utf-8").lower().replace("-", "") in ("utf8", "utf_8")
    sys.stdout.write(clean_json(value, only_ascii=not utf8) + "\n")


def console(stream: TextIO | None = None) -> Console:
    """A console that takes no markup: what it is given is text. `stream` None is stdout."""
    from rich.console import Console

    return Console(file=stream, markup=False, emoji=False, highlight=False)


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a plain table to stdout; an empty one says so."""
    from rich.table import Table

    made = Table(title=cell(title), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(cell(column), overflow="fold")
    for row in rows:
        made.add_row(*map(cell, row))
    if made.row_count == 0:
        made.add_row("none", *[""] * (len(columns) - 1))
    console().print(made)


def cell(value: str) -> Text:
    """A value as a table or a bar shows it: never markup, without line breaks."""
    from rich.text import Text

    return Text(clean(value, limit=MAX_CELL))


def as_typed() -> str:
    """How this program is called from here, for commands that can be pasted."""
    called = sys.argv[0]
    if os.path.basename(called) != "prime-node":
        return f"{shlex.quote(sys.executable)} -m node"
    return "prime-node" if shutil.which("prime-node") else shlex.quote(called)


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
