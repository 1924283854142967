"""`prime-node status`: what a running node sees."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from node.cli.options import DataDirOption, JsonOption
from node.console.output import human_bytes, print_json, say, short, show_table

NEWEST = 20


def command(
    url: Annotated[str | None, typer.Option("--url", help="The node's HTTP URL.")] = None,
    data_dir_: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a running node sees: itself, the nodes, the groups, the newest work.

    Example:

        prime-node status --data-dir ~/orchestrator

    You should see four short tables. `--json` prints the same for programs.
    """
    from node.cli.operating.api_client import connect

    with connect(url, data_dir_, with_token=False) as client:
        work = client.get("/v1/work", last=NEWEST)
        seen = {
            "status": client.get("/v1/status"),
            "ready": client.get("/readyz"),
            "nodes": client.get("/v1/nodes")["items"],
            "groups": client.get("/v1/groups")["items"],
            "work": work["items"],
            "work_total": work["total"],
            "rejections": client.get("/v1/rejections")["items"],
        }
    if as_json:
        print_json(seen)
    else:
        _show(seen)


def _part(part: dict[str, Any]) -> tuple[str, ...]:
    seconds = max(part["next_try"] - time.time(), 0.0)
    pause = f"in {seconds:.0f} s" if part["next_try"] else "-"
    return part["name"], part["state"], str(part["surprises"]), part["reason"], pause


def _show_stage(stage: dict[str, Any]) -> None:
    say(
        f"stage {stage['stage'] + 1} of {len(stage['neighbours'])}: layers"
        f" [{stage['first_layer']}–{stage['last_layer']}) of {stage['layers']} of {stage['model']},"
        f" {stage['tokens_per_second']:.1f} tokens/s, data port {stage['data_port']},"
        f" group {short(stage['group_id'])}"
    )
    if stage["busy"]:
        say(f"takes no new work: {stage['busy']}")


def _show(seen: dict[str, Any]) -> None:
    status, ready = seen["status"], seen["ready"]
    say(
        f"{status['peer_id']}  {', '.join(status['roles'])}  {status['state']}  "
        f"{status['peers']} peers  network {status['network']}"
    )
    for address in status["addresses"]:
        say(f"joined at {address}")
    if status["work"]:
        say(f"worker {status['work']}")
    if status["stage"]:
        _show_stage(status["stage"])
    if status["claimed"]:
        say(f"claimed {status['claimed'] / 10**18:g} PRIME")
    if status["disk"]:
        say(f"takes nothing new: {status['disk']}")
    if not ready["ready"]:
        say(f"not ready: {'; '.join(ready['reasons'])}")
    if status["parts"]:
        say()
        heads = ("part", "state", "surprises", "newest reason", "next try")
        show_table("parts that had surprises", heads, [_part(p) for p in status["parts"]])
    nodes = [
        (
            short(node["peer_id"]),
            ", ".join(node["roles"]),
            node["state"],
            node["device"] or "-",
            human_bytes(node["vram_bytes"]),
            human_bytes(node["rss"]),
            node["addresses"][0] if node["addresses"] else "-",
        )
        for node in seen["nodes"]
    ]
    say()
    show_table(
        "nodes", ("peer", "roles", "state", "device", "memory", "resident", "address"), nodes
    )
    groups = [
        (
            short(group["group_id"]),
            group["state"],
            group["model"],
            " → ".join(
                f"{short(stage['peer_id'])} [{stage['first_layer']}–{stage['last_layer']})"
                for stage in group["stages"]
            ),
            ", ".join(short(peer) for peer in group["spares"]) or "-",
            f"{group['tokens_per_second']:.1f}",
        )
        for group in seen["groups"]
    ]
    say()
    show_table("groups", ("group", "state", "model", "stages", "spares", "tokens/s"), groups)
    work = [
        (
            short(unit["unit_id"]),
            unit["state"],
            str(unit["sequences"]),
            str(unit["tokens"]),
            unit["verdict"] or "-",
            unit["reason"],
        )
        for unit in seen["work"]
    ]
    say()
    columns = ("unit", "state", "sequences", "tokens", "verdict", "reason")
    show_table(f"work (newest {NEWEST} of {seen['work_total']})", columns, work)
    if seen["rejections"]:
        rejections = [
            (short(item["unit_id"]), short(item["peer_id"]) or "-", item["reason"])
            for item in seen["rejections"][:NEWEST]
        ]
        say()
        show_table("rejections", ("unit", "blamed", "reason"), rejections)
