"""Carrying out a plan: load every stage, close the ring, say how it went.

All stages load at once, then all connect at once (a stage's edge needs both of its neighbours). The
first failure ends the attempt; `GroupBroken` then names the stage that refused to load or could not
be reached, so that the coordinator can plan without it, or the ends of the edge that is not up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import trio

from node.context import NodeContext
from node.roles.orchestrator.coordinator.commands import BuildGroup
from node.roles.orchestrator.coordinator.events import GroupBroken, GroupUp
from node.roles.orchestrator.coordinator.members import Member
from node.roles.orchestrator.workers.edges import edge_suspects, neighbour_suspects
from node.wire.messages.fields import StageRef
from node.wire.messages.work import LoadStage, StageLoaded, StagePeer
from node.wire.methods import LOAD, RING
from node.wire.rpc import call
from p2p.errors import P2PError, PeerUnreachable, RemoteRefused


@dataclass(frozen=True)
class GroupTerms:
    """What every stage of this pool's groups is told, whatever the plan.

    `pool_id` is the pool's on chain, 0 without one. `kv_tokens` is how many tokens a stage's KV
    cache holds for all sequences together, `max_batch_tokens` how many one batch may have.
    """

    pool_id: int
    model_id: bytes
    model_name: str
    kv_tokens: int
    max_batch_tokens: int


@dataclass(frozen=True)
class _Step:
    """One of the two steps of building a group. `blames` says whether a stage that refuses it is at
    fault, or perhaps its neighbour; one that cannot be reached always is."""

    name: str
    ask: Callable[[BuildGroup, tuple[StagePeer, ...], int], Awaitable[None]]
    blames: bool


class Builder:
    """Builds groups; remembers what each stage reported when it loaded."""

    def __init__(self, context: NodeContext, terms: GroupTerms) -> None:
        self._context = context
        self.terms = terms
        self.loaded: dict[str, StageLoaded] = {}
        self._steps = (
            _Step("load", self._load, blames=True),
            _Step("ring", self._ring, blames=False),
        )

    async def build(
        self, build: BuildGroup, members: Mapping[str, Member]
    ) -> GroupUp | GroupBroken:
        """Have every stage of the plan loaded and connected."""
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
        for step in self._steps:
            async with trio.open_nursery() as nursery:
                for index in range(len(stages)):
                    nursery.start_soon(
                        self._attempt, step, build, stages, index, failures, nursery.cancel_scope
                    )
            if failures:
                return failures[0]
        return GroupUp(build.group_id, build.generation)

    async def _attempt(
        self,
        step: _Step,
        build: BuildGroup,
        stages: tuple[StagePeer, ...],
        index: int,
        failures: list[GroupBroken],
        scope: trio.CancelScope,
    ) -> None:
        try:
            await step.ask(build, stages, index)
        except P2PError as exc:
            reason = f"{step.name} of stage {index}: {exc}"
            peers = [stage.peer_id for stage in stages]
            suspect, suspects, unconnected = "", tuple[str, ...](), tuple[str, ...]()
            if step.blames or isinstance(exc, PeerUnreachable):
                suspect = peers[index]
            elif isinstance(exc, RemoteRefused) and exc.code in ("upstream", "downstream"):
                suspects = unconnected = edge_suspects(peers, index, exc.code)
            else:
                suspects = neighbour_suspects(peers, index)
            failures.append(
                GroupBroken(
                    build.group_id, build.generation, reason, suspect, suspects, unconnected
                )
            )
            scope.cancel()

    async def _load(self, build: BuildGroup, stages: tuple[StagePeer, ...], index: int) -> None:
        terms = self.terms
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

    async def _ring(self, build: BuildGroup, stages: tuple[StagePeer, ...], index: int) -> None:
        ref = StageRef(group_id=build.group_id, generation=build.generation, stage=index)
        await call(self._context, stages[index].peer_id, RING, ref)
