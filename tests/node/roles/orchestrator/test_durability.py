"""A node that dies at any commit: what it showed is what the next run finds."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from node.journal import AsyncJournal, open_journal
from node.prompts import Prompt
from node.roles.orchestrator.coordinator.commands import Command, RecordUnit
from node.roles.orchestrator.coordinator.events import Event, PeerValidates, QueueRead
from node.roles.orchestrator.coordinator.members import MemberState
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.ledger import queries
from node.roles.orchestrator.ledger.ledger import WorkLedger
from node.roles.orchestrator.recording import Recorder
from node.roles.orchestrator.restore import restore
from node.roles.orchestrator.transitions import Transitions
from tests.node.roles.orchestrator.coordination import WORKERS, Pool
from tests.node.roles.orchestrator.test_coordinator_fuzz import (
    EVENTS,
    JUDGES,
    _event,
)
from tests.node.roles.orchestrator.test_parts import Words

CUTTER = JobCutter(Words(), b"m" * 32, "tiny", context_length=64, unit_size=2, vocab_size=200)
PROMPTS = [Prompt.model_validate({"prompt": f"p{n}", "max_tokens": 8}) for n in range(6)]

Seen = tuple[dict[bytes, tuple[object, ...]], set[str], int]


class Life(Pool):
    """A run of the node that dies at its commit number `fatal`: before it, or right after."""

    def __init__(
        self, journal: AsyncJournal, ledger: WorkLedger, fatal: int, written: bool
    ) -> None:
        super().__init__()
        self.dead = trio.Event()
        self.fed: list[Event] = []
        self.transitions = Transitions(
            self.coordinator, lambda: self.now, self._write, self._began, self._surprised
        )
        self._recorder = Recorder(journal, ledger)
        self._left, self._written = fatal, written

    def feed(self, event: Event) -> list[Command]:
        self.fed.append(event)
        return []

    async def _write(self, commands: Sequence[Command]) -> None:
        self._left -= 1
        if self._left or self._written:
            await self._recorder.write(commands)
        if not self._left:
            self.dead.set()
            await trio.sleep_forever()

    def _began(
        self, events: Sequence[Event], commands: Sequence[Command], units: dict[bytes, None]
    ) -> None:
        self.commands += commands

    def _surprised(self, surprise: Exception) -> None:
        raise surprise

    def seen(self, works: Sequence[Unit]) -> Seen:
        """What the tables show of what a restart must know."""
        banned = {m.peer_id for m in self.pool.members.values() if m.state is MemberState.BANNED}
        return {w.unit_id: lasting(self.unit(w)) for w in works}, banned, self.pool.generation


def lasting(unit: Unit) -> tuple[object, ...]:
    """What of a unit outlives its group."""
    bundled = unit.state is UnitState.VERIFYING and unit.bundle_id
    if bundled or unit.state in (UnitState.ACCEPTED, UnitState.EXPIRED):
        outputs = tuple(s.output_ids for s in unit.sequences)
        return unit.state, unit.attempt, unit.bundle_id, outputs, unit.verdict
    return UnitState.QUEUED, unit.attempt


async def found(journal: AsyncJournal) -> Seen:
    """The same, of a run that starts now."""
    ledger = WorkLedger(journal, CUTTER)
    event = (await restore(journal, ledger)).event
    units = await ledger.units(await ledger.rows(queries.after_cursor(0, 100)))
    held = {unit.unit_id for unit in event.units}
    assert held == {unit.unit_id for unit in units if unit.state is UnitState.VERIFYING}
    return {u.unit_id: lasting(u) for u in units}, set(event.banned), event.generation


async def one_batch() -> AsyncIterator[Sequence[Prompt]]:
    yield PROMPTS


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENTS, max_size=60), st.integers(0, 2**32), st.integers(1, 12), st.booleans())
def test_what_was_shown_is_what_a_restart_finds(
    names: list[str], seed: int, fatal: int, written: bool
) -> None:
    with TemporaryDirectory() as folder:
        trio.run(live_and_die, Path(folder), names, random.Random(seed), fatal, written)


async def live_and_die(
    folder: Path, names: list[str], choose: random.Random, fatal: int, written: bool
) -> None:
    async with open_journal(folder / "journal.sqlite") as journal:
        ledger = WorkLedger(journal, CUTTER)
        await ledger.submit("job", one_batch())
        works = await ledger.next_queued(10)
        life = Life(journal, ledger, fatal, written)
        for name in WORKERS:
            life.join(name)
        async with trio.open_nursery() as nursery:

            async def feed() -> None:
                stakes = [PeerValidates(judge, 1) for judge in JUDGES]
                await life.transitions.feed(QueueRead(works), *stakes)
                for name in names:
                    life.now += choose.random() * 5
                    event = _event(name, life, works, choose)
                    events, life.fed = [*life.fed, event], []
                    await life.transitions.feed(*events)
                    assert await found(journal) == life.seen(works)
                life.dead.set()

            nursery.start_soon(life.transitions.run)
            nursery.start_soon(feed)
            await life.dead.wait()
            if written and not life._left:  # on disk, and as good as shown
                pending = life.coordinator._applier._tables.units
                decided = {w.unit_id: pending[w.unit_id] for w in works if w.unit_id in pending}
            else:
                decided = {}
                assert await found(journal) == life.seen(works)
            nursery.cancel_scope.cancel()
        units, _, generation = await found(journal)
        for unit_id, unit in decided.items():
            assert units[unit_id] == lasting(unit)
        assert generation >= life.pool.generation
        ended = [c.unit for c in life.commands if isinstance(c, RecordUnit)]
        assert all(u.unit_id in units for u in ended)
