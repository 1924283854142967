"""A running node as its HTTP API shows it.

Each role tells of itself in a snapshot of its own; here they are given the shapes of `/v1/*`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from node.context import NodeContext
from node.errors import InputError
from node.http.view import (
    Completion,
    GroupInfo,
    JobInfo,
    JobRefused,
    JobRequest,
    JobTaken,
    NodeInfo,
    OwnStage,
    PartInfo,
    PromptProblem,
    PrunedInfo,
    Rejection,
    StageInfo,
    Status,
    WorkInfo,
)
from node.lifecycle import Lifecycle, NodeState
from node.roles.assembly import Roles
from node.roles.orchestrator.coordinator.units import (
    DONE,
    Unit,
    UnitState,
    WorkSequence,
)
from node.roles.orchestrator.jobs.prompt_batches import RAISE_LIMIT, prompt_batches
from node.roles.orchestrator.jobs.refusals import (
    KeyTaken,
    PromptRefusal,
    PromptsRefused,
    Submission,
)
from node.roles.orchestrator.ledger.ledger import JobUnderWay
from node.roles.orchestrator.ledger.queries import after_cursor, last
from node.roles.orchestrator.service import Orchestrator
from node.roles.orchestrator.snapshot import GroupSnapshot, PoolSnapshot, waits_for
from node.roles.worker.service import Worker
from node.storage.intake import NO_STORAGE, NoStorage
from node.storage.pruning import Pruner
from node.version import version


class RuntimeView:
    """Implements `node.http.view.NodeView`."""

    def __init__(
        self,
        context: NodeContext,
        roles: Roles,
        lifecycle: Lifecycle,
        reasons: Sequence[Callable[[], str]],
        pruner: Pruner,
    ) -> None:
        """`reasons` say why the node is not ready for its work, "" where nothing is wrong; `pruner`
        keeps its disk in bounds."""
        self._reasons = reasons
        self._pruner = pruner
        self._context = context
        self._roles = roles
        self._lifecycle = lifecycle
        self._started_at = context.wall()
        network = context.network
        context.metrics.peers.set_function(lambda: len(network.peers()))
        context.metrics.known_nodes.set_function(lambda: len(network.records.all()))

    async def status(self) -> Status:
        """This node, its engine included where it has one."""
        context, worker = self._context, self._roles.worker
        engine = await worker.engine_status() if worker is not None else None
        return Status(
            peer_id=context.peer_id,
            address=context.address,
            version=version(),
            network=context.network_name,
            roles=context.config.roles,
            state=self._lifecycle.state.value,
            started_at=self._started_at,
            addresses=context.network.addresses,
            peers=len(context.network.peers()),
            pool_id=self._pool_id(),
            provider=context.provider,
            engine_pid=0 if engine is None else engine.pid,
            engine_rss=0 if engine is None else engine.rss,
            work="" if worker is None else worker.membership.says(),
            stage=None if worker is None else await _own_stage(worker),
            claimed=0 if worker is None else worker.rewards.claimed,
            disk=context.journal.trouble,
            parts=_parts(context),
        )

    async def health(self) -> tuple[bool, Sequence[str]]:
        """Ready once it serves and, unless it is the first node, knows a peer."""
        reasons = []
        if self._lifecycle.state is not NodeState.SERVING:
            reasons.append(f"the node is {self._lifecycle.state.value}")
        if not self._context.network.peers() and "orchestrator" not in self._context.config.roles:
            reasons.append("no peer is connected")
        if trouble := self._context.journal.trouble:
            reasons.append(trouble)
        reasons += self._context.network.unseen
        reasons += filter(None, (reason() for reason in self._reasons))
        return not reasons, reasons

    async def nodes(self) -> Sequence[NodeInfo]:
        """Every node whose record is here; an orchestrator's workers as it sees them."""
        orchestrator, network = self._roles.orchestrator, self._context.network
        workers = orchestrator.snapshot().workers if orchestrator is not None else {}
        found = []
        for record in network.records.all():
            worker = workers.get(record.peer_id)
            found.append(
                NodeInfo(
                    peer_id=record.peer_id,
                    address=worker.address if worker is not None else "",
                    roles=record.roles,
                    state=worker.state if worker is not None else "seen",
                    device=record.device,
                    vram_bytes=record.vram_bytes,
                    layer_seconds=record.layer_seconds,
                    location=record.location,
                    region=record.region,
                    last_seen=record.issued_at,
                    connected=network.connected(record.peer_id),
                    rss=worker.rss if worker is not None else 0,
                    addresses=record.addresses,
                )
            )
        return found

    async def groups(self) -> Sequence[GroupInfo]:
        """The pool's groups; none where this node is no orchestrator."""
        orchestrator = self._roles.orchestrator
        if orchestrator is None:
            return []
        pool = orchestrator.snapshot()
        return [_group(pool, group) for group in pool.groups]

    async def work(self, after: int, limit: int) -> Sequence[WorkInfo]:
        """Units by their cursor, which rises in the order in which they were submitted."""
        orchestrator = self._roles.orchestrator
        if orchestrator is None:
            return []
        return [_work(*found) for found in await orchestrator.work(after_cursor(after, limit))]

    async def newest_work(self, limit: int) -> tuple[Sequence[WorkInfo], int]:
        """The newest units, and how many there are."""
        orchestrator = self._roles.orchestrator
        if orchestrator is None:
            return [], 0
        newest = [_work(*found) for found in await orchestrator.work(last(limit))]
        return newest, sum(job.units.total() for job in orchestrator.ledger.jobs.values())

    async def rejections(self) -> Sequence[Rejection]:
        """The newest ones, newest first."""
        orchestrator = self._roles.orchestrator
        if orchestrator is None:
            return []
        newest = orchestrator.rejections[::-1]
        return [
            Rejection(
                unit_id=item.unit_id.hex(),
                at=item.at,
                reason=item.reason,
                stage=-1 if item.first_faulty is None else item.first_faulty,
                peer_id=item.faulty_peer,
                validator=item.validator,
            )
            for item in newest
        ]

    async def submit(self, job: JobRequest, all_or_nothing: bool) -> JobTaken:
        """Take a job in. Raises `JobRefused`."""
        orchestrator, most = self._taking_jobs()
        if len(job.prompts) > most:
            message = f"at most {most} prompts per job: split it, or {RAISE_LIMIT}"
            raise JobRefused("too_many_prompts", message, 422)
        with _refusals():
            return _taken(
                await orchestrator.submit(job.prompts, job.key, all_or_nothing=all_or_nothing)
            )

    async def submit_stream(
        self, lines: AsyncIterable[bytes], key: str, all_or_nothing: bool
    ) -> JobTaken:
        """The same of a job that comes line by line; nothing is kept of one that is refused."""
        orchestrator, most = self._taking_jobs()
        with _refusals():
            batches = prompt_batches(lines, orchestrator.unit_size, most)
            return _taken(
                await orchestrator.submit_stream(batches, key, all_or_nothing=all_or_nothing)
            )

    async def cancel(self, job_id: str) -> bool:
        """Begin nothing more of the job."""
        orchestrator = self._roles.orchestrator
        if orchestrator is None or job_id not in orchestrator.ledger.jobs:
            return False
        await orchestrator.cancel(job_id)
        return True

    async def prune(self, *, dry: bool) -> Sequence[PrunedInfo]:
        """What went from the disk, or would go."""
        return [PrunedInfo(**asdict(each)) for each in await self._pruner.prune(dry=dry)]

    def _taking_jobs(self) -> tuple[Orchestrator, int]:
        """The role that takes jobs in, and how many prompts one may have. Raises `JobRefused`."""
        orchestrator = self._roles.orchestrator
        if orchestrator is None:
            raise JobRefused("not_orchestrator", "this node is no orchestrator; ask the pool's")
        if self._lifecycle.state is not NodeState.SERVING:
            raise JobRefused("draining", f"the node is {self._lifecycle.state.value}", 503)
        return orchestrator, self._context.config.orchestrator.max_prompts_per_job

    async def job(self, job_id: str, first: int, limit: int) -> JobInfo | None:
        """The job, and its completions of a page of its prompts."""
        orchestrator = self._roles.orchestrator
        if orchestrator is None or job_id not in orchestrator.ledger.jobs:
            return None
        found = orchestrator.job(job_id)
        # One more, so that what comes after the page is seen.
        units = await orchestrator.units_of(job_id, first, limit + 1) if limit else []
        held = [(u, s) for u in units for s in u.sequences if s.index >= first]
        page, rest = held[:limit], held[limit:]
        seen = rest[0][1].index if rest else max([first, *(s.index + 1 for _, s in page)])
        return JobInfo(
            job_id=job_id,
            state=found.state,
            prompts=found.prompts,
            refused=found.refused,
            completed=found.completed,
            accepted=found.accepted,
            failed=found.failed,
            tokens=found.tokens,
            waits="" if found.state in ("finished", "failed") else waits_for(orchestrator.pool),
            error=await orchestrator.error_of(job_id),
            results=tuple(
                _completion(unit, sequence, orchestrator.text(sequence))
                for unit, sequence in page
                if sequence.finished and unit.state is not UnitState.EXPIRED
            ),
            failures=tuple(
                PromptProblem(index=s.index, id=s.prompt_id, reason=unit.why)
                for unit, s in page
                if unit.state is UnitState.EXPIRED
            ),
            next=seen if units and seen < found.prompts + found.refused else None,
        )

    async def dataset(self, job_id: str) -> AsyncIterator[Sequence[dict[str, Any]]] | None:
        """One row for each accepted completion so far."""
        orchestrator = self._roles.orchestrator
        if orchestrator is None or job_id not in orchestrator.ledger.jobs:
            return None
        return orchestrator.dataset(job_id)

    def _pool_id(self) -> int:
        worker = self._roles.worker
        if self._roles.pool_id or worker is None or worker.membership.pool is None:
            return self._roles.pool_id
        return worker.membership.pool.pool_id


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except JobUnderWay as exc:
        raise JobRefused("busy", str(exc), 503) from exc
    except KeyTaken as exc:
        raise JobRefused("key_taken", str(exc), 422) from exc
    except PromptsRefused as exc:
        listed = _problems(exc.refusals)
        raise JobRefused("bad_prompt", str(exc), 422, exc.refused, listed) from exc
    except InputError as exc:
        raise JobRefused("bad_prompt", str(exc), 422) from exc
    except NoStorage as exc:
        raise JobRefused(NO_STORAGE, str(exc), 507) from exc


