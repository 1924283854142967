"""A peer's account with the budgets, as the guards charge it, and how a task's cost is measured.

A task runs from one checkpoint to the next without anybody else in between, so the thread's CPU
clock before and after a step says what the step cost. The steps of tasks that it starts, and work
in other threads, are not in it.
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

import trio

from p2p.admission.budgets import FLOOD, Budgets
from p2p.admission.holdings import Lease
from p2p.admission.shares import Asker
from p2p.admission.sources import UNKNOWN, subnet
from p2p.errors import BudgetUsedUp

T = TypeVar("T")
LEAST = 0.0005
"""Seconds that are gathered before they are told, so that telling costs little beside them."""
LONGEST_PAUSE = 1.0
"""Seconds for which a peer is not read at a stretch: it still gets an answer to its pings."""


class PeerAccount:
    """What one peer, connected from `remote`, uses of the budgets."""

    def __init__(self, budgets: Budgets, peer_id: str, remote: tuple[str, int] | None) -> None:
        self._budgets = budgets
        self._peer_id = peer_id
        self._source = subnet(remote[0]) if remote else UNKNOWN

    @property
    def asker(self) -> Asker:
        """The peer as it stands now."""
        return self._budgets.asker(self._peer_id, self._source)

    def spend(self, seconds: float) -> None:
        """The peer caused CPU time."""
        if seconds > 0:
            self._budgets.charge(self.asker, seconds)

    def hold(self, amount: int) -> Lease:
        """Keep `amount` bytes for the peer. Raises `BudgetUsedUp`."""
        return self._budgets.bytes.take(self.asker, amount)

    def open_stream(self) -> Lease:
        """Take a place for a stream of the peer. Raises `BudgetUsedUp`."""
        return self._budgets.streams.take(self.asker)

    @property
    def may_cause_work(self) -> bool:
        """Whether the peer is within its CPU budget."""
        return not self._budgets.pause(self.asker)

    async def wait_flood(self) -> None:
        """Wait, no longer than `LONGEST_PAUSE`, while the peer is far beyond its CPU budget."""
        if pause := self._budgets.pause(self.asker, FLOOD):
            await trio.sleep(min(pause, LONGEST_PAUSE))

    async def wait_turn(self) -> None:
        """Wait until the peer is within its CPU budget."""
        pause = self._budgets.pause(self.asker)
        while pause:  # it may be longer or shorter by then, whatever the peer's streams do
            await trio.sleep(min(pause, LONGEST_PAUSE))
            pause = self._budgets.pause(self.asker)

    async def wait_room(self, lease: Lease, amount: int) -> None:
        """Wait until `lease` may have this many bytes. The budgets call nobody when there is room
        again, so this looks again and again."""
        while True:
            lease.renew(self.asker)
            try:
                lease.resize(amount)
            except BudgetUsedUp:
                await trio.sleep(LONGEST_PAUSE / 4)
            else:
                return


@types.coroutine
def metered(work: Coroutine[Any, Any, T], spend: Callable[[float], None]) -> Generator[Any, Any, T]:
    """`await metered(work, spend)` is `await work`; `spend` is told the CPU seconds as they are
    spent, at the latest when the work ends, in whatever way."""
    send: Callable[[], Any] = lambda: work.send(None)  # noqa: E731
    unsaid = 0.0
    try:
        while True:
            started = time.thread_time()
            try:
                trap = send()
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                unsaid += time.thread_time() - started
            if unsaid >= LEAST:
                said, unsaid = unsaid, 0.0
                spend(said)
            try:
                answer = yield trap
            except GeneratorExit:
                work.close()
                raise
            except BaseException as exc:  # noqa: BLE001  (the work decides what becomes of it)
                send = _thrower(work, exc)
            else:
                send = _sender(work, answer)
    finally:
        spend(unsaid)


def _sender(work: Coroutine[Any, Any, Any], answer: Any) -> Callable[[], Any]:
    return lambda: work.send(answer)


def _thrower(work: Coroutine[Any, Any, Any], exc: BaseException) -> Callable[[], Any]:
    return lambda: work.throw(exc)
