"""Making proof bundles and sending them to the validators.

The claims and the unit make a bundle. It is written to the blob folder, and `BundleMade` has it
journaled, before a validator sees it, because from then on the unit may be paid: after a crash the
very same bytes are sent again, never another bundle for the same unit. A validator is offered a
bundle first, and sent it if it wants it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import trio
from pydantic import ValidationError

from node.config.files import write_atomically
from node.context import NodeContext
from node.errors import InputError
from node.retry import Backoff, tries
from node.roles.orchestrator.bundling.commit_block import CommitBlock
from node.roles.orchestrator.coordinator.commands import VerifyUnit
from node.roles.orchestrator.coordinator.events import BundleMade, BundleMissed
from node.roles.orchestrator.coordinator.units import Unit, UnitState, WorkSequence
from node.roles.orchestrator.coordinator.view import PoolView
from node.wire.messages.verification import BundleUpload, VerifyRequest
from node.wire.methods import BUNDLE, VERIFY
from node.wire.rpc import call
from p2p.errors import P2PError, RemoteRefused
from proofs.errors import ProofError
from proofs.evidence.bundle import StageClaim, UnitBundle
from proofs.evidence.sequence import BundleSequence

Feed = Callable[[BundleMade | BundleMissed], Awaitable[None]]
"""Tells the coordinator; returns once what follows is journaled."""


class BundleMaker:
    """Bundles of this pool's units. Each is made once, when the first validator is to have it."""

    def __init__(
        self,
        context: NodeContext,
        pool: PoolView,
        commit_block: CommitBlock,
        feed: Feed,
        *,
        pool_id: int,
        model_id: bytes,
        backoff: Backoff,
    ) -> None:
        self._context = context
        self._pool = pool
        self._commit_block = commit_block
        self._feed = feed
        self._pool_id = pool_id
        self._model_id = model_id
        self._backoff = backoff
        self._making = trio.Lock()

    async def verify(self, command: VerifyUnit) -> None:
        """Send the unit's bundle to the validator. If it is not reached, that is tried again with
        its next sign of life; if it refuses, when it is overdue."""
        log = self._context.log
        try:
            data = await self._bundle_bytes(command.unit_id)
        except (ValidationError, ProofError, InputError, OSError) as exc:
            log.error("no bundle to send", unit=command.unit_id.hex()[:12], reason=str(exc))
            return
        if data is None:
            return
        refused = False
        async for _ in tries(self._backoff):
            unit = self._waiting(command.unit_id)
            if unit is None or command.validator not in unit.pending_validators:
                return
            offer = self._offer(unit, len(data))
            try:
                answer = await call(self._context, command.validator, VERIFY, offer)
                if answer.wanted:
                    upload = BundleUpload(bundle_id=offer.bundle_id, bundle=data)
                    await call(self._context, command.validator, BUNDLE, upload)
                return
            except P2PError as exc:
                refused = isinstance(exc, RemoteRefused)
                log.warning(
                    "validator took no bundle", validator=command.validator, reason=str(exc)
                )
        if not refused:
            await self._feed(BundleMissed(command.unit_id, command.validator))

    def bundle(self, unit: Unit) -> UnitBundle | None:
        """The bundle that this unit was sent as, None where it was not yet."""
        path = self._path(unit.bundle_id)
        if not unit.bundle_id or not path.exists():
            return None
        return UnitBundle.from_bytes(path.read_bytes())

    async def _bundle_bytes(self, unit_id: bytes) -> bytes | None:
        """The unit's bundle, the same for every validator; None where it needs none any more."""
        async with self._making:
            unit = self._waiting(unit_id)
            if unit is None:
                return None
            if not unit.bundle_id:
                return await self._make_bytes(unit_id)
        return await trio.to_thread.run_sync(self._path(unit.bundle_id).read_bytes)

    async def _make_bytes(self, unit_id: bytes) -> bytes | None:
        committed_at = await self._commit_block.newest()
        unit = self._waiting(unit_id)
        if unit is None:
            return None
        bundle = self._make(unit, committed_at)
        data = bundle.to_bytes()
        await trio.to_thread.run_sync(write_atomically, self._path(bundle.content_id), data, 0o600)
        await self._feed(BundleMade(unit_id, bundle.content_id))
        return data

    def _waiting(self, unit_id: bytes) -> Unit | None:
        unit = self._pool.units.get(unit_id)
        return unit if unit is not None and unit.state is UnitState.VERIFYING else None

    def _make(self, unit: Unit, committed_at: int) -> UnitBundle:
        plan = self._pool.plan_of(unit)
        assert plan is not None, "a unit is verified only after a generation proved it"
        return UnitBundle(
            unit_id=unit.unit_id,
            group_id=unit.group_id,
            generation=unit.generation,
            model_id=self._model_id,
            boundaries=tuple(stage.last_layer for stage in plan.stages),
            stages=tuple(StageClaim.from_bytes(unit.claims[s]) for s in sorted(unit.claims)),
            sequences=tuple(bundle_sequence(s) for s in unit.sequences),
            committed_at=committed_at,
        )

    def _offer(self, unit: Unit, size: int) -> VerifyRequest:
        """What a validator is told before it takes a unit's bundle."""
        return VerifyRequest(
            pool_id=self._pool_id,
            unit_id=unit.unit_id,
            bundle_id=unit.bundle_id,
            size=size,
            tokens=sum(len(s.request.prompt_ids) + len(s.output_ids) for s in unit.sequences),
        )

    def _path(self, bundle_id: bytes) -> Path:
        return self._context.blobs / f"{bundle_id.hex()}.bundle"


def bundle_sequence(sequence: WorkSequence) -> BundleSequence:
    """A finished sequence as its bundle shows it."""
    assert sequence.reason is not None
    return BundleSequence(
        request=sequence.request,
        output_ids=sequence.output_ids,
        noise=sequence.noise,
        reason=sequence.reason,
        segments=sequence.segments,
    )
