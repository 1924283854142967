"""Validators that disagree, lie, come late or are gone: the stake behind them decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from node.roles.orchestrator.coordinator.members import MemberState
from node.roles.orchestrator.coordinator.units import UnitState
from tests.adversarial.harness import TIMING, eventually
from tests.adversarial.standins import LAYERS, POOL, PRICE

WORK = LAYERS * (3 + 4) * PRICE


def banned(network: Any) -> set[str]:
    members = network.orchestrator.pool.members.values()
    return {m.peer_id for m in members if m.state is MemberState.BANNED}


def signers(network: Any) -> set[str]:
    return {signer for posted in network.ledger.roots[POOL] for signer in posted.signers}


async def test_a_minority_that_rejects_honest_work_harms_nobody(net) -> None:
    async with net(judges=(40, 35, 25)) as network:
        network.judge_engines[2].mismatches = 128
        units = await network.submit(2)
        for unit in units:
            await network.reached(unit, UnitState.SETTLED)
        await eventually(lambda: sum(network.ledger.paid.values()) == 2 * WORK)
        assert banned(network) == set()
        assert network.ledger.convictions == []
        assert signers(network) == {judge.address for judge in network.judges[:2]}


async def test_a_majority_that_convicts_bans_and_the_work_is_not_paid(net) -> None:
    async with net(judges=(40, 35, 25)) as network:
        for engine in network.judge_engines[:2]:
            engine.mismatches = 128
        cheat = network.stage(0)
        await network.submit()
        await eventually(lambda: banned(network))
        assert banned(network) == {cheat.peer_id}
        await eventually(lambda: network.ledger.convictions)
        assert {c.node for c in network.ledger.convictions} == {cheat.address}
        assert network.ledger.roots == {}


async def test_verdicts_of_strangers_with_the_role_in_their_record_are_not_asked_for(net) -> None:
    async with net() as network:
        await network.mallory.announce("validator", "worker")
        records = network.boss.network.records
        await eventually(
            lambda: any(
                "validator" in r.roles and r.peer_id == network.mallory.peer_id
                for r in records.all()
            )
        )
        (unit,) = await network.submit()
        await network.reached(unit, UnitState.SETTLED)
        assert set(network.orchestrator.pool.validators) == {network.judge.peer_id}
        assert network.mallory.peer_id not in network.orchestrator.pool.asked


async def test_units_wait_for_stake_that_is_not_here_and_a_latecomer_is_asked(net) -> None:
    async with net(judges=(60, 40), timing=replace(TIMING, validators=0.1)) as network:
        late = network.judges[1]
        network.ledger.weights[late.address] = 0  # its stake comes later
        network.ledger.weights["0x" + "ee" * 20] = 40  # and this one never shows up
        pool = network.orchestrator.pool
        await eventually(lambda: set(pool.validators) == {network.judge.peer_id})
        (unit,) = await network.submit()
        await network.reached(unit, UnitState.VERIFYING)
        await eventually(lambda: pool.units[unit.unit_id].opinions)
        assert pool.units[unit.unit_id].state is UnitState.VERIFYING
        network.ledger.weights["0x" + "ee" * 20] = 0
        network.ledger.weights[late.address] = 40
        await network.reached(unit, UnitState.SETTLED)
        assert signers(network) == {judge.address for judge in network.judges}


async def test_a_validator_that_cannot_be_weighed_for_a_moment_stops_nobody(net) -> None:
    """The endpoint fails in the middle of a proposal; the proposer goes on afterwards."""
    async with net(judges=(50, 50)) as network:
        (unit,) = await network.submit()
        await network.reached(unit, UnitState.VERIFYING)
        network.ledger.silent |= {
            "validators.weight_of",
            "nodes.owners_of",
            "settlement.terms",
            "validators.addresses",
        }
        await network.reached(unit, UnitState.ACCEPTED)
        network.ledger.silent.clear()
        await network.reached(unit, UnitState.SETTLED)
