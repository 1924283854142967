"""What the commands share: options, output, and how values are shown.

Results go to stdout, progress and errors to stderr, so `--json | jq` always works.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from node.config.datadir import DataDir

DEFAULT_DATA_DIR = "~/.prime-node"


@dataclass
class Invocation:
    """What the root command learnt from its own flags."""

    debug: bool = False


DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="PRIME_NODE_DATA_DIR",
        help=f"The node's data folder (default {DEFAULT_DATA_DIR}).",
        show_envvar=True,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--model-store",
        envvar="PRIME_NODE_MODEL_STORE",
        help="Where prepared models lie (default ~/.cache/prime-node/models).",
    ),
]


def data_dir(path: Path | None) -> DataDir:
    """The data folder of an option's value."""
    from node.config.datadir import DataDir

    return DataDir((path or Path(DEFAULT_DATA_DIR)).expanduser().absolute())


def model_store(path: Path | None) -> Path:
    return (path or Path("~/.cache/prime-node/models")).expanduser().absolute()


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def console() -> Console:
    """The console for results (stdout)."""
    from rich.console import Console

    return Console()


def progress_console() -> Console:
    """The console for progress (stderr)."""
    from rich.console import Console

    return Console(stderr=True)


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


def given(**values: Any) -> dict[str, Any]:
    """The flags that were given: without None and empty lists."""
    return {name: value for name, value in values.items() if value not in (None, [], ())}
