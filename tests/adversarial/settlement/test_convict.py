"""A validator that is asked to have others slashed signs only what its own replay found."""

from __future__ import annotations

from typing import Any

from node.wire.messages.fields import Done
from node.wire.messages.settlement import ConvictRequest
from node.wire.messages.verification import VerdictNotice
from node.wire.methods import CONVICT, VERDICT
from node.wire.rpc import serve
from proofs.encoding.receipts import Conviction
from proofs.encoding.signing import recover
from tests.adversarial.harness import Node, eventually
from tests.adversarial.standins import DOMAIN
from tests.adversarial.validator_scenario import ValidatorScenario


def conviction(c: ValidatorScenario, unit: Any, **changes: Any) -> Conviction:
    (claim,) = unit.stages
    fields = {
        "pool_id": claim.receipt.pool_id,
        "node": claim.address,
        "job_id": unit.unit_id,
        "evidence": unit.content_id,
    }
    return Conviction.model_validate(fields | changes)


async def refused(c: ValidatorScenario, sender: Node, asked: Conviction | bytes) -> str:
    assert c.judge is not None
    data = asked if isinstance(asked, bytes) else asked.to_bytes()
    return await sender.refused(c.judge.peer_id, CONVICT, ConvictRequest(conviction=data))


async def test_honest_and_unjudged_work_is_not_convicted(scenario) -> None:
    async with scenario() as c, c.session(weight=40):
        c.ledger.weights[c.owner.address] = 60
        unit, unjudged = c.bundle(), c.bundle(b"other")
        await c.verify(unit)
        await c.judged(unit)
        guilty = conviction(c, unit)
        assert await refused(c, c.rival, guilty) == "not_a_validator"
        assert await refused(c, c.owner, guilty) == "not_found_guilty"
        assert await refused(c, c.owner, conviction(c, unjudged)) == "not_judged"
        for data in (b"", guilty.to_bytes()[:-1], b"\xff" * 128):
            assert await refused(c, c.owner, data) == "bad_conviction"
        assert c.ledger.convictions == []


async def test_what_the_judge_found_itself_it_signs_for_that_node_and_unit_alone(scenario) -> None:
    async with scenario() as c, c.session(weight=40):
        c.ledger.weights[c.owner.address] = 60

        async def on_verdict(peer_id: str, notice: VerdictNotice) -> Done:
            return Done()

        serve(c.owner.network, VERDICT, on_verdict)
        c.engine.mismatches = 128
        unit = c.bundle()
        await c.verify(unit)
        await eventually(lambda: c.validator.queued == 0)
        guilty = conviction(c, unit)
        request = ConvictRequest(conviction=guilty.to_bytes())
        answer = await c.owner.ask(c.judge.peer_id, CONVICT, request)
        assert recover(guilty.digest(DOMAIN), answer["signature"]) == c.judge.address
        for changes in (
            {"node": c.owner.address},
            {"job_id": b"j" * 32},
            {"pool_id": guilty.pool_id + 1},
        ):
            other = conviction(c, unit, **changes)
            assert await refused(c, c.owner, other) == "not_found_guilty", changes
        assert await refused(c, c.owner, conviction(c, unit, evidence=b"e" * 32)) == "not_judged"
        assert await refused(c, c.rival, guilty) == "not_a_validator"
        assert c.ledger.convictions == []  # 40 of 100 convict nobody
        assert c.paid() == 0
