"""What the journal of an orchestrator holds, and what a restart makes of it.

| event | body | after a restart |
|---|---|---|
| operator.job | prompts, key, how they were cut | the same units, QUEUED |
| self.beacon | beacon of a job, its block | the same noise |
| self.bundle | the unit as it was sent | VERIFYING: the same bytes are sent again |
| peer.verdict | the unit after its verdict | ACCEPTED and EXPIRED stay; others are QUEUED again |
| chain.settled | epoch, transaction | SETTLED |
| self.ban | reason | the peer is banned |
| peer.rejection | what was rejected, and why | shown |

A unit that no validator has is generated again from nothing: what its group had is gone. A unit
that one has is never sent in another bundle, so it is paid at most once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import trio

from node.context import NodeContext
from node.errors import InputError
from node.journal.store import Event
from node.prompts import Prompt
from node.roles.orchestrator.coordinator.pool import Pool
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.jobs.beacons import beacon_from_body
from node.roles.orchestrator.jobs.cutting import JobCutter, unit_from_body


@dataclass(frozen=True)
class Restored:
    jobs: dict[str, tuple[bytes, ...]]
    rejections: list[dict[str, Any]]


def job_body(cutter: JobCutter, prompts: tuple[Prompt, ...], key: str) -> dict[str, Any]:
    """A job for the journal, with all that decides which units it is cut into."""
    return {
        "prompts": [p.model_dump(mode="json") for p in prompts],
        "key": key,
        "unit_size": cutter.unit_size,
        "model_id": cutter.model_id,
    }


async def restore(context: NodeContext, cutter: JobCutter, pool: Pool) -> Restored:
    """Fill `pool` with what the journal has. Raises `InputError` where a job is for another model
    than the one configured."""
    journal = context.journal
    units: dict[bytes, Unit] = {}
    banned: list[str] = []
    restored = Restored({}, [])
    for event in await journal.events():
        match event.kind:
            case "operator.job":
                cut = await trio.to_thread.run_sync(_cut_again, cutter, event)
                restored.jobs[event.key] = tuple(unit.unit_id for unit in cut)
                units |= {unit.unit_id: unit for unit in cut}
            case "self.beacon":
                beacon = beacon_from_body(event.body)
                for unit_id in restored.jobs[event.key]:
                    units[unit_id] = units[unit_id].drawn(beacon.value, beacon.block)
            case "self.bundle" | "peer.verdict":
                unit = unit_from_body(event.body)
                units[unit.unit_id] = unit
            case "chain.settled":
                unit = units[bytes.fromhex(event.key)]
                units[unit.unit_id] = replace(unit, state=UnitState.SETTLED, **event.body)
            case "self.ban":
                banned.append(event.key)
            case "peer.rejection":
                restored.rejections.append(event.body)
    generation: Any = await journal.state("generation", 0)
    pool.restore(list(units.values()), banned, int(generation))
    return restored


def _cut_again(cutter: JobCutter, event: Event) -> tuple[Unit, ...]:
    body = event.body
    if body["model_id"] != cutter.model_id:
        raise InputError(
            f"job {event.key} was accepted for another model than {cutter.model_name}",
            "set orchestrator.model back, or use another data folder",
        )
    prompts = tuple(Prompt.model_validate(p) for p in body["prompts"])
    return replace(cutter, unit_size=body["unit_size"]).cut(body["key"], prompts)
