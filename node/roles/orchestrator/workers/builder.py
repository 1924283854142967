"""Carrying out a plan: load every stage, close the ring, say how it went.

All stages load at once, then all connect at once (a stage's edge needs both of its neighbours). The
first failure ends the build; `GroupBroken` then names the stage that refused or could not be
reached, so that the coordinator can plan without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from node.context import NodeContext
from node.roles.orchestrator.coordinator.events import Event, GroupBroken, GroupUp
from node.roles.orchestrator.coordinator.members import Member
from node.wire.protocol import LOAD, RING, LoadStage, StageLoaded, StagePeer, StageRef
from node.wire.rpc import call
from p2p.errors import P2PError, PeerUnreachable
from pipeline.planner import GroupPlan


@dataclass(frozen=True)
class GroupTerms:
    """What every stage of this pool's groups is told, whatever the plan."""

    pool_id: int
    model_id: bytes
    model_name: str
    kv_tokens: int
    max_batch_tokens: int


@dataclass(frozen=True)
class Build:
    group_id: bytes
    generation: int
    plan: GroupPlan


class Builder:
    """Builds groups; remembers what each stage reported when it loaded."""

    def __init__(self, context: NodeContext, terms: GroupTerms) -> None:
        self._context = context
        self.pool_id = terms.pool_id
        self._terms = terms
        self.loaded: dict[str, StageLoaded] = {}

    async def build(self, build: Build, members: dict[str, Member]) -> Event:
        """`GroupUp` or `GroupBroken`."""
        stages = tuple(
            StagePeer(
                peer_id=stage.peer_id,
                address=members[stage.peer_id].address,
                first_layer=stage.first_layer,
                last_layer=stage.last_layer,
            )
            for stage in build.plan.stages
        )
        failures: list[GroupBroken] = []
        for step in (self._load, self._ring):
            async with trio.open_nursery() as nursery:
                for index in range(len(stages)):
                    nursery.start_soon(
                        self._step, step, build, stages, index, failures, nursery.cancel_scope
                    )
            if failures:
                return failures[0]
        return GroupUp(build.group_id, build.generation)

    async def _step(  # type: ignore[no-untyped-def]
        self, step, build: Build, stages, index: int, failures, scope: trio.CancelScope
    ) -> None:
        peer_id = stages[index].peer_id
        try:
            await step(build, stages, index)
        except P2PError as exc:
            reason = f"{step.__name__.strip('_')} of stage {index}: {exc}"
            unreachable = isinstance(exc, PeerUnreachable)
            at_fault = "" if step == self._ring and not unreachable else peer_id
            failures.append(GroupBroken(build.group_id, build.generation, reason, at_fault))
            scope.cancel()

    async def _load(self, build: Build, stages: tuple[StagePeer, ...], index: int) -> None:
        terms = self._terms
        order = LoadStage(
            ref=StageRef(group_id=build.group_id, generation=build.generation, stage=index),
            pool_id=terms.pool_id,
            model_id=terms.model_id,
            model_name=terms.model_name,
            stages=stages,
            kv_tokens=terms.kv_tokens,
            micro_batches=build.plan.micro_batches,
            max_batch_tokens=terms.max_batch_tokens,
        )
        peer_id = stages[index].peer_id
        self.loaded[peer_id] = await call(self._context, peer_id, LOAD, order)

    async def _ring(self, build: Build, stages: tuple[StagePeer, ...], index: int) -> None:
        ref = StageRef(group_id=build.group_id, generation=build.generation, stage=index)
        await call(self._context, stages[index].peer_id, RING, ref)
