"""Every part of every role fails once with something that nobody expected, and work goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from node.roles.orchestrator.coordinator.units import UnitState
from node.supervisor.life import RestartPolicy
from node.supervisor.supervisor import Startable, Supervisor
from tests.adversarial.harness import eventually
from tests.adversarial.standins import LAYERS, POOL, PRICE

PARTS = {
    "pool: clock",
    "pool: connections",
    "pool: pings",
    "pool: records",
    "pool: stakes",
    "pool: tables",
    "pool: validators",
    "registry: connections",
    "registry: records",
    "settlement: answers",
    "settlement: audits",
    "settlement: chain",
    "settlement: epoch data",
    "settlement: paid",
    "settlement: proposals",
    "settlement: unpaid",
    "validator: convictions",
    "validator: engine events",
    "validator: sweeping",
    "worker: data plane",
    "worker: hours",
    "worker: orchestrator",
    "worker: pool",
    "worker: reports",
    "worker: rewards",
}


class Surprise(Exception):
    """What no code handles."""


class Shaken(Supervisor):
    """Every part of it runs for a moment and fails once."""

    def __init__(self) -> None:
        super().__init__(policy=RestartPolicy(first=0.01, last=0.02))
        self.shaken: set[str] = set()

    def keep(
        self, nursery: trio.Nursery, name: str, part: Callable[..., Awaitable[None]], *args: Any
    ) -> None:
        failed = False

        async def once() -> None:
            nonlocal failed
            if failed:
                await part(*args)
                return
            failed = True
            self.shaken.add(name)
            with trio.move_on_after(0.05):
                await part(*args)
            raise Surprise(name)

        super().keep(nursery, name, once)

    async def start(self, nursery: trio.Nursery, name: str, part: Startable) -> None:
        async def once(*, task_status: trio.TaskStatus[None]) -> None:
            if name in self.shaken:
                await part(task_status=task_status)
                return
            self.shaken.add(name)
            with trio.move_on_after(0.2):
                await part(task_status=task_status)
            raise Surprise(name)

        await super().start(nursery, name, once)


async def test_every_part_fails_once_and_work_is_still_done_and_paid(net) -> None:
    houses: list[Shaken] = []

    def shaken() -> Supervisor:
        houses.append(Shaken())
        return houses[-1]

    async with net(supervisor=shaken) as network:
        units = await network.submit(2)
        for unit in units:
            await network.reached(unit, UnitState.SETTLED)
        tokens = sum(3 + 4 for _ in units)
        await eventually(lambda: network.ledger.total(POOL) == LAYERS * tokens * PRICE)
        await eventually(lambda: sum(network.ledger.paid.values()) == LAYERS * tokens * PRICE)
        assert not network.orchestrator.rejections
        seen = {report.name: report for house in houses for report in house.reports()}
        assert {name for house in houses for name in house.shaken} == PARTS
        assert all(seen[name].surprises for name in PARTS)
        assert "Surprise" in seen["pool: tables"].reason
