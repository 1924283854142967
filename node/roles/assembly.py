"""Putting a node's roles together: engines, services and the shared handlers, by configuration.

`open_roles` opens what the roles need (engine processes, the model, the pool on chain) and yields
`Roles`, whose `run` serves all of them. Nothing is announced before `run` has started.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from node.config.keystore import NodeKey
from node.config.networkfile import NetworkFile
from node.context import NodeContext
from node.onchain.registration import Provider, ensure_funds, register_worker
from node.roles.orchestrator.opening.setup import open_orchestrator
from node.roles.orchestrator.service import Orchestrator
from node.roles.validator.assembly import open_validator, open_validator_engine
from node.roles.validator.service import Validator
from node.roles.worker.service import Worker, open_worker_engine, worker_device
from node.settlement.follower import SettlementFollower
from node.wire.blobs import BlobStore

SETTLEMENT_POLL_SECONDS = 0.5


class Roles:
    """The roles of this node; each is None where the node does not have it."""

    def __init__(
        self,
        follower: SettlementFollower,
        worker: Worker | None,
        validator: Validator | None,
        orchestrator: Orchestrator | None,
        pool_id: int,
    ) -> None:
        self.follower = follower
        self.worker = worker
        self.validator = validator
        self.orchestrator = orchestrator
        self.pool_id = pool_id

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once every role's handlers are in place."""
        async with trio.open_nursery() as nursery:
            if self.worker is not None:
                await self.worker.rewards.restore()
            await nursery.start(self.follower.run)
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

    def wants(self, pool_id: int) -> bool:
        """Whose epochs this node fetches: a validator all, others those they are paid by or own."""
        return (
            self.validator is not None
            or (self.orchestrator is not None and pool_id == self.pool_id)
            or (self.worker is not None and self.worker.rewards.wants(pool_id))
        )


def needs_all_epochs(roles: Collection[str]) -> bool:
    """Validators build on every epoch, and an orchestrator tells its units' from each; a worker's
    newest leaf has all that it ever earned."""
    return "validator" in roles or "orchestrator" in roles


@asynccontextmanager
async def open_roles(
    context: NodeContext, key: NodeKey, provider: Provider, network_file: NetworkFile | None
) -> AsyncIterator[Roles]:
    """Open what the configured roles need. Raises `NodeError` and the packages' own errors."""
    wanted = context.config.roles
    table = network_file.chain if network_file is not None else None
    confirmations = table.confirmations if table is not None else 1
    follower = SettlementFollower(
        context,
        BlobStore(context),
        all_epochs=needs_all_epochs(wanted),
        poll=SETTLEMENT_POLL_SECONDS,
        confirmations=confirmations,
    )
    worker: Worker | None = None
    validator: Validator | None = None
    orchestrator: Orchestrator | None = None
    pool_id = 0
    async with AsyncExitStack() as stack:
        if "worker" in wanted:
            device = worker_device(context)
            engine = await stack.enter_async_context(open_worker_engine(context))
            worker = Worker(context, engine, device, follower)
            await worker.measure()
        if context.chain is not None and table is not None and {"worker", "validator"} & {*wanted}:
            units = max(1, worker.device.memory_bytes // 2**30) if worker is not None else 1
            stake = context.config.validator.stake if "validator" in wanted else 0
            await register_worker(context.chain, table, provider, key, units, stake)
        if "validator" in wanted:
            if context.chain is not None and table is not None:
                terms = await context.chain.settlement.terms()
                await ensure_funds(context.chain, table, key.address, terms.bond)
            replayer = await stack.enter_async_context(open_validator_engine(context))
            validator = open_validator(context, context.chain, replayer, follower)
        if "orchestrator" in wanted:
            orchestrator, pool_id = await open_orchestrator(context, context.chain, table, follower)
        roles = Roles(follower, worker, validator, orchestrator, pool_id)
        follower.wants = roles.wants
        yield roles
