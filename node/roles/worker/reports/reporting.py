"""Stage 0's reports to the orchestrator: tokens as they come, finished sequences, trouble.

The engine's events of the stage that this node holds are gathered in its `Outbox` for
`WorkerTiming.gather` seconds, and told in `progress` requests until nothing is left, one at a time
and in order. What belongs to an older generation of the group is dropped.

A report that was not answered is made again. One that can never be taken (it is refused for what it
is, or fails `WorkerTiming.report_tries` times) ends the reports of this generation, and so does an
orchestrator that takes nothing until too much waits: that is logged once, the orchestrator is told
where it does not know, and the engine's events are dropped until it builds its group anew.

Trouble is told by a task of its own, so that a storm of it does not keep the engine's events from
being read; what is more than `MAX_TROUBLE` adds nothing to what the orchestrator knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from node.context import NodeContext
from node.retry import tries
from node.roles.worker.membership import Membership
from node.roles.worker.reports.outbox import Outbox
from node.roles.worker.stage import Assignment, StageHost
from node.roles.worker.timing import WorkerTiming
from node.wire.messages.work import Progress, Trouble
from node.wire.methods import PROGRESS, TROUBLE
from node.wire.rpc import call
from p2p.errors import P2PError, RemoteRefused, RequestTooLarge
from pipeline.engine.control.client import Exited, Restarted
from pipeline.engine.control.messages import EdgeDown, Failed, Finished, Message, Tokens

MAX_TROUBLE = 16
"""Reports of trouble that wait to be sent."""
OVER = frozenset({"stale", "not_your_stage", "not_a_member"})
"""Refusals by an orchestrator that has given up this generation already."""
FOR_GOOD = OVER | {"too_large", "bad_request"}
"""Refusals of a report that would be refused again."""


@dataclass
class _Reported:
    """A stage that this node holds, and what is to be told of it; `over` once nothing is."""

    assignment: Assignment
    outbox: Outbox
    over: bool = False

    @property
    def generation(self) -> int:
        """The group's, to which it belongs."""
        return self.assignment.order.ref.generation


