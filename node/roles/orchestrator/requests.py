"""What peers ask of an orchestrator, and who may: its workers, its validators.

A worker's report is believed as far as it can be checked here: it must come from the stage that it
speaks of, in the running generation, and its tokens must be what was asked for (`progress.py` of
`workers`). No text is taken from a worker: it is decoded from the tokens that the validators judge,
where it is shown. A verdict counts when a validator that was asked signed it for a bundle that
waits for one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from node.context import NodeContext
from node.roles.orchestrator.coordinator.events import (
    EngineEnded,
    GroupBroken,
    PeerGone,
    PeerVerdict,
    UnitsFailed,
)
from node.roles.orchestrator.coordinator.groups import Group, GroupState
from node.roles.orchestrator.coordinator.members import MemberState
from node.roles.orchestrator.coordinator.units import UnitState
from node.roles.orchestrator.coordinator.view import PoolView
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.journal_events import UnitRejected
from node.roles.orchestrator.restore import MAX_REJECTIONS
from node.roles.orchestrator.workers.edges import edge_suspects
from node.roles.orchestrator.workers.invites import Inviter
from node.roles.orchestrator.workers.progress import BadReport, progress_events
from node.roles.orchestrator.workers.watch import WATCHED, WorkerWatch
from node.wire.decoding import decode_for
from node.wire.messages.fields import Done, StageRef
from node.wire.messages.verification import VerdictNotice
from node.wire.messages.work import Progress, Trouble
from node.wire.methods import PROGRESS, TROUBLE, VERDICT
from node.wire.rpc import serve
from p2p.errors import Refused
from proofs.errors import ProofError
from proofs.verdict.message import SignedVerdict, Verdict

Feed = Callable[..., Awaitable[None]]


class PeerRequests:
    """Handlers of peers' requests. `feed(*events)` tells the coordinator what came of them,
    `hearsay` is `OrchestratorTiming.hearsay`."""

    def __init__(
        self,
        context: NodeContext,
        pool: PoolView,
        cutter: JobCutter,
        inviter: Inviter,
        watch: WorkerWatch,
        feed: Feed,
        hearsay: float,
    ) -> None:
        self._context = context
        self._pool = pool
        self._cutter = cutter
        self._inviter = inviter
        self._watch = watch
        self._feed = feed
        self.rejections: deque[UnitRejected] = deque(maxlen=MAX_REJECTIONS)
        self._hearsay = hearsay

    def serve(self) -> None:
        """Register the handlers."""
        network = self._context.network
        serve(network, PROGRESS, self._on_progress, self._require_member)
        serve(network, TROUBLE, self._on_trouble, self._require_member)
        serve(network, VERDICT, self._on_verdict, self._require_validator)

    async def _on_progress(self, peer_id: str, report: Progress) -> Done:
        group = self._require_stage(peer_id, report.ref, 0)
        try:
            events = progress_events(report, self._pool, self._cutter.output_fault)
        except BadReport as exc:
            reason = f"stage 0 reported {exc}"
            await self._feed(GroupBroken(group.group_id, group.generation, reason, peer_id))
            raise Refused("bad_request", reason) from exc
        if events:
            await self._feed(*events)
        return Done()

    async def _on_trouble(self, peer_id: str, trouble: Trouble) -> Done:
        """A stage's edge broke: find out who is gone, then repair.

        Both ends of the edge go on the account, the reporter too: it may have broken the edge that
        it complains of. Whoever was only told goodbye is heard last, since a neighbour that ended
        its ring for cause says so itself.
        """
        ref = trouble.ref
        group = self._require_stage(peer_id, ref, ref.stage)
        self._context.log.warning("stage trouble", peer=peer_id, reason=trouble.reason)
        if trouble.kind == "work":
            units = dict.fromkeys(map(self._pool.unit_id_of, trouble.sequence_ids))
            failed = tuple(unit_id for unit_id in units if unit_id)
            await self._feed(
                UnitsFailed(ref.group_id, ref.generation, ref.stage, failed, trouble.reason)
            )
            return Done()
        if trouble.kind == "leaving":
            await self._feed(PeerGone(peer_id, trouble.reason))
            return Done()
        if trouble.kind == "crash":
            await self._feed(EngineEnded(ref.group_id, ref.generation, ref.stage, trouble.reason))
            return Done()
        if group.state not in (GroupState.LOADING, GroupState.RUNNING):
            return Done()
        async with trio.open_nursery() as nursery:
            for other in group.peers:
                if other != peer_id:
                    nursery.start_soon(self._watch.probe, other)
        if trouble.farewell:
            await trio.sleep(self._hearsay)
        suspects = edge_suspects(group.peers, ref.stage, trouble.kind)
        await self._feed(
            GroupBroken(ref.group_id, ref.generation, trouble.reason, suspects=suspects)
        )
        return Done()

    async def _on_verdict(self, peer_id: str, notice: VerdictNotice) -> Done:
        """A validator's verdict; acknowledged once it is journaled."""
        try:
            network = self._context.network
            signed = await decode_for(network, peer_id, notice.verdict, SignedVerdict.from_bytes)
            address = signed.signer()
        except ProofError as exc:
            raise Refused("bad_verdict", str(exc)) from exc
        verdict = signed.verdict
        if not all(math.isfinite(figure) for figure in verdict.figures.values()):
            raise Refused("bad_verdict", "its figures must be finite")
        await self._inviter.require_validator(peer_id, address)
        unit = self._pool.units.get(verdict.unit_id)
        if (
            unit is None
            or unit.state is not UnitState.VERIFYING
            or unit.bundle_id != verdict.bundle_id
        ):
            return Done()  # late or repeated: it changes nothing, and is not asked for again
        summary = {**verdict.summary(), "validator": address}
        if not verdict.accepted:
            await self._note_rejection(verdict, address)
        await self._feed(
            PeerVerdict(
                peer_id,
                verdict.unit_id,
                verdict.bundle_id,
                verdict.accepted,
                verdict.faulty_peer,
                verdict.reason,
                summary,
                verdict.doubted_peer,
            )
        )
        return Done()

    async def _note_rejection(self, verdict: Verdict, validator: str) -> None:
        rejected = UnitRejected(
            unit_id=verdict.unit_id,
            bundle_id=verdict.bundle_id,
            validator=validator,
            at=self._context.wall(),
            reason=verdict.reason,
            first_faulty=verdict.first_faulty,
            faulty_peer=verdict.faulty_peer,
        )
        (new,) = await self._context.journal.record(rejected)
        if new:
            self.rejections.append(rejected)

    def _require_member(self, peer_id: str) -> None:
        member = self._pool.members.get(peer_id)
        if member is None or member.state not in WATCHED:
            state = MemberState.DISCOVERED if member is None else member.state
            raise Refused("not_a_member", f"you are {state.value} here")

    def _require_validator(self, peer_id: str) -> None:
        if peer_id not in self._pool.asked:
            raise Refused("not_asked", "I asked you for no verdict")

    def _require_stage(self, peer_id: str, ref: StageRef, stage: int) -> Group:
        group = self._pool.groups.get(ref.group_id)
        if group is None or group.generation != ref.generation:
            raise Refused("stale", "that generation of the group is gone")
        if stage >= len(group.peers) or group.peers[stage] != peer_id:
            raise Refused("not_your_stage", f"stage {stage} is another peer's")
        return group
