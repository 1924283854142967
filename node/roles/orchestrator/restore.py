"""What an orchestrator's journal holds, and what a restart makes of it.

| on disk | holds | after a restart |
|---|---|---|
| rows of jobs | id, model, cancelled | the same jobs; one that was not sealed is dropped |
| rows of units | prompts, outcome | QUEUED: read in their turn; VERIFYING: sent again as it was |
| rows of progress | tokens of units under way | the next group goes on from there |
| `JobBeacon` | beacon of a job, its block | the same noise |
| `RingBuilt` | the workers of a generation | nothing is kept of rings with a banned one |
| `WorkerBanned` | reason | the peer is banned |
| `UnitRejected` | what was rejected, and why | the newest are shown |

Groups are gone. What one had of a unit is known but for the last moments, and another proves it
anew as it goes on. A unit that a validator has received is never sent in another bundle, so it is
paid at most once. Only units that validators have are read; how long it takes does not depend on
how many have ended.
"""

from __future__ import annotations

from dataclasses import dataclass

from node.journal import AsyncJournal
from node.roles.orchestrator.coordinator.events import Restored
from node.roles.orchestrator.jobs.beacon import Beacon
from node.roles.orchestrator.journal_events import (
    ASKED,
    GENERATION,
    JobBeacon,
    RingBuilt,
    UnitRejected,
    WorkerBanned,
)
from node.roles.orchestrator.ledger.ledger import WorkLedger

MAX_REJECTIONS = 200
"""Rejections that are shown."""


@dataclass(frozen=True)
class Recovered:
    """What earlier runs left: for the coordinator, and the newest rejections, oldest first."""

    event: Restored
    rejections: list[UnitRejected]


async def restore(
    journal: AsyncJournal, ledger: WorkLedger, first_generation: int = 0
) -> Recovered:
    """Load the ledger and what stands beside it. `first_generation` is where the count of groups'
    generations begins in a journal that has none. Raises `InputError` where a job is for another
    model than the one configured."""
    drawn = await journal.replay(JobBeacon)
    units = await ledger.load({b.job_id: Beacon(b.beacon, b.block) for b in drawn})
    event = Restored(
        units=tuple(units),
        banned=tuple(ban.peer_id for ban in await journal.replay(WorkerBanned)),
        asked=tuple(await journal.state(ASKED, ())),
        rings=tuple((ring.generation, ring.peers) for ring in await journal.replay(RingBuilt)),
        generation=int(await journal.state(GENERATION, first_generation)),
        cancelled=tuple(job.job_id for job in ledger.jobs.values() if job.cancelled),
    )
    return Recovered(event, (await journal.newest(UnitRejected, MAX_REJECTIONS))[::-1])
