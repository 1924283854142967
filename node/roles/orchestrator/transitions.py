"""The one task that moves an orchestrator's tables: decide, journal, publish, act.

Whoever learns of something calls `feed` and waits. Its events lie in an inbox until the owner of
the tables (`run`) takes them, all that are there at once. The coordinator decides about them on
tables that nobody else sees; what must be on disk is journaled in one commit; then the tables are
published, the commands begin, and everybody who waited is woken. A caller whose deadline passes
meanwhile loses its wait and nothing else: its events are taken in all the same.

Where deciding or writing raises something that nobody expected, the tables are brought back to what
is shown, and the events of each who fed are tried by themselves.

So a disk that stalls stops the tables and loses nothing: memory is never ahead of the journal. How
much may lie in the inbox is bounded; whoever comes later waits before its events are taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from node.roles.orchestrator.coordinator.commands import Command, Record
from node.roles.orchestrator.coordinator.coordinator import Coordinator
from node.roles.orchestrator.coordinator.events import Event, PeerFinished, PeerTokens

INBOX_WEIGHT = 1 << 20
"""Most tokens that may lie in the inbox; an event counts as `EVENT_WEIGHT` more."""
EVENT_WEIGHT = 64


class TransitionFailed(RuntimeError):
    """Deciding about events, or writing what follows, raised something unexpected or was cut
    short by the end of the role."""


@dataclass
class _Fed:
    events: tuple[Event, ...]
    weight: int
    published: bool = False
    over: trio.Event = field(default_factory=trio.Event)


class Transitions:
    """`write` has commands of `Record` on disk on return, all or none; `began(events, commands,
    units)` is told what was published: the events, what follows, and the ids of changed units.
    `surprised` is told why events could not be taken in."""

    def __init__(
        self,
        coordinator: Coordinator,
        clock: Callable[[], float],
        write: Callable[[Sequence[Command]], Awaitable[None]],
        began: Callable[[Sequence[Event], Sequence[Command], dict[bytes, None]], None],
        surprised: Callable[[Exception], None],
    ) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._write = write
        self._began = began
        self._surprised = surprised
        self._inbox: list[_Fed] = []
        self._weight = 0
        self._arrived = trio.Event()
        self._taken = trio.Event()

    async def feed(self, *events: Event) -> None:
        """Let the coordinator decide about events of one moment. On return, what must be on disk
        is, and the tables show it. Cancelled, the events may or may not be taken in. Raises
        `TransitionFailed`."""
        weight = sum(map(_weight, events))
        while self._weight and self._weight + weight > INBOX_WEIGHT:
            await self._taken.wait()
        fed = _Fed(events, weight)
        self._inbox.append(fed)
        self._weight += weight
        self._arrived.set()
        await fed.over.wait()
        if not fed.published:
            raise TransitionFailed("these events were not taken in; the log may say why")

    async def run(self) -> None:
        """Work on the inbox until cancelled; there must be one such task."""
        while True:
            await self._arrived.wait()
            self._arrived = trio.Event()
            batch, self._inbox, self._weight = self._inbox, [], 0
            self._taken.set()
            self._taken = trio.Event()
            try:
                await self._transit(batch)
            finally:  # whoever fed must not wait for ever, nor believe what did not come to be
                for fed in batch:
                    fed.over.set()

    async def _transit(self, batch: Sequence[_Fed]) -> None:
        """Take the batch in. After a surprise whoever fed is heard alone, so that only those whose
        events cause it are not taken in."""
        try:
            await self._take(batch)
        except Exception as exc:  # noqa: BLE001 - nobody else may suffer from one event
            if len(batch) == 1 or batch[0].published:
                self._surprised(exc)
                return
            for fed in batch:
                await self._transit([fed])

    async def _take(self, batch: Sequence[_Fed]) -> None:
        events = [event for fed in batch for event in fed.events]
        try:
            commands = self._coordinator.decide(events, self._clock())
            if any(isinstance(command, Record) for command in commands):
                await self._write(commands)
        except BaseException:
            self._coordinator.undo()
            raise
        units = self._coordinator.publish()
        for fed in batch:
            fed.published = True
        self._began(events, commands, units)


def _weight(event: Event) -> int:
    tokens = len(event.ids) if isinstance(event, PeerTokens | PeerFinished) else 0
    return EVENT_WEIGHT + tokens
