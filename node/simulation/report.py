"""The end of a simulation, for people (a table) and for programs (`report.json`)."""

from __future__ import annotations

import json
import shlex
from typing import Any

from node.config.files import write_atomically
from node.console.output import as_typed, human_bytes, say, show_table
from node.simulation.checks import (
    crashed_names,
    dishonest_names,
    earned,
    names_by_peer,
    slashed,
)
from node.simulation.outcome import SimulationOutcome

TOKEN = 10**18


def report_of(outcome: SimulationOutcome) -> dict[str, Any]:
    """All figures of the table, as plain values. Bytes, seconds; token amounts as strings."""
    rows, seconds = outcome.rows, outcome.seconds
    tokens = sum(len(row["output_ids"]) for row in rows)
    completed = seconds.get("completed", 0.0)
    return {
        "held": all(check.held for check in outcome.checks),
        "checks": [{"name": c.name, "held": c.held, "detail": c.detail} for c in outcome.checks],
        "prompts": len(outcome.options.prompts),
        "completed": len(rows),
        "output_tokens": tokens,
        "tokens_per_second": round(tokens / completed, 2) if completed else 0.0,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "faults": [
            {"node": f.node, "kind": f.kind, "after": f.after} for f in outcome.options.faults
        ],
        "workers": _workers(outcome),
        "memory": {"control": outcome.memory.control, "engine": outcome.memory.engine},
        "whole_model_engine_bytes": _whole_model(outcome),
        "group": outcome.first_group,
        "rejections": outcome.rejections,
        "units": outcome.work,
        "transactions": sorted({row["receipt_transaction"] for row in rows}),
        "seed": outcome.options.seed,
        "cases": [str(path) for path in outcome.cases],
    }


def write_report(outcome: SimulationOutcome) -> None:
    """Write `report.json` into the output folder."""
    data = json.dumps(report_of(outcome), indent=2, sort_keys=False).encode() + b"\n"
    write_atomically(outcome.options.output / "report.json", data)


def print_report(outcome: SimulationOutcome) -> None:
    """The table on stdout."""
    report = report_of(outcome)
    rows = [
        (
            w["name"],
            w["layers"] or "–",
            human_bytes(w["weights_bytes"]) if w["weights_bytes"] else "–",
            human_bytes(w["engine_bytes"]) if w["engine_bytes"] else "–",
            _tokens(w["balance_before"]),
            _tokens(w["balance_after"]),
            w["note"],
        )
        for w in report["workers"]
    ]
    columns = (
        "worker", "layers", "weights", "engine peak", "tokens before", "tokens after", "note",
    )  # fmt: skip
    show_table("Workers", columns, rows)
    whole = report["whole_model_engine_bytes"]
    say(f"whole model in one engine (the validator's): {human_bytes(whole)} peak")
    say(
        f"{report['completed']} of {report['prompts']} prompts, {report['output_tokens']} tokens, "
        f"{report['tokens_per_second']} tokens/s; network up after "
        f"{report['seconds'].get('network up', 0)} s, all done after "
        f"{report['seconds'].get('all', 0)} s"
    )
    marks = [("yes" if c.held else "NO", c.name, c.detail) for c in outcome.checks]
    show_table("What must be true", ("", "check", "seen"), marks)
    say(f"written: {outcome.options.output / 'dataset.jsonl'} and report.json")
    if outcome.cases:
        say("check a verdict yourself:")
        say(f"    {as_typed()} verify {shlex.quote(str(outcome.cases[0]))}")


def _workers(outcome: SimulationOutcome) -> list[dict[str, Any]]:
    gains = earned(outcome)
    by_name = _stages_by_name(outcome)
    found = []
    for name in outcome.options.worker_names:
        stage = by_name.get(name, {})
        lost = slashed(outcome).get(name, 0)
        notes = [n for n, names in (("dishonest", dishonest_names), ("killed", crashed_names))
                 if name in names(outcome)]  # fmt: skip
        found.append(
            {
                "name": name,
                "layers": f"{stage['first_layer']}–{stage['last_layer'] - 1}" if stage else "",
                "weights_bytes": stage.get("weights_bytes", 0),
                "engine_bytes": outcome.memory.engine.get(name, 0),
                "control_bytes": outcome.memory.control.get(name, 0),
                "balance_before": str(outcome.before.get(name, 0)),
                "balance_after": str(outcome.after.get(name, 0)),
                "earned": str(gains.get(name, 0)),
                "slashed": str(lost),
                "note": ", ".join([*notes, f"slashed {_tokens(str(lost))}"] if lost else notes),
            }
        )
    return found


def _stages_by_name(outcome: SimulationOutcome) -> dict[str, dict[str, Any]]:
    """Each worker's stage in the first group that ran."""
    names = names_by_peer(outcome)
    stages = outcome.first_group.get("stages", [])
    return {names.get(stage["peer_id"], ""): stage for stage in stages}


def _whole_model(outcome: SimulationOutcome) -> int:
    names = outcome.options.validator_names
    return max((outcome.memory.engine.get(name, 0) for name in names), default=0)


def _tokens(amount: str) -> str:
    return f"{int(amount) / TOKEN:,.3f}"
