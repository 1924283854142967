"""Putting a node's roles together: engines, services and the shared handlers, by configuration.

`open_roles` opens what the roles need (engine processes, the model, the pool on chain) and yields
`Roles`, whose `run` serves all of them. Nothing is announced before `run` has started.

Whether there is a chain is asked here and in each role's own composition, nowhere else: parts that
need one take a `ChainClient` and exist only where there is one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import trio

from node.config.keystore import NodeKey
from node.config.networkfile import ChainTable
from node.context import NodeContext
from node.onchain.registration import Provider, ensure_funds, register_worker
from node.onchain.registry import ChainRegistry
from node.roles.orchestrator.opening.setup import open_orchestrator
from node.roles.orchestrator.service import Orchestrator
from node.roles.validator.assembly import open_validator, open_validator_engine
from node.roles.validator.service import Validator
from node.roles.worker.service import Worker, build_worker, open_worker_engine, worker_device
from node.settlement.chain_follower import CONTRACTS, CURSOR, ChainFollower, FollowerTiming
from node.settlement.follower import NothingSettled, SettlementFollower
from node.wire.blobs import BlobStore

if TYPE_CHECKING:
    from chain.client import ChainClient


class Roles:
    """The roles of this node; each is None where the node does not have it, and so is the
    `registry` where there is no chain."""

    def __init__(
        self,
        follower: SettlementFollower,
        worker: Worker | None,
        validator: Validator | None,
        orchestrator: Orchestrator | None,
        pool_id: int,
        registry: ChainRegistry | None = None,
    ) -> None:
        self.follower = follower
        self.registry = registry
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
            if self.registry is not None:
                await nursery.start(self.registry.run)
            for role in (self.worker, self.validator, self.orchestrator):
                if role is not None:
                    await nursery.start(role.run)
            task_status.started()

    def trouble(self) -> str:
        """Why a role cannot do its work now, "" where all can."""
        return "" if self.worker is None else self.worker.trouble

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
    context: NodeContext,
    chain: ChainClient | None,
    key: NodeKey,
    provider: Provider,
    table: ChainTable | None,
) -> AsyncIterator[Roles]:
    """Open what the configured roles need. `chain` is a client of the chain that `table` names, and
    both are None where the network file names none. Raises `NodeError` and the packages' own
    errors."""
    wanted = context.config.roles
    follower = open_follower(context, chain, table)
    registry = None if chain is None else ChainRegistry(context, chain)
    worker: Worker | None = None
    validator: Validator | None = None
    orchestrator: Orchestrator | None = None
    pool_id = 0
    async with AsyncExitStack() as stack:
        if "worker" in wanted:
            device = worker_device(context)
            engine = await stack.enter_async_context(open_worker_engine(context))
            worker = build_worker(context, chain, engine, device, follower)
            await worker.measure()
        if chain is not None and table is not None:
            await _register(context, chain, table, key, provider, worker)
        if "validator" in wanted:
            replayer = await stack.enter_async_context(open_validator_engine(context))
            validator = open_validator(context, chain, replayer, follower)
        if "orchestrator" in wanted:
            orchestrator, pool_id = await open_orchestrator(
                context, chain, table, registry, follower
            )
        roles = Roles(follower, worker, validator, orchestrator, pool_id, registry)
        follower.wants = roles.wants
        yield roles


def open_follower(
    context: NodeContext, chain: ChainClient | None, table: ChainTable | None
) -> SettlementFollower:
    """A follower of the chain's settlement, or none of anything."""
    blobs = BlobStore(context)
    if chain is None or table is None:
        return NothingSettled(blobs, context.wall)
    # A node without a chain never imports web3.
    from chain.events.reader import EventReader

    timing = FollowerTiming()
    return ChainFollower(
        context,
        chain,
        EventReader(
            chain.rpc,
            chain.deployment,
            chain.database,
            CURSOR,
            CONTRACTS,
            confirmations=table.confirmations,
            poll=timing.poll,
        ),
        blobs,
        all_epochs=needs_all_epochs(context.config.roles),
        pays_by_work="validator" in context.config.roles,
        confirmations=table.confirmations,
        timing=timing,
    )


async def _register(
    context: NodeContext,
    chain: ChainClient,
    table: ChainTable,
    key: NodeKey,
    provider: Provider,
    worker: Worker | None,
) -> None:
    """Have the node registered, staked and funded as its roles need."""
    wanted, stake = context.config.roles, 0
    if "validator" in wanted:
        stake = context.config.validator.stake
    if "worker" in wanted or "validator" in wanted:
        units = max(1, worker.device.memory_bytes // 2**30) if worker is not None else 1
        await register_worker(chain, table, provider, key, units, stake)
    if "validator" in wanted:
        terms = await chain.settlement.terms()
        await ensure_funds(chain, table, key.address, terms.bond)
