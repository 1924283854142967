"""`prime-node prune`: make room on a node's disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.options import DataDirOption, JsonOption, data_dir, given
from node.console.output import human_bytes, print_json, say, show_table

if TYPE_CHECKING:
    from node.config.datadir import DataDir

PATIENCE = 3600.0
"""Seconds: a job of a million prompts is deleted a few thousand rows at a time."""


def command(
    data_dir_: DataDirOption = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", help="The settings (default: the data folder's).")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it; without, only show what would go.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what may go from a node's disk by the settings of [retention]; with --yes, remove it.

    Where a node runs on the data folder, it is asked to do it, by the settings that it was started
    with; a running node also does so by itself every ten minutes. What is still needed never goes:
    work under way, bundles that are being judged, the newest epochs of every pool, keys, settings.
    Jobs go once their dataset was read, or at the age that you set.

    Example:

        prime-node prune --data-dir ~/orchestrator

    You should see a line for each kind of thing: what goes, what stays, and why.
    """
    data = data_dir(data_dir_)
    if data.holder() is not None:
        items = _by_node(data, dry=not yes)
    else:
        items = _by_hand(data, config_file, dry=not yes)
    if as_json:
        print_json({"dry_run": not yes, "items": items})
        return
    _show(items, dry=not yes)


def _by_node(data: DataDir, *, dry: bool) -> list[dict[str, Any]]:
    """Have the node that runs on the folder do it."""
    from node.cli.operating.api_client import connect

    with connect(None, data.path, with_token=True, timeout=PATIENCE) as client:
        items: list[dict[str, Any]] = client.post("/v1/prune", {}, dry_run=int(dry))["items"]
        return items


def _by_hand(data: DataDir, config_file: Path | None, *, dry: bool) -> list[dict[str, Any]]:
    """Do it here, with the folder locked so that no node starts meanwhile."""
    from dataclasses import asdict

    import structlog
    import trio

    from node.config.schema import load_config
    from node.errors import InputError
    from node.journal import open_journal
    from node.roles.keeping import open_keepers
    from node.storage.pruning import Pruner
    from node.storage.report import Pruned

    if not data.journal.exists():
        raise InputError(f"{data.path}: no node has run here", "give --data-dir")
    config = load_config(given(data_dir=data.path), config_file=config_file)

    async def prune() -> list[Pruned]:
        async with open_journal(data.journal) as journal:
            keepers = await open_keepers(config, journal)
            pruner = Pruner(keepers, lambda: journal.failing, structlog.get_logger("prune"))
            return await pruner.prune(dry=dry)

    with data.lock():
        return [asdict(each) for each in trio.run(prune)]


def _show(items: list[dict[str, Any]], *, dry: bool) -> None:
    rows = [
        (
            item["what"],
            str(item["removed"]),
            human_bytes(item["freed"]),
            str(item["kept"]),
            human_bytes(item["left"]),
            item["why"],
        )
        for item in items
        if item["removed"] or item["freed"] or item["kept"] or item["left"]
        or item["why"].startswith(("failed", "not looked at"))
    ]  # fmt: skip
    goes = "goes" if dry else "went"
    show_table("", ("", goes, "bytes", "stays", "bytes", "because"), rows)
    total = sum(item["freed"] for item in items)
    freed = human_bytes(total) if total else "nothing"
    say()
    say(f"{freed} would be freed; remove it with --yes" if dry else f"{freed} freed")
