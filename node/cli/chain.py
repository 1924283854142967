"""`prime-node chain`: a chain for development."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="A chain for development.")


@app.callback()
def _group() -> None:
    """A chain for development."""
