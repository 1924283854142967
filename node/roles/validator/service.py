"""The validator role: replay work units, sign verdicts, settle what was right (`settling.py`).

A bundle is taken only from the owner of the pool that would pay for it. It is written to disk and
journaled before its sender is told that it was taken; from then on its verdict will be delivered,
whatever happens to this process. One bundle is judged at a time, in order of arrival: the replay is
one prefill a sequence on this node's own engine. A unit is accepted at most once: a second bundle
for it is refused, so nothing is paid twice.

Nothing that one sender does may hold up the others: each has a bounded share of the queue, a bundle
on which the engine keeps failing is set aside, and so is a verdict that nobody takes. A sender that
asks for such a bundle again starts it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trio

from node.context import NodeContext
from node.datadir import write_atomically
from node.hardware import Device, detect_device
from node.protocol import VERDICT, VERIFY, Done, VerdictNotice, VerifyRequest
from node.roles.validator.convicting import Convictions
from node.roles.validator.replay import replay_request, to_measures
from node.roles.validator.settling import ValidatorSettlement
from node.rpc import call, serve
from node.settlement import chain_refusals, receipt_domain
from node.settlement.follower import SettlementFollower
from node.settlement.peers import address_of_peer
from p2p.errors import P2PError, Refused
from pipeline.engine.client import EngineClient, open_engine
from pipeline.engine.errors import EngineError
from pipeline.models.errors import ModelError
from pipeline.models.store import open_model
from proofs.bundle import UnitBundle, signed_receipts
from proofs.errors import ProofError
from proofs.thresholds import profile
from proofs.verdict import judge
from proofs.verdict_messages import SignedVerdict

REPLAY_SECONDS = 600.0
MAX_QUEUE = 1024
MAX_SENDER_QUEUE = 256
REPLAY_TRIES = 4
DELIVERY_TRIES = 20
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class Task:
    """A journaled bundle and who sent it."""

    bundle_id: bytes
    sender: str


class Validator:
    """Judges bundles with its own engine. `settlement` gets paid what it accepted."""

    def __init__(
        self, context: NodeContext, engine: EngineClient, follower: SettlementFollower
    ) -> None:
        self._context = context
        self._engine = engine
        self._device = validator_device(context)
        self._thresholds = profile(context.config.validator.thresholds)
        self._send, self._receive = trio.open_memory_channel[Task](MAX_QUEUE)
        self._pending: dict[bytes, Task] = {}
        self._idle = trio.Event()
        self.settlement = ValidatorSettlement(context, follower)
        self._convictions = Convictions(context)
        self.judged = 0
        self.replay_seconds = 0.0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once the journal is replayed and handlers are in place."""
        await self.settlement.restore()
        waiting = await self._undelivered()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._judge_all)
            nursery.start_soon(self._drop_engine_events)
            await nursery.start(self.settlement.run)
            nursery.start_soon(self._convictions.run)
            for task in waiting:
                await self._enqueue(task)
            serve(self._context.network, VERIFY, self._on_verify)
            task_status.started()

    async def drain(self) -> None:
        """Judge and deliver what was taken, then settle it."""
        while self._pending:
            await self._idle.wait()
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
        key = bundle.content_id.hex()
        await self._context.journal.append("peer.bundle", key, {"sender": peer_id}, "peer")
        if bundle.content_id not in self._pending:  # else it came twice at once
            await self._enqueue(Task(bundle.content_id, peer_id))
        return Done()

    async def _require_owner(self, peer_id: str, bundle: UnitBundle) -> None:
        """Raise `Refused` unless the sender owns the pool whose money the receipts would spend,
        and every claim's peer and address are one node's."""
        for stage, claim in enumerate(bundle.stages):
            if address_of_peer(claim.peer_id) != claim.address:
                raise Refused("bad_bundle", f"stage {stage}: the peer id is another address's")
        chain = self._context.chain
        if chain is None:
            return
        pools = {c.receipt.pool_id for c in bundle.stages if c.receipt is not None}
        if len(pools) != 1:
            raise Refused("bad_bundle", "its receipts must be for one pool")
        with chain_refusals():
            pool = await chain.pool(pools.pop())
        if pool.creator != address_of_peer(peer_id):
            raise Refused("not_your_pool", f"pool {pool.pool_id} belongs to {pool.creator}")

    def _require_room(self, peer_id: str) -> None:
        own = sum(task.sender == peer_id for task in self._pending.values())
        if len(self._pending) >= MAX_QUEUE or own >= MAX_SENDER_QUEUE:
            raise Refused("busy", "too many bundles wait; ask again")

    async def _enqueue(self, task: Task) -> None:
        self._pending[task.bundle_id] = task
        await self._send.send(task)

    async def _undelivered(self) -> list[Task]:
        journal = self._context.journal
        delivered = {event.key for event in await journal.events(["peer.delivered"])}
        return [
            Task(bytes.fromhex(event.key), event.body["sender"])
            for event in await journal.events(["peer.bundle"])
            if event.key not in delivered
        ]

    async def _judge_all(self) -> None:
        async with trio.open_nursery() as nursery:
            async for task in self._receive:
                signed = await self._verdict(task)
                if signed is None:
                    self._done(task)
                else:
                    nursery.start_soon(self._deliver, task, signed)

    async def _verdict(self, task: Task) -> SignedVerdict | None:
        """The signed verdict: an earlier one from the journal, else a new one, journaled."""
        journal, key = self._context.journal, task.bundle_id.hex()
        try:
            data = await trio.to_thread.run_sync(self._path(task.bundle_id).read_bytes)
            bundle = UnitBundle.from_bytes(data)
        except (OSError, ProofError) as exc:
            self._context.log.error("cannot judge: the stored bundle is damaged", reason=str(exc))
            return None
        known = await journal.get("self.verdict", key)
        if known is not None:
            signed = SignedVerdict.from_bytes(known.body)
        else:
            judged = await self._judge(bundle)
            if judged is None:
                return None
            signed = judged
            await journal.append("self.verdict", key, signed.to_bytes())
            self.judged += 1
        if signed.verdict.accepted:  # an earlier run may have ended right before this
            await self.settlement.accept(
                task.sender, bundle.unit_id, bundle.content_id, signed_receipts(bundle)
            )
        else:
            await self._convictions.note(bundle, signed.verdict)
        return signed

    async def _judge(self, bundle: UnitBundle) -> SignedVerdict | None:
        log, delay = self._context.log, FIRST_RETRY_SECONDS
        for _ in range(REPLAY_TRIES):
            try:
                model = await trio.to_thread.run_sync(
                    open_model, self._context.config.model_store, bundle.model_id.hex()
                )
            except ModelError as exc:
                log.error("cannot judge: model not in the store", reason=str(exc))
                return None
            if bundle.boundaries[-1] != model.manifest.layers:
                log.error("cannot judge: the bundle's stages are not the whole model")
                return None
            request = replay_request(bundle, str(model.path), self._device.torch_name)
            try:
                replayed = await self._engine.request("replay", request, timeout=REPLAY_SECONDS)
                break
            except EngineError as exc:
                if exc.code == "bad_request":
                    log.error("cannot judge: the engine refuses the bundle", reason=exc.message)
                    return None
                log.warning("replay failed, trying again", reason=exc.message)
            await trio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_SECONDS)
        else:
            log.error("cannot judge: the engine fails on this bundle")
            return None
        self.replay_seconds += replayed.seconds
        domain = receipt_domain(self._context.chain)
        try:
            verdict = judge(bundle, to_measures(replayed), self._thresholds, domain)
        except ProofError as exc:
            log.error("cannot judge: the replay does not fit the bundle", reason=str(exc))
            return None
        log.info(
            "unit judged",
            unit=bundle.unit_id.hex()[:12],
            accepted=verdict.accepted,
            reason=verdict.reason,
            seconds=round(replayed.seconds, 2),
        )
        return SignedVerdict.sign(verdict, self._context.key)

    async def _deliver(self, task: Task, signed: SignedVerdict) -> None:
        notice = VerdictNotice(verdict=signed.to_bytes())
        delay = FIRST_RETRY_SECONDS
        for _ in range(DELIVERY_TRIES):
            try:
                await call(self._context, task.sender, VERDICT, notice)
                await self._context.journal.append("peer.delivered", task.bundle_id.hex())
                break
            except P2PError as exc:
                self._context.log.warning("verdict not delivered", reason=str(exc))
            await trio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_SECONDS)
        self._done(task)

    def _done(self, task: Task) -> None:
        del self._pending[task.bundle_id]
        self._idle.set()
        self._idle = trio.Event()

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
