"""The orchestrator role: the coordinator's hands.

Events come from peers' requests, from `watch.py` and from the tasks that carry out commands; each
goes through `feed`, which asks the pure `Coordinator` what to do. Commands that must be on disk
before anybody is answered are journaled right there; all others run as tasks of this role's
nursery. A task that fails reports an event, never an exception.

What the journal holds, and what a restart makes of it: jobs (their unfinished units are queued
again), units sent to a validator (sent again, byte for byte), verdicts, settlements and bans.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import trio

from node.context import NodeContext
from node.prompts import Prompt
from node.protocol import (
    ASSIGN,
    FORGET,
    PROGRESS,
    TROUBLE,
    VERDICT,
    Assign,
   
    Done,
    Forget,
    Progress,
    Settled,
    StageRef,
    Trouble,
    VerdictNotice,
)
from node.roles.orchestrator import events as ev
from node.roles.orchestrator.builder import Build, Builder
from node.roles.orchestrator.coordinator import Coordinator
from node.roles.orchestrator.evidence import Evidence
from node.roles.orchestrator.invites import Inviter
from node.roles.orchestrator.jobs import JobCutter, unit_from_body, unit_to_body
from node.roles.orchestrator.units import Unit, UnitState
from node.roles.orchestrator.watch import Watch
from node.rpc import call, serve
from p2p.errors import P2PError, Refused
from pipeline.engine.messages import Sampling, SequenceSpec
from proofs.errors import ProofError
from proofs.verdict_messages import SignedVerdict

TICK_SECONDS = 0.5
RESEND_SECONDS = 2.0


class Orchestrator:
    """Runs a pool. `cutter` makes units of prompts, `builder` and `evidence` do their parts."""

    def __init__(
        self,
        context: NodeContext,
        coordinator: Coordinator,
        cutter: JobCutter,
        builder: Builder,
        inviter: Inviter,
    ) -> None:
        self._context = context
        self._coordinator = coordinator
        self.pool = coordinator.pool
        self._cutter = cutter
        self.builder = builder
        self._inviter = inviter
        self.evidence = Evidence(context, self.pool, cutter.model_id)
        self.watch = Watch(context, self.pool, self.feed)
        self._nursery: trio.Nursery | None = None
        self._builds: dict[bytes, trio.CancelScope] = {}
        self._unit_of: dict[bytes, bytes] = {}
        self.changed = trio.Event()
        self.jobs: dict[str, tuple[bytes, ...]] = {}
        self.tokens = 0
        self.rejections: list[dict[str, Any]] = []
        self._counted: dict[bytes, UnitState] = {}
        self._leaving = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once the journal is replayed and handlers are in place."""
        await self._restore()
        network = self._context.network
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            serve(network, PROGRESS, self._on_progress)
            serve(network, TROUBLE, self._on_trouble)
            serve(network, VERDICT, self._on_verdict)
            nursery.start_soon(self.watch.records)
            nursery.start_soon(self.watch.pings)
            nursery.start_soon(self.watch.disconnects)
            task_status.started()
            while True:
                await self.feed(ev.Tick())
                self._meter()
                await trio.sleep(TICK_SECONDS)

    @property
    def model_id(self) -> bytes:
        return self._cutter.model_id

    @property
    def model_name(self) -> str:
        return self._cutter.model_name

    def units_of(self, job_id: str) -> list[Unit]:
        """A job's units, in the order of its prompts."""
        return [self.pool.units[unit_id] for unit_id in self.jobs[job_id]]

    async def drain(self) -> None:
        """Wait for the verdicts on what validators already have; the rest is in the journal."""
        self._leaving = True
        while any(u.state is UnitState.VERIFYING for u in self.pool.units.values()):
            await self.changed.wait()

    async def feed(self, event: ev.Event) -> None:
        """Let the coordinator decide about `event` and carry out what follows."""
        before = self._states(event)
        obstacle = self.pool.unplannable
        commands = self._coordinator.handle(event, self._context.now())
        if self.pool.unplannable not in ("", obstacle):
            self._context.log.warning("no group can be planned", reason=self.pool.unplannable)
        self._log(event, before)
        for command in commands:
            if isinstance(command, ev.RecordVerdict | ev.RecordSettled | ev.BanWorker):
                await self._record(command)
            elif self._nursery is not None and not self._leaving:
                self._nursery.start_soon(self._carry_out, command)
        if not isinstance(event, ev.Tick):
            self.changed.set()
            self.changed = trio.Event()

    async def submit(self, prompts: tuple[Prompt, ...], key: str) -> str:
        """Accept a job: on disk before the answer. The same key is the same job."""
        units = await trio.to_thread.run_sync(self._cutter.cut, key, prompts)
        job_id = units[0].job_id
        body = {"prompts": [p.model_dump(mode="json") for p in prompts], "key": key}
        if await self._context.journal.append("operator.job", job_id, body, origin="operator"):
            self._adopt(job_id, units)
            await self.feed(ev.OperatorSubmitted(units))
        return job_id

    # --- requests of peers --------------------------------------------------------------------

    async def _on_progress(self, peer_id: str, report: Progress) -> Done:
        self._require_stage(peer_id, report.ref, 0)
        generation = report.ref.generation
        for run in report.tokens:
            unit_id = self._unit_of.get(run.sequence_id)
            if unit_id is not None:
                self.tokens += len(run.ids)
                event = ev.PeerTokens(generation, unit_id, run.sequence_id, run.offset, run.ids)
                await self.feed(event)
        for end in report.finished:
            unit_id = self._unit_of.get(end.sequence_id)
            if unit_id is not None:
                self._context.metrics.prompts.inc()
                self._context.metrics.tokens.inc(len(end.ids))
                await self.feed(
                    ev.PeerFinished(
                        generation, unit_id, end.sequence_id, end.reason.value, end.ids, end.text
                    )
                )
        return Done()

    async def _on_trouble(self, peer_id: str, trouble: Trouble) -> Done:
        """A stage's edge broke: find out who is gone, then repair."""
        ref = trouble.ref
        self._require_stage(peer_id, ref, ref.stage)
        group = self.pool.groups[ref.group_id]
        self._context.log.warning("stage trouble", peer=peer_id, reason=trouble.reason)
        if trouble.kind == "leaving":
            await self.feed(ev.PeerGone(peer_id, trouble.reason))
            return Done()
        async with trio.open_nursery() as nursery:
            for other in group.peers:
                if other != peer_id:
                    nursery.start_soon(self.watch.probe, other)
        await self.feed(ev.GroupBroken(ref.group_id, ref.generation, trouble.reason))
        return Done()

    async def _on_verdict(self, peer_id: str, notice: VerdictNotice) -> Done:
        """A validator's verdict; acknowledged once it is journaled."""
        try:
            signed = SignedVerdict.from_bytes(notice.verdict)
            address = signed.signer()
        except ProofError as exc:
            raise Refused("bad_verdict", str(exc)) from exc
        await self._inviter.require_validator(peer_id, address)
        verdict = signed.verdict
        if not verdict.accepted:
            await self._note_rejection(
                {
                    **verdict.summary(),
                    "unit_id": verdict.unit_id.hex(),
                    "bundle_id": verdict.bundle_id.hex(),
                    "validator": address,
                }
            )
        await self.feed(
            ev.PeerVerdict(
                verdict.unit_id,
                verdict.bundle_id,
                verdict.accepted,
                verdict.faulty_peer,
                verdict.reason,
                {**verdict.summary(), "validator": address},
            )
        )
        return Done()

    async def on_settled(self, peer_id: str, notice: Settled) -> Done:
        """An epoch root; believed once it is found on chain."""
        await self._inviter.require_root(notice)
        await self.feed(ev.ChainSettled(notice.epoch, notice.transaction, notice.unit_ids))
        return Done()

    def _require_stage(self, peer_id: str, ref: StageRef, stage: int) -> None:
        group = self.pool.groups.get(ref.group_id)
        if group is None or group.generation != ref.generation:
            raise Refused("stale", "that build of the group is gone")
        if stage >= len(group.peers) or group.peers[stage] != peer_id:
            raise Refused("not_your_stage", f"stage {stage} is another peer's")

    # --- commands -----------------------------------------------------------------------------

    async def _carry_out(self, command: ev.Command) -> None:
        match command:
            case ev.InviteWorker():
                await self.feed(await self._inviter.invite(command.peer_id))
            case ev.BuildGroup():
                await self._build(command)
            case ev.AssignUnit():
                await self._assign(command)
            case ev.CollectClaims():
                for event in await self.evidence.collect(command, self._inviter.epoch):
                    await self.feed(event)
            case ev.VerifyUnit():
                await self.evidence.verify(command)
            case ev.ForgetUnit():
                await self._forget(command)

    async def _build(self, command: ev.BuildGroup) -> None:
        older = self._builds.get(command.group_id)
        if older is not None:
            older.cancel()
        await self._context.journal.set_state("generation", command.generation)
        build = Build(command.group_id, command.generation, command.plan)
        with trio.CancelScope() as scope:
            self._builds[command.group_id] = scope
            event = await self.builder.build(build, self.pool.members)
        if not scope.cancelled_caught:
            await self.feed(event)

    async def _assign(self, command: ev.AssignUnit) -> None:
        unit = self.pool.units[command.unit_id]
        group = self.pool.groups[command.group_id]
        if group.generation != command.generation:
            return
        order = Assign(
            ref=StageRef(group_id=group.group_id, generation=group.generation, stage=0),
            sequences=tuple(
                SequenceSpec(
                    sequence_id=s.sequence_id,
                    unit_id=unit.unit_id,
                    prompt_ids=s.prompt_ids,
                    generated=s.output_ids[:-1] if s.finished else s.output_ids,
                    sampling=Sampling(
                        temperature=s.temperature,
                        top_k=s.top_k,
                        top_p=s.top_p,
                        noise_key=s.noise_key,
                    ),
                    max_tokens=s.max_tokens,
                    stop=s.stop,
                    eos_ids=s.eos_ids,
                )
                for s in unit.sequences
            ),
        )
        try:
            await call(self._context, group.peers[0], ASSIGN, order)
        except P2PError as exc:
            reason = f"stage 0 took no work: {exc}"
            await self.watch.probe(group.peers[0])
            await self.feed(ev.GroupBroken(group.group_id, group.generation, reason))

    async def _forget(self, command: ev.ForgetUnit) -> None:
        unit = self.pool.units[command.unit_id]
        group = next((g for g in self.pool.groups.values() if g.plan_at(command.generation)), None)
        if group is None or group.generation != command.generation:
            return
        ids = tuple(s.sequence_id for s in unit.sequences)
        for stage, peer_id in enumerate(group.peers):
            ref = StageRef(group_id=group.group_id, generation=command.generation, stage=stage)
            try:
                await call(self._context, peer_id, FORGET, Forget(ref=ref, sequence_ids=ids))
            except P2PError as exc:
                self._context.log.debug("forget not delivered", peer=peer_id, reason=str(exc))

    async def _note_rejection(self, summary: dict[str, Any]) -> None:
        body = {**summary, "at": self._context.wall()}
        if await self._context.journal.append(
            "peer.rejection", str(summary["bundle_id"]), body, origin="peer"
        ):
            self.rejections.append(body)

    # --- journal ------------------------------------------------------------------------------

    async def _record(self, command: ev.RecordVerdict | ev.RecordSettled | ev.BanWorker) -> None:
        journal = self._context.journal
        match command:
            case ev.RecordVerdict():
                unit = self.pool.units[command.unit_id]
                key = f"{unit.unit_id.hex()}:{unit.attempt}:{unit.state}"
                await journal.append("peer.verdict", key, unit_to_body(unit), origin="peer")
            case ev.RecordSettled():
                unit = self.pool.units[command.unit_id]
                body = {"epoch": unit.epoch, "transaction": unit.transaction}
                await journal.append("chain.settled", unit.unit_id.hex(), body, origin="chain")
            case ev.BanWorker():
                body = {"reason": command.reason}
                await journal.append("self.ban", command.peer_id, body)
                if self._nursery is not None and not self._leaving:
                    self._nursery.start_soon(self._inviter.eject, command.peer_id)

    async def _restore(self) -> None:
        """Rebuild units, bans and the build counter from the journal."""
        journal = self._context.journal
        units: dict[bytes, Unit] = {}
        banned: list[str] = []
        for event in await journal.events():
            match event.kind:
                case "operator.job":
                    prompts = tuple(Prompt.model_validate(p) for p in event.body["prompts"])
                    cut = self._cutter.cut(event.body["key"], prompts)
                    self._adopt(event.key, cut)
                    units |= {unit.unit_id: unit for unit in cut}
                case "self.bundle" | "peer.verdict":
                    unit = replace(unit_from_body(event.body), verify_by=0.0)
                    units[unit.unit_id] = unit
                case "chain.settled":
                    unit = units[bytes.fromhex(event.key)]
                    units[unit.unit_id] = replace(unit, state=UnitState.SETTLED, **event.body)
                case "self.ban":
                    banned.append(event.key)
                case "peer.rejection":
                    self.rejections.append(event.body)
        generation: Any = await journal.state("generation", 0)
        self.pool.restore(list(units.values()), banned, int(generation))

    def _adopt(self, job_id: str, units: tuple[Unit, ...]) -> None:
        self.jobs[job_id] = tuple(unit.unit_id for unit in units)
        for unit in units:
            for sequence in unit.sequences:
                self._unit_of[sequence.sequence_id] = unit.unit_id

    def _meter(self) -> None:
        """Bring the metrics up to what the tables say."""
        metrics = self._context.metrics
        metrics.set_groups(Counter(group.state.value for group in self.pool.groups.values()))
        for unit_id, unit in self.pool.units.items():
            if self._counted.get(unit_id) != unit.state:
                self._counted[unit_id] = unit.state
                metrics.unit(unit.state.value)

    # --- log ----------------------------------------------------------------------------------

    def _states(self, event: ev.Event) -> dict[bytes, str]:
        if isinstance(event, ev.PeerTokens):
            return {}
        return {group.group_id: group.state for group in self.pool.groups.values()}

    def _log(self, event: ev.Event, before: dict[bytes, str]) -> None:
        """One line for every change that an operator would want to see."""
        log = self._context.log
        if not isinstance(event, ev.PeerTokens):
            for group in self.pool.groups.values():
                if before.get(group.group_id) != group.state:
                    log.info(
                        "group",
                        group=group.group_id.hex()[:12],
                        state=group.state.value,
                        generation=group.generation,
                        reason=group.reason,
                    )
        match event:
            case ev.PeerVerdict(accepted=False):
                log.warning(
                    "unit rejected",
                    unit=event.unit_id.hex()[:12],
                    reason=event.reason,
                    faulty=event.faulty,
                )
            case ev.PeerGone():
                log.warning("worker is gone", peer=event.peer_id, reason=event.reason)
            case ev.PeerDeclined():
                log.warning("invite failed", peer=event.peer_id, reason=event.reason)