def _taken(submission: Submission) -> JobTaken:
    return JobTaken(
        job_id=submission.job_id,
        accepted=submission.accepted,
        refused=submission.refused,
        refusals=_problems(submission.refusals),
    )


def _problems(refusals: Iterable[PromptRefusal]) -> tuple[PromptProblem, ...]:
    return tuple(PromptProblem(index=r.index, id=r.prompt_id, reason=r.reason) for r in refusals)


async def _own_stage(worker: Worker) -> OwnStage | None:
    assignment = worker.stage.assignment
    if assignment is None:
        return None
    order = assignment.order
    return OwnStage(
        group_id=order.ref.group_id.hex(),
        generation=order.ref.generation,
        stage=order.ref.stage,
        first_layer=assignment.me.first_layer,
        last_layer=assignment.me.last_layer,
        layers=order.stages[-1].last_layer,
        model=order.model_name,
        data_port=assignment.listening.port,
        neighbours=tuple(stage.peer_id for stage in order.stages),
        tokens_per_second=round(worker.tokens_per_second, 2),
        busy=await worker.stage.busy(),
    )


def _parts(context: NodeContext) -> tuple[PartInfo, ...]:
    """What had surprises: the node's own parts, and those of the network below it."""
    own = [
        PartInfo(
            name=part.name,
            state=part.state.value,
            surprises=part.surprises,
            reason=part.reason,
            at=part.at,
            next_try=part.next_try,
        )
        for part in context.supervisor.reports()
        if part.surprises
    ]
    below = [
        PartInfo(
            name=f"network: {part.part}",
            state="running" if part.running else "failed",
            surprises=part.restarts,
            reason=part.reason,
        )
        for part in context.network.troubles
    ]
    return (*own, *below)


