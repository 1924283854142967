"""The honest case: everything that the attacks are measured against works in this harness."""

from __future__ import annotations

from node.roles.orchestrator.coordinator.units import UnitState
from tests.adversarial.harness import eventually
from tests.adversarial.standins import LAYERS, POOL, PRICE


async def test_work_is_done_proven_settled_and_paid(net) -> None:
    async with net() as network:
        units = await network.submit(3)
        for unit in units:
            await network.reached(unit, UnitState.SETTLED)
        pages = network.orchestrator.dataset(units[0].job_id)
        rows = [row async for page in pages for row in page]
        assert [row["completion"] for row in rows] == ["<0><1><2><3>"] * 3
        tokens = sum(3 + 4 for _ in units)
        await eventually(lambda: network.ledger.total(POOL) == LAYERS * tokens * PRICE)
        paid = network.ledger.paid
        await eventually(lambda: sum(paid.values()) == LAYERS * tokens * PRICE)
        assert {account for _, account in paid} == {n.address for n in network.nodes.values()}
        assert network.ledger.refused_claims == []
        assert not network.orchestrator.rejections
