"""Putting a node's roles together: engines, services and the shared handlers, by configuration.

`open_roles` opens what the roles need (engine processes, the model, the pool on chain) and yields
`Roles`, whose `run` serves all of them. Nothing is announced before `run` has started.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from node.context import NodeContext
from node.keystore import NodeKey
from node.networkfile import NetworkFile
from node.protocol import SETTLED, Done, Settled
from node.registration import ensure_funds, register_worker
from node.roles.orchestrator.service import Orchestrator
from node.roles.orchestrator.setup import open_orchestrator
from node.roles.validator.service import Validator, open_validator_engine
from node.roles.worker.service import Worker, open_worker_engine, worker_device
from node.rpc import serve


class Roles:
    """The roles of this node; each is None where the node does not have it."""

    def __init__(
        self,
        context: NodeContext,
        worker: Worker | None,
        validator: Validator | None,
        orchestrator: Orchestrator | None,
        pool_id: int,
    ) -> None:
        self._context = context
        self.worker = worker
        self.validator = validator
        self.orchestrator = orchestrator
        self.pool_id = pool_id

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once every role's handlers are in place."""
        serve(self._context.network, SETTLED, self._on_settled)
        async with trio.open_nursery() as nursery:
            for role in (self.worker, self.validator, self.orchestrator):
                if role is not None:
                    await nursery.start(role.run)
            task_status.started()

    async def drain(self) -> None:
        """Finish what is owed to others; the caller bounds the time."""
        async with trio.open_nursery() as nursery:
            for role in (self.worker, self.validator, self.orchestrator):
                if role is not None:
                    nursery.start_soon(role.drain)

    async def _on_settled(self, peer_id: str, notice: Settled) -> Done:
        if self.orchestrator is not None and notice.pool_id == self.pool_id:
            await self.orchestrator.requests.on_settled(peer_id, notice)
        if self.worker is not None:
            await self.worker.rewards.on_settled(peer_id, notice)
        return Done()


@asynccontextmanager
async def open_roles(
    context: NodeContext, key: NodeKey, provider: NodeKey, network_file: NetworkFile | None
) -> AsyncIterator[Roles]:
    """Open what the configured roles need. Raises `NodeError` and the packages' own errors."""
    wanted = context.config.roles
    table = network_file.chain if network_file is not None else None
    worker: Worker | None = None
    validator: Validator | None = None
    orchestrator: Orchestrator | None = None
    pool_id = 0
    async with AsyncExitStack() as stack:
        if "worker" in wanted:
            device = worker_device(context)
            engine = await stack.enter_async_context(open_worker_engine(context))
            worker = Worker(context, engine, device)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.measure)
                if context.chain is not None and table is not None:
                    units = max(1, device.memory_bytes // 2**30)
                    nursery.start_soon(register_worker, context.chain, table, provider, key, units)
        if "validator" in wanted:
            if context.chain is not None and table is not None:
                await ensure_funds(context.chain, table, key.address, 0)
            replayer = await stack.enter_async_context(open_validator_engine(context))
            validator = Validator(context, replayer)
        if "orchestrator" in wanted:
            orchestrator, pool_id = await open_orchestrator(context, table)
        yield Roles(context, worker, validator, orchestrator, pool_id)