def _group(pool: PoolSnapshot, group: GroupSnapshot) -> GroupInfo:
    return GroupInfo(
        group_id=group.group_id.hex(),
        generation=group.generation,
        state=group.state,
        model=pool.model_name,
        model_id=pool.model_id.hex(),
        stages=tuple(
            StageInfo(
                stage=index,
                peer_id=stage.peer_id,
                first_layer=stage.first_layer,
                last_layer=stage.last_layer,
                weights_bytes=stage.weights_bytes,
                kv_bytes=stage.kv_bytes,
                rss=stage.rss,
            )
            for index, stage in enumerate(group.stages)
        ),
        spares=group.spares,
        running=group.running,
        tokens=pool.tokens,
        tokens_per_second=round(pool.tokens_per_second, 2),
    )


def _work(cursor: int, unit: Unit) -> WorkInfo:
    return WorkInfo(
        cursor=cursor,
        unit_id=unit.unit_id.hex(),
        state=unit.state.value,
        job_id=unit.job_id,
        group_id=unit.group_id.hex(),
        attempt=unit.attempt,
        sequences=len(unit.sequences),
        tokens=sum(len(s.output_ids) for s in unit.sequences),
        verdict="accepted" if unit.state in DONE else "",
        reason=unit.why,
        epoch=unit.epoch,
        transaction=unit.transaction,
    )


def _completion(unit: Unit, sequence: WorkSequence, text: str) -> Completion:
    return Completion(
        index=sequence.index,
        id=sequence.prompt_id,
        text=text,
        finish_reason=sequence.reason.value if sequence.reason else "",
        prompt_tokens=len(sequence.request.prompt_ids),
        completion_tokens=len(sequence.output_ids),
        unit_id=unit.unit_id.hex(),
        state=unit.state.value,
    )
