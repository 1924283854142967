"""What the journal of an orchestrator holds, and what a restart makes of it.

| event | holds | after a restart |
|---|---|---|
| `JobSubmitted` | prompts, key, how they were cut | the same units, QUEUED |
| `JobBeacon` | beacon of a job, its block | the same noise |
| `UnitBundled` | the unit as it was sent | VERIFYING: the same bytes are sent again |
| `UnitJudged` | the unit after its verdict | ACCEPTED and EXPIRED stay; others are QUEUED again |
| `UnitSettled` | epoch, transaction | SETTLED |
| `WorkerBanned` | reason | the peer is banned |
| `UnitRejected` | what was rejected, and why | shown |

A unit that no validator has received is generated again from scratch: what its group had is gone. A
unit that one has received is never sent in another bundle, so it is paid at most once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import trio

from node.errors import InputError
from node.journal import AsyncJournal
from node.journal.typed import JournalEvent
from node.roles.orchestrator.coordinator.events import Restored
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.journal_events import (
    GENERATION,
    JobBeacon,
    JobSubmitted,
    UnitBundled,
    UnitJudged,
    UnitRejected,
    UnitSettled,
    WorkerBanned,
)

KINDS: tuple[type[JournalEvent], ...] = (
    JobSubmitted,
    JobBeacon,
    UnitBundled,
    UnitJudged,
    UnitSettled,
    WorkerBanned,
    UnitRejected,
)


@dataclass
class Recovered:
    """What earlier runs left: each job's units by id, and all that belongs into the tables."""

    jobs: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    units: dict[bytes, Unit] = field(default_factory=dict)
    banned: list[str] = field(default_factory=list)
    rejections: list[UnitRejected] = field(default_factory=list)
    generation: int = 0

    @property
    def event(self) -> Restored:
        """The same for the coordinator."""
        return Restored(tuple(self.units.values()), tuple(self.banned), self.generation)


async def restore(journal: AsyncJournal, cutter: JobCutter) -> Recovered:
    """What the journal has. Raises `InputError` where a job is for another model than the one
    configured."""
    events = await journal.replay(*KINDS)
    generation = int(await journal.state(GENERATION, 0))
    return await trio.to_thread.run_sync(_replay, events, cutter, generation)


def _replay(events: Iterable[JournalEvent], cutter: JobCutter, generation: int) -> Recovered:
    found = Recovered(generation=generation)
    for event in events:
        match event:
            case JobSubmitted():
                cut = _cut_again(cutter, event)
                found.jobs[event.job_id] = tuple(unit.unit_id for unit in cut)
                found.units |= {unit.unit_id: unit for unit in cut}
            case JobBeacon():
                for unit_id in found.jobs[event.job_id]:
                    drawn = found.units[unit_id].drawn(event.beacon, event.block)
                    found.units[unit_id] = drawn
            case UnitBundled() | UnitJudged():
                found.units[event.unit.unit_id] = event.unit
            case UnitSettled():
                found.units[event.unit_id] = replace(
                    found.units[event.unit_id],
                    state=UnitState.SETTLED,
                    epoch=event.epoch,
                    transaction=event.transaction,
                )
            case WorkerBanned():
                found.banned.append(event.peer_id)
            case UnitRejected():
                found.rejections.append(event)
    return found


def _cut_again(cutter: JobCutter, job: JobSubmitted) -> tuple[Unit, ...]:
    """The units that the job was cut into, whatever the settings are now."""
    if job.model_id != cutter.model_id:
        raise InputError(
            f"job {job.job_id} was accepted for another model than {cutter.model_name}",
            "set orchestrator.model back, or use another data folder",
        )
    return replace(cutter, unit_size=job.unit_size).cut(job.job_key, job.prompts)
