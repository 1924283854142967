"""Carrying out the coordinator's commands: each is a task, and what came of it is an event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from node.context import NodeContext
from node.roles.orchestrator.bundling.collecting import ClaimCollector
from node.roles.orchestrator.bundling.making import BundleMaker
from node.roles.orchestrator.coordinator.commands import (
    AssignUnit,
    BanWorker,
    BuildGroup,
    CollectClaims,
    Command,
    ForgetUnit,
    InviteWorker,
    ReadQueue,
    VerifyUnit,
)
from node.roles.orchestrator.coordinator.events import (
    Event,
    GroupBroken,
    QueueRead,
    UnitRefused,
)
from node.roles.orchestrator.coordinator.view import PoolView
from node.roles.orchestrator.ledger.ledger import WorkLedger
from node.roles.orchestrator.settlement_watch import SettlementWatch
from node.roles.orchestrator.transitions import TransitionFailed
from node.roles.orchestrator.workers.builder import Builder
from node.roles.orchestrator.workers.invites import Inviter
from node.roles.orchestrator.workers.watch import WorkerWatch
from node.wire.messages.fields import StageRef
from node.wire.messages.verification import Forget
from node.wire.messages.work import Assign
from node.wire.methods import ASSIGN, FORGET
from node.wire.rpc import call
from p2p.errors import P2PError, RemoteRefused, RequestTooLarge
from pipeline.engine.control.messages import SequenceSpec

Feed = Callable[[Event], Awaitable[None]]


@dataclass(frozen=True)
class ExecutorParts:
    """The parts that know how: one for each kind of command."""

    inviter: Inviter
    builder: Builder
    claims: ClaimCollector
    bundles: BundleMaker
    watch: WorkerWatch
    settlement: SettlementWatch
    ledger: WorkLedger


class CommandExecutor:
    """Carries out one command at a time in each of the caller's tasks."""

    def __init__(
        self, context: NodeContext, pool: PoolView, parts: ExecutorParts, feed: Feed
    ) -> None:
        self._context = context
        self._pool = pool
        self._parts = parts
        self._feed = feed
        self._builds: dict[bytes, trio.CancelScope] = {}

    async def carry_out(self, command: Command) -> None:
        """Do it and feed what came of it; peers' failures are events or logged, never raised."""
        match command:
            case InviteWorker():
                await self._feed(await self._parts.inviter.invite(command.peer_id))
            case BuildGroup():
                await self._build(command)
            case AssignUnit():
                await self._assign(command)
            case CollectClaims():
                epoch = self._parts.settlement.epoch
                for event in await self._parts.claims.collect(command, epoch):
                    await self._feed(event)
            case VerifyUnit():
                await self._parts.bundles.verify(command)
            case ForgetUnit():
                await self._forget(command)
            case ReadQueue():
                units = await self._parts.ledger.next_queued(command.limit)
                try:
                    await self._feed(QueueRead(units, command.arrivals))
                except TransitionFailed:
                    self._parts.ledger.read_again({unit.job_id for unit in units})
                    raise
            case BanWorker():
                await self._parts.inviter.eject(command.peer_id)

    async def _build(self, command: BuildGroup) -> None:
        older = self._builds.get(command.group_id)
        if older is not None:
            older.cancel()
        with trio.CancelScope() as scope:
            self._builds[command.group_id] = scope
            event = await self._parts.builder.build(command, self._pool.members)
        if not scope.cancelled_caught:
            await self._feed(event)

    async def _assign(self, command: AssignUnit) -> None:
        unit = self._pool.assigned(command.unit_id, command.generation)
        group = self._pool.groups.get(command.group_id)
        if unit is None or group is None or group.generation != command.generation:
            return
        order = Assign(
            ref=StageRef(group_id=group.group_id, generation=group.generation, stage=0),
            sequences=tuple(
                SequenceSpec(request=s.request, generated=s.output_ids) for s in unit.sequences
            ),
        )
        try:
            await call(self._context, group.peers[0], ASSIGN, order)
        except P2PError as exc:
            refused = isinstance(exc, RemoteRefused) and exc.code == "bad_request"
            if refused or isinstance(exc, RequestTooLarge):
                event = UnitRefused(unit.unit_id, command.generation, str(exc), not refused)
                await self._feed(event)
                return
            reason = f"stage 0 took no work: {exc}"
            await self._parts.watch.probe(group.peers[0])
            await self._feed(GroupBroken(group.group_id, group.generation, reason))

    async def _forget(self, command: ForgetUnit) -> None:
        ids = command.sequence_ids
        for stage, peer_id in enumerate(command.peers):
            ref = StageRef(group_id=command.group_id, generation=command.generation, stage=stage)
            try:
                await call(self._context, peer_id, FORGET, Forget(ref=ref, sequence_ids=ids))
            except P2PError as exc:
                self._context.log.debug("forget not delivered", peer=peer_id, reason=str(exc))
