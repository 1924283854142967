"""Collecting a finished unit's evidence and sending it to the validators.

Every stage is asked for its claim at once (each needs its neighbour, which is being asked too), and
each claim is checked as it arrives. The claims and the unit make a proof bundle; it is written to
the blob folder and journaled before the validator sees it, because from then on the unit may be
paid: after a crash the very same bytes are sent again, never another bundle for the same unit.
"""

from __future__ import annotations

from pathlib import Path

import trio
from pydantic import ValidationError

from node.config.datadir import write_atomically
from node.context import NodeContext
from node.errors import InputError
from node.roles.orchestrator.bundling.claims import BadClaim, ClaimRequestContext
from node.roles.orchestrator.coordinator.commands import CollectClaims, VerifyUnit
from node.roles.orchestrator.coordinator.events import ClaimsFailed, Event, PeerClaimed
from node.roles.orchestrator.coordinator.pool import Pool
from node.roles.orchestrator.coordinator.units import Unit, UnitState, WorkSequence
from node.roles.orchestrator.jobs.cutting import unit_to_body
from node.wire.protocol import CLAIM, VERIFY, ClaimRequest, StageRef, VerifyRequest
from node.wire.rpc import call
from p2p.errors import P2PError, RemoteRefused
from p2p.identity import peer_public_key
from proofs.encoding.signing import public_key_address
from proofs.errors import ProofError
from proofs.evidence.bundle import BundleSequence, FinishReason, Sampling, StageClaim, UnitBundle

CLAIM_TRIES = 3
CLAIM_RETRY_SECONDS = 0.5
VERIFY_TRIES = 5
VERIFY_RETRY_SECONDS = 2.0


