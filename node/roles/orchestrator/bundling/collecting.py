"""Collecting a finished unit's evidence from the stages that worked on it.

Every stage is asked for its claim at once (each needs its neighbour, which is being asked too), and
each claim is checked as it arrives (`claims.py`).
"""

from __future__ import annotations

import trio

from node.context import NodeContext
from node.retry import Backoff, tries
from node.roles.orchestrator.bundling.claims import BadClaim, ClaimRequestContext
from node.roles.orchestrator.coordinator.commands import CollectClaims
from node.roles.orchestrator.coordinator.events import ClaimsFailed, PeerClaimed
from node.roles.orchestrator.coordinator.view import PoolView
from node.wire.messages.fields import StageRef
from node.wire.messages.verification import ClaimRequest
from node.wire.methods import CLAIM
from node.wire.peer_addresses import address_of_peer
from node.wire.rpc import call
from p2p.errors import P2PError, RemoteRefused
from proofs.evidence.bundle import StageClaim
from proofs.thresholds.named import kernel_class_of


class ClaimCollector:
    """Asks stages for their claims. `pool_id` is the pool's on chain, 0 without one."""

    def __init__(
        self,
        context: NodeContext,
        pool: PoolView,
        *,
        model_id: bytes,
        pool_id: int,
        backoff: Backoff,
    ) -> None:
        self._context = context
        self._pool = pool
        self._model_id = model_id
        self._pool_id = pool_id
        self._backoff = backoff

    async def collect(
        self, command: CollectClaims, epoch: int
    ) -> list[PeerClaimed] | list[ClaimsFailed]:
        """Ask every stage of the unit's group; one event a claim, or one `ClaimsFailed`. `epoch` is
        the one that their receipts name."""
        unit = self._pool.units.get(command.unit_id)
        plan = None if unit is None else self._pool.plan_of(unit)
        if unit is None or plan is None or unit.generation != command.generation:
            return []
        peers = [stage.peer_id for stage in plan.stages]
        asked = ClaimRequestContext(
            unit,
            plan,
            tuple(address_of_peer(peer_id) for peer_id in peers),
            self._pool_id,
            self._context.receipt_domain,
            self._context.address,
            self._model_id,
            kernel_class_of(self._context.config.orchestrator.thresholds),
        )
        found: list[PeerClaimed] = []
        failures: list[tuple[str, tuple[int, ...]]] = []
        async with trio.open_nursery() as nursery:
            for stage in range(len(peers)):
                nursery.start_soon(self._ask, asked, stage, epoch, found, failures)
        if not failures:
            return found
        reason, suspects = failures[0]
        names = tuple(peers[stage] for stage in suspects)
        return [ClaimsFailed(unit.unit_id, command.generation, reason, names)]

    async def _ask(
        self,
        asked: ClaimRequestContext,
        stage: int,
        epoch: int,
        found: list[PeerClaimed],
        failures: list[tuple[str, tuple[int, ...]]],
    ) -> None:
        unit, count = asked.unit, len(asked.addresses)
        request = ClaimRequest(
            ref=StageRef(group_id=unit.group_id, generation=unit.generation, stage=stage),
            unit_id=unit.unit_id,
            epoch=epoch,
            sequence_ids=tuple(s.sequence_id for s in unit.sequences),
            token_count=unit.token_count,
        )
        reason: str = ""
        suspects: tuple[int, ...] = (stage,)
        async for _ in tries(self._backoff):
            try:
                peer_id = asked.plan.stages[stage].peer_id
                answer = await call(self._context, peer_id, CLAIM, request)
                claim = self._completed(asked, asked.check(stage, answer.claim))
            except P2PError as exc:
                reason, suspects = str(exc), (stage,)
                if isinstance(exc, RemoteRefused) and exc.code == "no_countersignature":
                    suspects = (stage, (stage + 1) % count)
            except BadClaim as exc:
                reason, suspects = exc.reason, exc.suspects
            else:
                found.append(PeerClaimed(unit.unit_id, unit.generation, stage, claim.to_bytes()))
                return
        failures.append((f"stage {stage} gave no evidence: {reason}", suspects))

    def _completed(self, asked: ClaimRequestContext, claim: StageClaim) -> StageClaim:
        """With this node's countersignature, where a lone stage has no neighbour to sign."""
        if len(asked.addresses) > 1 or claim.receipt is None:
            return claim
        signature = claim.receipt.sign(self._context.key, asked.domain)
        return claim.model_copy(update={"counter_signature": signature})