class Reporter:
    """Turns engine events into reports."""

    def __init__(
        self,
        context: NodeContext,
        membership: Membership,
        stage: StageHost,
        timing: WorkerTiming,
    ) -> None:
        self._context = context
        self._membership = membership
        self._stage = stage
        self._timing = timing
        self._reported: _Reported | None = None
        self._something = trio.Event()
        self._trouble, self._troubles = trio.open_memory_channel[tuple[str, Trouble]](MAX_TROUBLE)

    async def run(self) -> None:
        """Pump events until the engine's channel closes."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_progress)
            nursery.start_soon(self._send_trouble)
            self._something.set()
            async for _name, body in self._stage.engine.events:
                self._take(body)
            nursery.cancel_scope.cancel()

    def _take(self, body: Message) -> None:
        match body:
            case Tokens() | Finished():
                self._put(body)
            case Failed():
                reported = self._current()
                if reported is not None and reported.generation == body.generation:
                    for sequence_id in body.sequence_ids:
                        reported.outbox.drop(sequence_id)
                    self._note("work", body.reason, sequence_ids=body.sequence_ids)
            case EdgeDown():
                reported = self._current()
                if reported is not None and reported.generation == body.generation:
                    reason = f"{body.edge} edge: {body.reason}"
                    self._note(body.edge, reason, farewell=body.farewell)
            case Exited():
                held = self._stage.assignment
                self._note("crash", f"engine exited with code {body.code}")
                self._stage.engine_died(held)
            case Restarted():
                self._context.metrics.engine_restarts.inc()
                self._context.log.info("engine restarted")

    def _put(self, event: Tokens | Finished) -> None:
        reported = self._current()
        if reported is None or reported.over or reported.generation != event.generation:
            return
        reported.outbox.put(event)
        if reported.outbox.overfull:
            self._give_up(reported, "the orchestrator takes no reports", tell=True)
        self._something.set()

    def _current(self) -> _Reported | None:
        """What is reported of the stage that this node holds now."""
        assignment = self._stage.assignment
        if assignment is None:
            self._reported = None
        elif self._reported is None or self._reported.assignment is not assignment:
            self._reported = _Reported(assignment, Outbox(assignment.order.ref))
        return self._reported

    async def _send_progress(self) -> None:
        while True:
            await self._something.wait()
            await trio.sleep(self._timing.gather)
            self._something = trio.Event()
            reported = self._current()
            while reported is not None and (report := reported.outbox.report()) is not None:
                if not await self._deliver(reported, report):
                    break
                reported.outbox.taken(report)

    async def _deliver(self, reported: _Reported, report: Progress) -> bool:
        """Whether the orchestrator took it; if not, this stage is over, or its reports are."""
        refused = 0
        async for attempt in tries(self._timing.report):
            pool = self._membership.pool
            if pool is None or reported.over or self._stage.assignment is not reported.assignment:
                return False
            try:
                await call(self._context, pool.peer_id, PROGRESS, report)
                return True
            except RequestTooLarge as exc:
                self._give_up(reported, str(exc), tell=True)
                return False
            except RemoteRefused as exc:
                refused += 1
                reason = f"a report was refused: {exc}"
                if exc.code in FOR_GOOD or refused >= self._timing.report_tries:
                    self._give_up(reported, reason, tell=exc.code not in OVER)
                    return False
                self._context.log.warning("progress not delivered", reason=reason)
            except P2PError as exc:
                say = self._context.log.debug if attempt else self._context.log.warning
                say("progress not delivered", reason=str(exc))  # once is enough
        return False

    def _give_up(self, reported: _Reported, reason: str, *, tell: bool) -> None:
        """Tell nothing more of this generation."""
        reported.over = True
        reported.outbox.clear()
        ref = reported.assignment.order.ref
        self._context.log.error(
            "reports given up",
            group=ref.group_id.hex()[:12],
            generation=ref.generation,
            reason=reason,
        )
        if tell:
            self._note("engine", reason)

    def _note(
        self,
        kind: str,
        reason: str,
        *,
        farewell: bool = False,
        sequence_ids: tuple[bytes, ...] = (),
    ) -> None:
        """Have trouble told to the orchestrator, as soon as what came before was."""
        trouble = self._trouble_of(kind, reason, farewell, sequence_ids)
        if trouble is None:
            return
        try:
            self._trouble.send_nowait(trouble)
        except trio.WouldBlock:
            self._context.log.warning("trouble not reported", reason="much of it waits already")

    async def _send_trouble(self) -> None:
        async for peer_id, trouble in self._troubles:
            await self._tell(peer_id, trouble)

    async def trouble(self, kind: str, reason: str, *, farewell: bool = False) -> None:
        """Tell the orchestrator that this stage cannot go on, and why. `farewell`: a neighbour
        closed its edge in good order, and knows more."""
        trouble = self._trouble_of(kind, reason, farewell)
        if trouble is not None:
            await self._tell(*trouble)

    def _trouble_of(
        self, kind: str, reason: str, farewell: bool, sequence_ids: tuple[bytes, ...] = ()
    ) -> tuple[str, Trouble] | None:
        """Whom to tell, and what; None where nobody has a claim to it."""
        pool, assignment = self._membership.pool, self._stage.assignment
        self._context.log.warning("stage trouble", kind=kind, reason=reason)
        if pool is None or assignment is None:
            return None
        fields = {
            "ref": assignment.order.ref,
            "kind": kind,
            "reason": reason[:500],
            "farewell": farewell,
            "sequence_ids": sequence_ids,
        }
        return pool.peer_id, Trouble.model_validate(fields)

    async def _tell(self, peer_id: str, trouble: Trouble) -> None:
        try:
            await call(self._context, peer_id, TROUBLE, trouble)
        except P2PError as exc:
            self._context.log.warning("trouble not reported", reason=str(exc))
