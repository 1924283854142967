"""Two real workers in a ring, their orchestrator and a stranger, all played by the test."""

from __future__ import annotations

from typing import Any

from node.wire.messages.fields import StageRef
from node.wire.messages.verification import ClaimRequest, CountersignRequest
from node.wire.messages.work import Invite, LoadStage, StagePeer
from node.wire.methods import INVITE, LOAD
from pipeline.engine.control.messages import SequenceSpec
from proofs.encoding.receipts import Receipt
from proofs.encoding.signing import sign_digest
from proofs.evidence.bundle import StageClaim
from proofs.evidence.sequence import SequenceRequest
from proofs.evidence.statement import evidence_commitment
from tests.adversarial.harness import Node
from tests.adversarial.ledger import Ledger
from tests.adversarial.standins import DOMAIN, LAYERS, MODEL, POOL, Engine, stage_evidence

GROUP = b"g" * 32
UNIT = b"u" * 32
SEQUENCE = b"s" * 16
TOKENS = 7


class Bench:
    """Two workers, `first` and `second`, in a ring of `boss`, and a stranger."""

    def __init__(self, nodes: dict[str, Node], ledger: Ledger, engines: list[Engine]) -> None:
        self.boss, self.mallory = nodes["boss"], nodes["mallory"]
        self.first, self.second = nodes["first"], nodes["second"]
        self.ledger, self.engines = ledger, engines

    async def invite(self, boss: Node, pool_id: int = POOL, **changes: Any) -> Invite:
        deadline = int(boss.context.wall()) + changes.pop("seconds", 600)
        fields = {
            "pool_id": pool_id,
            "model_id": MODEL,
            "model_name": "tiny",
            "deadline": deadline,
            "signature": await boss.chain.pools.sign_invite(pool_id, self.first.address, deadline),
        }
        return Invite.model_validate(fields | changes)

    def order(self, stage: int, generation: int = 1, **changes: Any) -> LoadStage:
        peers = (self.first, self.second)
        cuts = (0, 10, LAYERS)
        fields = {
            "ref": StageRef(group_id=GROUP, generation=generation, stage=stage),
            "pool_id": POOL,
            "model_id": MODEL,
            "model_name": "tiny",
            "stages": tuple(
                StagePeer(peer_id=p.peer_id, address=p.address, first_layer=a, last_layer=b)
                for p, a, b in zip(peers, cuts, cuts[1:], strict=False)
            ),
            "kv_tokens": 64,
            "micro_batches": 1,
            "max_batch_tokens": 64,
        }
        return LoadStage.model_validate(fields | changes)

    async def employed(self) -> None:
        for node in (self.first, self.second):
            invite = await self.invite(self.boss)
            signature = await self.boss.chain.pools.sign_invite(POOL, node.address, invite.deadline)
            invite = invite.model_copy(update={"signature": signature})
            await self.boss.ask(node.peer_id, INVITE, invite)

    async def loaded(self) -> None:
        """Both stages loaded; their engines hold one finished sequence."""
        await self.employed()
        for stage, node in enumerate((self.first, self.second)):
            await self.boss.ask(node.peer_id, LOAD, self.order(stage))
            self.engines[stage].stage = stage
        ring = self.engines[0].ring
        ring.specs[SEQUENCE] = SequenceSpec(
            request=SequenceRequest(sequence_id=SEQUENCE, prompt_ids=(3, 4, 5), max_tokens=4)
        )
        ring.outputs[SEQUENCE] = (10, 11, 12, 13)

    def claim(self, stage: int, **changes: Any) -> ClaimRequest:
        fields = {
            "ref": StageRef(group_id=GROUP, generation=1, stage=stage),
            "unit_id": UNIT,
            "epoch": 1,
            "sequence_ids": (SEQUENCE,),
            "token_count": TOKENS,
        }
        return ClaimRequest.model_validate(fields | changes)

    def countersign(
        self,
        signer: Node | None = None,
        *,
        upstream: int = 0,
        says: dict[str, Any] | None = None,
        claims: dict[str, Any] | None = None,
        **changes: Any,
    ) -> CountersignRequest:
        """What stage `upstream` asks of the other one, truly signed: `says` changes its evidence,
        `claims` its claim, the other changes its receipt."""
        ring, nodes = self.engines[0].ring, (self.first, self.second)
        item = stage_evidence(ring.specs[SEQUENCE], upstream, output=ring.outputs[SEQUENCE])
        evidence = (item.model_copy(update=says or {}),)
        asking, asked = nodes[upstream], nodes[1 - upstream]
        fields = {
            "job_id": UNIT,
            "worker": asking.address,
            "pool_id": POOL,
            "stage": upstream,
            "seq": 1,
            "counterparty": asked.address,
            "epoch": 1,
            "units": (10, LAYERS - 10)[upstream] * TOKENS,
            "commitment": evidence_commitment(evidence),
        }
        receipt = Receipt.model_validate(fields | changes)
        key = (signer or asking).context.key
        claim = StageClaim(
            peer_id=asking.peer_id,
            address=asking.address,
            evidence=evidence,
            receipt=receipt,
            receipt_signature=sign_digest(key, receipt.digest(DOMAIN)),
        )
        return CountersignRequest(
            ref=StageRef(group_id=GROUP, generation=1, stage=upstream),
            claim=claim.model_copy(update=claims or {}).to_bytes(),
        )
