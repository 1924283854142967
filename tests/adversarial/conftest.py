"""A small network of real hosts, and a stranger in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from node.prompts import Prompt
from node.roles.orchestrator.coordinator.groups import Group, GroupState
from node.roles.orchestrator.coordinator.pool import Policy
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.service import Orchestrator
from node.roles.orchestrator.timing import OrchestratorTiming
from node.roles.validator.service import Validator
from node.roles.worker.service import Worker
from node.supervisor.supervisor import Supervisor
from tests.adversarial.harness import (
    TIMING,
    Node,
    make_orchestrator,
    make_validator,
    make_worker,
    open_node,
    reached,
    running,
    until,
)
from tests.adversarial.ledger import Ledger
from tests.adversarial.signing import open_signing
from tests.adversarial.standins import POOL, Engine, Ring
from tests.adversarial.validator_scenario import open_scenario


@dataclass
class Net:
    """`boss` orchestrates two workers; `stages` are their nodes in ring order. `judges` are the
    validators' nodes, and `judge_engines` their engines."""

    boss: Node
    orchestrator: Orchestrator
    mallory: Node
    ledger: Ledger
    nodes: dict[str, Node]
    workers: dict[str, Worker]
    engines: dict[str, Engine]
    judges: list[Node] = field(default_factory=list)
    validators: list[Validator] = field(default_factory=list)
    judge_engines: list[Engine] = field(default_factory=list)

    @property
    def judge(self) -> Node:
        return self.judges[0]

    @property
    def validator(self) -> Validator:
        return self.validators[0]

    @property
    def group(self) -> Group:
        return next(iter(self.orchestrator.pool.groups.values()))

    def stage(self, index: int) -> Node:
        return self.nodes[self.group.peers[index]]

    def engine(self, index: int) -> Engine:
        return self.engines[self.group.peers[index]]

    async def formed(self) -> None:
        pool = self.orchestrator.pool
        await until(
            self.orchestrator,
            lambda: any(g.state is GroupState.RUNNING for g in pool.groups.values()),
        )

    async def submit(self, count: int = 1, max_tokens: int = 4) -> list[Unit]:
        prompts = tuple(
            Prompt.model_validate({"prompt": f"p{i}", "max_tokens": max_tokens})
            for i in range(count)
        )
        job = (await self.orchestrator.submit(prompts, "job")).job_id
        return await self.orchestrator.units_of(job)

    async def reached(self, unit: Unit, state: UnitState) -> Unit:
        return await reached(self.orchestrator, unit, state)

    async def current(self, unit: Unit) -> Unit:
        return await self.orchestrator.unit(unit.unit_id)


@asynccontextmanager
async def open_net(
    folder: Path,
    *,
    judges: Sequence[int] = (1,),
    policy: Policy | None = None,
    timing: OrchestratorTiming = TIMING,
    supervisor: Callable[[], Supervisor] = Supervisor,
) -> AsyncIterator[Net]:
    """`judges` are the stakes of the validators; each node has its own `supervisor()`."""
    ledger, ring = Ledger(), Ring()
    async with AsyncExitStack() as stack:

        async def node(number: int, role: str, boot: Node | None) -> Node:
            place = folder / f"n{number}"
            return await stack.enter_async_context(
                open_node(
                    number, place, boot=boot, ledger=ledger, role=role, supervisor=supervisor()
                )
            )

        boss = await node(0, "orchestrator", None)
        ledger.creators[POOL] = boss.address
        mallory = await node(9, "worker", boss)
        orchestrator = make_orchestrator(boss, policy, timing)
        net = Net(boss, orchestrator, mallory, ledger, {}, {}, {})
        await stack.enter_async_context(running(boss, orchestrator=orchestrator))
        for number in (1, 2):
            host, engine = await node(number, "worker", boss), Engine(ring)
            worker = make_worker(host, engine)
            net.nodes[host.peer_id], net.engines[host.peer_id] = host, engine
            net.workers[host.peer_id] = worker
            await stack.enter_async_context(running(host, worker=worker))
            await host.announce("worker")
        for number, weight in enumerate(judges, 5):
            judge = await node(20 + number, "validator", boss)
            ledger.weights[judge.address] = weight
            replays = Engine(ring)
            validator = make_validator(judge, replays)
            net.judges.append(judge)
            net.validators.append(validator)
            net.judge_engines.append(replays)
            await stack.enter_async_context(running(judge, validator=validator))
            await judge.announce("validator")
        await net.formed()
        yield net


@pytest.fixture
def net(tmp_path: Path) -> Callable[..., Any]:
    """`open_net` in a folder of its own."""
    return lambda **options: open_net(tmp_path, **options)


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[..., Any]:
    """`open_scenario` in a folder of its own."""
    return lambda **options: open_scenario(tmp_path, **options)


@pytest.fixture
def signing(tmp_path: Path) -> Callable[[], Any]:
    """`open_signing` in a folder of its own."""
    return lambda: open_signing(tmp_path)
