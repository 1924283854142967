"""The validator role: judge work units, sign verdicts, settle what was right (`settling.py`).

A bundle is taken only from the owner of the pool that would pay for it. It is written to disk and
journaled before its sender is told that it was taken; from then on its verdict will be delivered,
whatever happens to this process. Bundles are replayed one at a time, in order of arrival
(`judging.py`), once it is known which of their sequences (`preparing.py`). A unit is accepted at
most once: a second bundle for it is refused, so nothing is paid twice.

Nothing that one sender does may hold up the others: each has a bounded share of the queue; while a
stage is asked for rows (`disputes.py`) other bundles are judged, and a sender with several such
inquiries waits; a bundle on which the engine keeps failing is set aside, and so is a verdict that
nobody takes. A sender that asks for such a bundle again starts it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from node.config.datadir import write_atomically
from node.config.hardware import Device, detect_device
from node.context import NodeContext
from node.journal import Entry
from node.onchain.receipt_domain import chain_refusals
from node.roles.validator.judging.judge import Judge
from node.roles.validator.judging.limits import PoolLimits
from node.roles.validator.judging.plan import JudgingPlan, Preparer
from node.roles.validator.judging.reputation import WorkerRecords
from node.roles.validator.judging.rows import CannotJudge
from node.roles.validator.settlement.convictions import Convictions
from node.roles.validator.settlement.settling import ValidatorSettlement
from node.settlement.follower import SettlementFollower
from node.wire.messages.fields import Done
from node.wire.messages.verification import VerdictNotice, VerifyRequest
from node.wire.methods import VERDICT, VERIFY
from node.wire.peer_addresses import address_of_peer
from node.wire.rpc import call, serve
from p2p.errors import P2PError, Refused
from pipeline.engine.control.client import EngineClient, open_engine
from proofs.errors import ProofError
from proofs.evidence.bundle import UnitBundle, signed_receipts
from proofs.verdict.message import SignedVerdict

MAX_QUEUE = 1024
MAX_SENDER_QUEUE = 256
MAX_SENDER_INQUIRIES = 4
MAX_PREPARING = 4
"""Bundles of one sender in memory at once while they wait for blocks."""
DELIVERY_TRIES = 20
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 30.0


@dataclass
class Task:
    """A journaled bundle, who sent it, and the chain's newest block then (0: unknown). It may be
    judged once there is a `plan`; `passed` is set once others may."""

    bundle_id: bytes
    sender: str
    seen_at: int = 0
    plan: JudgingPlan | None = None
    begun: bool = False
    inquiring: bool = False
    passed: trio.Event = field(default_factory=trio.Event)

    def inquire(self) -> None:
        """A stage is asked for rows, which may take long."""
        self.inquiring = True
        self.passed.set()


class Validator:
    """Judges bundles with its own engine. `settlement` gets paid what it accepted."""

    def __init__(
        self, context: NodeContext, engine: EngineClient, follower: SettlementFollower
    ) -> None:
        self._context = context
        self._engine = engine
        limits = PoolLimits(context, follower.blobs)
        self._judge = Judge(context, engine, validator_device(context), limits)
        self._records = WorkerRecords(context)
        self._preparer = Preparer(context, follower.confirmations, self._records)
        self._preparing: dict[str, trio.CapacityLimiter] = {}
        self._nursery: trio.Nursery | None = None
        self._pending: dict[bytes, Task] = {}
        self._changed = trio.Event()
        self.settlement = ValidatorSettlement(context, follower)
        self._convictions = Convictions(context)
        self._blobs = follower.blobs
        self.judged = 0

    @property
    def replay_seconds(self) -> float:
        """What replays took so far."""
        return self._judge.replay_seconds

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once the journal is replayed and handlers are in place."""
        await self.settlement.restore()
        await self._records.restore()
        waiting = await self._undelivered()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._judge_all)
            nursery.start_soon(self._drop_engine_events)
            await nursery.start(self.settlement.run)
            nursery.start_soon(self._convictions.run)
            for task in waiting:
                self._enqueue(task)
            serve(self._context.network, VERIFY, self._on_verify)
            self._blobs.serve()  # without a chain nobody else does
            task_status.started()

    async def drain(self) -> None:
        """Judge and deliver what was taken, then settle it."""
        while self._pending:
            await self._changed.wait()
        await self.settlement.settled()

    async def _on_verify(self, peer_id: str, request: VerifyRequest) -> Done:
        try:
            bundle = UnitBundle.from_bytes(request.bundle)
        except ProofError as exc:
            raise Refused("bad_bundle", str(exc)) from exc
        await self._require_owner(peer_id, bundle)
        if self.settlement.accepted_other(peer_id, bundle.unit_id, bundle.content_id):
            raise Refused("already_accepted", "that unit was accepted in another bundle")
        if bundle.content_id in self._pending:
            return Done()
        self._require_room(peer_id)
        path = self._path(bundle.content_id)
        await trio.to_thread.run_sync(write_atomically, path, request.bundle, 0o600)
        block = await self._preparer.arrived()
        body = {"sender": peer_id, "block": block}
        key = bundle.content_id.hex()
        await self._context.journal.append("peer.bundle", key, body)
        if bundle.content_id not in self._pending:  # else it came twice at once
            self._enqueue(Task(bundle.content_id, peer_id, block))
        return Done()

    async def _require_owner(self, peer_id: str, bundle: UnitBundle) -> None:
        """Raise `Refused` unless the sender owns the pool whose money the receipts would spend,
        every claim's peer and address are one node's, and all are of the bundle's build: what a
        stage signed in one build says nothing about another."""
        for stage, claim in enumerate(bundle.stages):
            if address_of_peer(claim.peer_id) != claim.address:
                raise Refused("bad_bundle", f"stage {stage}: the peer id is another address's")
            if claim.receipt is not None and claim.receipt.seq != bundle.generation:
                raise Refused("bad_bundle", f"stage {stage}: the receipt is of another build")
        chain = self._context.chain
        if chain is None:
            return
        pools = {c.receipt.pool_id for c in bundle.stages if c.receipt is not None}
        if len(pools) != 1:
            raise Refused("bad_bundle", "its receipts must be for one pool")
        with chain_refusals():
            pool = await chain.pools.info(pools.pop())
        if pool.creator != address_of_peer(peer_id):
            raise Refused("not_your_pool", f"pool {pool.pool_id} belongs to {pool.creator}")

    def _require_room(self, peer_id: str) -> None:
        own = sum(task.sender == peer_id for task in self._pending.values())
        if len(self._pending) >= MAX_QUEUE or own >= MAX_SENDER_QUEUE:
            raise Refused("busy", "too many bundles wait; ask again")

    def _enqueue(self, task: Task) -> None:
        self._pending[task.bundle_id] = task
        if self._nursery is not None:
            self._nursery.start_soon(self._prepare, task)

    async def _prepare(self, task: Task) -> None:
        """Plan how a bundle is judged; that may wait for blocks."""
        own = self._preparing.setdefault(task.sender, trio.CapacityLimiter(MAX_PREPARING))
        async with own:
            bundle = await self._stored(task.bundle_id)
            judged = await self._context.journal.get("self.verdict", task.bundle_id.hex())
            if bundle is None or judged is not None:
                task.plan = JudgingPlan()
            else:
                task.plan = await self._preparer.plan(bundle, task.seen_at)
        if not own.borrowed_tokens:  # whoever waits has one already
            del self._preparing[task.sender]
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _undelivered(self) -> list[Task]:
        journal = self._context.journal
        delivered = {event.key for event in await journal.events(["self.delivered"])}
        return [
            Task(bytes.fromhex(event.key), event.body["sender"], event.body.get("block", 0))
            for event in await journal.events(["peer.bundle"])
            if event.key not in delivered
        ]

    async def _judge_all(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                task = self._next()
                if task is None:
                    await self._changed.wait()
                    continue
                task.begun = True
                nursery.start_soon(self._see_through, task)
                await task.passed.wait()

    def _next(self) -> Task | None:
        """The oldest bundle that is prepared and whose sender has not too many inquiries under
        way."""
        inquiries = Counter(task.sender for task in self._pending.values() if task.inquiring)
        for task in self._pending.values():
            ready = task.plan is not None and not task.begun
            if ready and inquiries[task.sender] < MAX_SENDER_INQUIRIES:
                return task
        return None

    async def _see_through(self, task: Task) -> None:
        signed = await self._verdict(task)
        task.inquiring = False
        task.passed.set()
        self._notify()
        if signed is not None:
            await self._deliver(task, signed)
        del self._pending[task.bundle_id]
        self._notify()

    async def _verdict(self, task: Task) -> SignedVerdict | None:
        """The signed verdict: an earlier one from the journal, else a new one, journaled."""
        journal, key = self._context.journal, task.bundle_id.hex()
        bundle = await self._stored(task.bundle_id)
        if bundle is None or task.plan is None:
            self._context.log.error("cannot judge: the stored bundle is damaged", unit=key[:12])
            return None
        unusual: Mapping[int, Sequence[float]] = {}
        known = await journal.get("self.verdict", key)
        if known is not None:
            signed = SignedVerdict.from_bytes(known.body)
        else:
            try:
                ruling = await self._judge.rule(bundle, task.plan, task.inquire)
            except CannotJudge as exc:
                self._context.log.error("cannot judge", unit=key[:12], reason=str(exc))
                return None
            signed = SignedVerdict.sign(ruling.verdict, self._context.key)
            entries = [
                Entry("self.judged-by", key, {"limits": ruling.limits}),
                Entry("self.verdict", key, signed.to_bytes()),
            ]
            if ruling.answers:
                rests_on = [answer.body() for answer in ruling.answers]
                entries.insert(0, Entry("self.inquiry", key, rests_on))
            await journal.append_many(entries)
            self.judged += 1
            unusual = ruling.p_values
        await self._records.note(bundle, signed.verdict, unusual)
        if signed.verdict.accepted:  # an earlier run may have ended right before this
            await self.settlement.accept(
                task.sender, bundle.unit_id, bundle.content_id, signed_receipts(bundle)
            )
        else:
            await self._convictions.note(bundle, signed.verdict)
        return signed

    async def _stored(self, bundle_id: bytes) -> UnitBundle | None:
        """A bundle that was taken; None where the disk lost it."""
        try:
            data = await trio.to_thread.run_sync(self._path(bundle_id).read_bytes)
            return UnitBundle.from_bytes(data)
        except (OSError, ProofError):
            return None

    async def _deliver(self, task: Task, signed: SignedVerdict) -> None:
        notice = VerdictNotice(verdict=signed.to_bytes())
        delay = FIRST_RETRY_SECONDS
        for _ in range(DELIVERY_TRIES):
            try:
                await call(self._context, task.sender, VERDICT, notice)
                await self._context.journal.append("self.delivered", task.bundle_id.hex())
                break
            except P2PError as exc:
                self._context.log.warning("verdict not delivered", reason=str(exc))
            await trio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_SECONDS)

    async def _drop_engine_events(self) -> None:
        async for name, _body in self._engine.events:
            self._context.log.debug("validator engine", event_name=name)

    def _path(self, bundle_id: bytes) -> Path:
        return self._context.blobs / f"{bundle_id.hex()}.bundle"


def validator_device(context: NodeContext) -> Device:
    return detect_device(context.config.validator.device, 0)


def open_validator_engine(context: NodeContext):  # type: ignore[no-untyped-def]
    """The validator's engine process, with the thread count the operator chose."""
    threads = context.config.validator.threads
    environment = {"PRIME_ENGINE_THREADS": str(threads)} if threads else {}
    return open_engine(context.engine_dir, "validator", environment=environment)
