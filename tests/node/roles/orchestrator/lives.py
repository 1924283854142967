"""Runs of an orchestrator's tables on a real journal: what one leaves, the next one finds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from node.journal import AsyncJournal
from node.prompts import Prompt
from node.roles.orchestrator.coordinator.commands import BuildGroup, Command, RecordUnit
from node.roles.orchestrator.coordinator.events import (
    Event,
    GroupUp,
    PeerAnnounced,
    PeerJoined,
    QueueRead,
)
from node.roles.orchestrator.coordinator.groups import Group
from node.roles.orchestrator.coordinator.units import Unit
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.ledger.ledger import WorkLedger
from node.roles.orchestrator.recording import Recorder
from node.roles.orchestrator.restore import restore
from tests.node.roles.orchestrator.coordination import WORKERS, Pool
from tests.node.roles.orchestrator.test_parts import Words

CUTTER = JobCutter(Words(), b"m" * 32, "tiny", context_length=64, unit_size=2, vocab_size=200)
PROMPTS = [Prompt.model_validate({"prompt": f"p{n}", "max_tokens": 8}) for n in range(6)]


async def one_batch() -> AsyncIterator[Sequence[Prompt]]:
    """A job of three units of two prompts, eight tokens each."""
    yield PROMPTS


class Life(Pool):
    """One run. `tell` decides, journals and publishes, as `Transitions` does for one event."""

    def __init__(self, journal: AsyncJournal) -> None:
        super().__init__()
        self.ledger = WorkLedger(journal, CUTTER)
        self._recorder = Recorder(journal, self.ledger)

    @classmethod
    async def begin(cls, journal: AsyncJournal) -> Life:
        """A run on what is there."""
        life = cls(journal)
        recovered = await restore(journal, life.ledger)
        await life.tell(recovered.event)
        return life

    async def tell(self, *events: Event) -> list[Command]:
        """Take these events in; on return they are on disk."""
        commands = self.coordinator.decide(events, self.now)
        await self._recorder.write(commands)
        self.coordinator.publish()
        for command in commands:
            if isinstance(command, RecordUnit):
                self.ledger.recorded(command.unit)
        self.commands += commands
        return commands

    async def gather(self) -> list[Unit]:
        """Have workers come and what waits be read; all units that there are."""
        for name in WORKERS:
            await self.tell(PeerAnnounced(name, 1 << 30, 0.01, None, ""))
            await self.tell(PeerJoined(name, "0x" + name, "0xp" + name))
        await self.tell(QueueRead(await self.ledger.next_queued(10)))
        return list(self.pool.units.values())

    async def ring(self) -> Group:
        """The newest group is up."""
        build = [c for c in self.commands if isinstance(c, BuildGroup)][-1]
        await self.tell(GroupUp(build.group_id, build.generation))
        return self.pool.groups[build.group_id]
