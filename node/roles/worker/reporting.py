"""Stage 0's reports to the orchestrator: tokens as they come, finished sequences, trouble.

The engine's events are gathered for up to `WorkerTiming.gather` seconds into one `progress` request
and kept until it is answered, so a slow orchestrator sees fewer, larger reports, in order. Reports
repeat harmlessly: tokens carry their offset. What belongs to an older generation of the group is
dropped.
"""

from __future__ import annotations

import trio

from node.context import NodeContext
from node.retry import tries
from node.roles.worker.membership import Membership
from node.roles.worker.stage import Assignment, StageHost
from node.roles.worker.timing import WorkerTiming
from node.wire.messages.work import FinishedRun, Progress, TokenRun, Trouble
from node.wire.methods import PROGRESS, TROUBLE
from node.wire.rpc import call
from p2p.errors import P2PError
from pipeline.engine.control.client import Exited, Restarted
from pipeline.engine.control.messages import EdgeDown, Failed, Finished, Message, Tokens

MAX_PENDING = 4096
MAX_FINISHED = 256
"""Finished sequences a report; they carry all their tokens."""


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
        self._tokens: list[Tokens] = []
        self._finished: list[Finished] = []
        self._something = trio.Event()

    async def run(self) -> None:
        """Pump events until the engine's channel closes."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_progress)
            async for _name, body in self._stage.engine.events:
                await self._take(body)
            nursery.cancel_scope.cancel()

    async def _take(self, body: Message) -> None:
        match body:
            case Tokens():
                self._tokens.append(body)
                self._something.set()
            case Finished():
                self._finished.append(body)
                self._something.set()
            case Failed():
                await self.trouble("engine", f"a sequence was dropped: {body.reason}")
            case EdgeDown():
                current = self._stage.assignment
                if current is not None and current.order.ref.generation == body.generation:
                    reason = f"{body.edge} edge: {body.reason}"
                    await self.trouble(body.edge, reason, farewell=body.farewell)
            case Exited():
                held = self._stage.assignment
                await self.trouble("engine", f"engine exited with code {body.code}")
                self._stage.engine_died(held)
            case Restarted():
                self._context.metrics.engine_restarts.inc()
                self._context.log.info("engine restarted")

    async def _send_progress(self) -> None:
        while True:
            await self._something.wait()
            await trio.sleep(self._timing.gather)
            self._something = trio.Event()
            assignment = self._stage.assignment
            tokens, self._tokens = self._tokens[:MAX_PENDING], self._tokens[MAX_PENDING:]
            finished, self._finished = self._finished[:MAX_FINISHED], self._finished[MAX_FINISHED:]
            if self._tokens or self._finished:
                self._something.set()
            if assignment is not None:
                await self._deliver(assignment, tokens, finished)

    async def _deliver(
        self, assignment: Assignment, tokens: list[Tokens], finished: list[Finished]
    ) -> None:
        generation = assignment.order.ref.generation
        report = Progress(
            ref=assignment.order.ref,
            tokens=tuple(
                TokenRun(sequence_id=t.sequence_id, offset=t.offset, ids=t.ids)
                for t in tokens
                if t.generation == generation
            ),
            finished=tuple(
                FinishedRun(sequence_id=f.sequence_id, reason=f.reason, ids=f.ids)
                for f in finished
                if f.generation == generation
            ),
        )
        if not report.tokens and not report.finished:
            return
        async for _ in tries(self._timing.report):
            pool = self._membership.pool
            if pool is None or self._stage.assignment is not assignment:
                return
            try:
                await call(self._context, pool.peer_id, PROGRESS, report)
                return
            except P2PError as exc:
                self._context.log.warning("progress not delivered", reason=str(exc))

    async def trouble(self, kind: str, reason: str, *, farewell: bool = False) -> None:
        """Tell the orchestrator that this stage cannot go on, and why. `farewell`: a neighbour
        closed its edge in good order, and knows more."""
        pool, assignment = self._membership.pool, self._stage.assignment
        self._context.log.warning("stage trouble", kind=kind, reason=reason)
        if pool is None or assignment is None:
            return
        trouble = Trouble.model_validate(
            {
                "ref": assignment.order.ref,
                "kind": kind,
                "reason": reason[:500],
                "farewell": farewell,
            }
        )
        try:
            await call(self._context, pool.peer_id, TROUBLE, trouble)
        except P2PError as exc:
            self._context.log.warning("trouble not reported", reason=str(exc))