class Evidence:
    """Claims in, bundles out. `pool_id` is the pool's on chain, 0 without one."""

    def __init__(self, context: NodeContext, pool: Pool, model_id: bytes, pool_id: int) -> None:
        self._context = context
        self._pool = pool
        self._model_id = model_id
        self._pool_id = pool_id
        self._making = trio.Lock()

    async def collect(self, command: CollectClaims, epoch: int) -> list[Event]:
        """Ask every stage of the unit's group; one event a claim, or one `ClaimsFailed`."""
        unit = self._pool.units[command.unit_id]
        plan = self._pool.plan_of(unit)
        if plan is None or unit.generation != command.generation:
            return []
        peers = [stage.peer_id for stage in plan.stages]
        asked = ClaimRequestContext(
            unit,
            plan,
            tuple(public_key_address(peer_public_key(peer)) for peer in peers),
            self._pool_id,
            self._context.receipt_domain,
            self._context.address,
            self._model_id,
        )
        found: list[Event] = []
        failures: list[tuple[str, tuple[int, ...]]] = []
        async with trio.open_nursery() as nursery:
            for stage in range(len(peers)):
                nursery.start_soon(self._ask, asked, stage, epoch, found, failures)
        if not failures:
            return found
        reason, suspects = failures[0]
        names = tuple(peers[stage] for stage in suspects)
        return [ClaimsFailed(unit.unit_id, command.generation, reason, names)]

    async def verify(self, command: VerifyUnit) -> None:
        """Send the unit's bundle to the validator; a failure is tried again when overdue."""
        try:
            data = await self._bundle_bytes(command.unit_id)
        except (ValidationError, ProofError, InputError, OSError) as exc:
            self._context.log.error(
                "no bundle to send", unit=command.unit_id.hex()[:12], reason=str(exc)
            )
            return
        request = VerifyRequest(bundle=data)
        for _ in range(VERIFY_TRIES):
            unit = self._pool.units[command.unit_id]
            if (
                unit.state is not UnitState.VERIFYING
                or command.validator not in unit.pending_validators
            ):
                return
            try:
                await call(self._context, command.validator, VERIFY, request)
                return
            except P2PError as exc:
                self._context.log.warning(
                    "validator took no bundle", validator=command.validator, reason=str(exc)
                )
            await trio.sleep(VERIFY_RETRY_SECONDS)

    def bundle(self, unit: Unit) -> UnitBundle | None:
        """The bundle that this unit was sent as, None where it was not yet."""
        path = self._path(unit.bundle_id)
        if not unit.bundle_id or not path.exists():
            return None
        return UnitBundle.from_bytes(path.read_bytes())

    async def _ask(
        self,
        asked: ClaimRequestContext,
        stage: int,
        epoch: int,
        found: list[Event],
        failures: list[tuple[str, tuple[int, ...]]],
    ) -> None:
        unit, count = asked.unit, len(asked.addresses)
        request = ClaimRequest(
            ref=StageRef(group_id=unit.group_id, generation=unit.generation, stage=stage),
            unit_id=unit.unit_id,
            attempt=unit.attempt,
            epoch=epoch,
            sequence_ids=tuple(s.sequence_id for s in unit.sequences),
            token_count=unit.token_count,
        )
        reason: str = ""
        suspects: tuple[int, ...] = (stage,)
        for attempt in range(CLAIM_TRIES):
            if attempt:
                await trio.sleep(CLAIM_RETRY_SECONDS)
            try:
                peer_id = asked.plan.stages[stage].peer_id
                answer = await call(self._context, peer_id, CLAIM, request)
                claim = self._completed(asked, asked.check(stage, answer.claim))
            except P2PError as exc:
                reason, suspects = str(exc), (stage,)
                if isinstance(exc, RemoteRefused) and exc.code == "no_countersignature":
                    suspects = (stage, (stage + 1) % count)
                continue
            except BadClaim as exc:
                reason, suspects = exc.reason, exc.suspects
                continue
            found.append(PeerClaimed(unit.unit_id, unit.generation, stage, claim.to_bytes()))
            return
        failures.append((f"stage {stage} gave no evidence: {reason}", suspects))

    def _completed(self, asked: ClaimRequestContext, claim: StageClaim) -> StageClaim:
        """With this node's countersignature, where a lone stage has no neighbour to sign."""
        if len(asked.addresses) > 1 or claim.receipt is None:
            return claim
        signature = claim.receipt.sign(self._context.key, asked.domain)
        return claim.model_copy(update={"counter_signature": signature})

    async def _bundle_bytes(self, unit_id: bytes) -> bytes:
        """The unit's bundle, the same for every validator."""
        async with self._making:
            unit = self._pool.units[unit_id]
            if not unit.bundle_id:
                return await self._make_bytes(unit_id)
        return await trio.to_thread.run_sync(self._path(unit.bundle_id).read_bytes)

    async def _make_bytes(self, unit_id: bytes) -> bytes:
        committed_at = await self._newest_block()
        unit = self._pool.units[unit_id]
        bundle = self._make(unit, committed_at)
        data = bundle.to_bytes()
        await trio.to_thread.run_sync(write_atomically, self._path(bundle.content_id), data, 0o600)
        self._pool.set_bundle(unit_id, bundle.content_id)
        sent = self._pool.units[unit_id]
        key = f"{unit_id.hex()}:{unit.attempt}"
        await self._context.journal.append("self.bundle", key, unit_to_body(sent))
        return data

    async def _newest_block(self) -> int:
        """The block at which all claims are in; 0 where no chain tells, and all is replayed."""
        chain = self._context.chain
        if chain is None:
            return 0
        from chain.errors import ChainError

        try:
            head = await chain.rpc.block("latest")
        except ChainError as exc:
            self._context.log.warning("a bundle without its block", reason=str(exc))
            return 0
        return 0 if head is None else head.number

    def _make(self, unit: Unit, committed_at: int) -> UnitBundle:
        plan = self._pool.plan_of(unit)
        assert plan is not None, "a unit is verified only after a build proved it"
        return UnitBundle(
            unit_id=unit.unit_id,
            group_id=unit.group_id,
            generation=unit.generation,
            model_id=self._model_id,
            boundaries=tuple(stage.last_layer for stage in plan.stages),
            stages=tuple(StageClaim.from_bytes(unit.claims[s]) for s in sorted(unit.claims)),
            sequences=tuple(_sequence(s) for s in unit.sequences),
            committed_at=committed_at,
        )

    def _path(self, bundle_id: bytes) -> Path:
        return self._context.blobs / f"{bundle_id.hex()}.bundle"


def _sequence(sequence: WorkSequence) -> BundleSequence:
    return BundleSequence(
        sequence_id=sequence.sequence_id,
        prompt_ids=sequence.prompt_ids,
        output_ids=sequence.output_ids,
        sampling=Sampling(
            temperature=sequence.temperature,
            top_k=sequence.top_k,
            top_p=sequence.top_p,
            noise_key=sequence.noise_key,
        ),
        noise=sequence.noise,
        max_tokens=sequence.max_tokens,
        eos_ids=sequence.eos_ids,
        stop=sequence.stop,
        reason=FinishReason(sequence.reason),
        segments=sequence.segments,
    )
