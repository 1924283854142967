"""An orchestrator that is killed and started again, with a unit in every state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from node.errors import InputError
from node.prompts import Prompt
from node.roles.orchestrator.coordinator.events import (
    BundleMade,
    ChainQuorum,
    GroupUp,
    PeerAnnounced,
    PeerClaimed,
    PeerFinished,
    PeerJoined,
    PeerValidates,
    PeerVerdict,
)
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.ledger.ledger import WorkLedger
from node.roles.orchestrator.ledger.writes import PayUnits
from node.roles.orchestrator.restore import restore
from node.roles.orchestrator.service import Orchestrator
from proofs.evidence.sequence import FinishReason
from tests.adversarial.harness import (
    Node,
    eventually,
    make_orchestrator,
    open_node,
    reached,
    running,
    until,
)
from tests.adversarial.ledger import Ledger
from tests.adversarial.standins import POOL
from tests.proofs.settlement.epochs import settled, signed

PROMPTS = (Prompt.model_validate({"prompt": "p", "max_tokens": 4}),)
PEERS = ("w1", "w2")


@asynccontextmanager
async def run(folder: Path) -> AsyncIterator[tuple[Node, Orchestrator]]:
    """One life of the orchestrator; leaving the block is its death."""
    ledger = Ledger()
    async with open_node(0, folder, ledger=ledger, role="orchestrator") as node:
        ledger.creators[POOL] = node.address
        orchestrator = make_orchestrator(node)
        async with running(node, orchestrator=orchestrator):
            yield node, orchestrator


async def advance(orchestrator: Orchestrator, state: UnitState) -> Unit:
    """Take the job's unit to `state` by the events that its peers would cause."""
    unit = await _advance(orchestrator, state)
    return await orchestrator.unit(unit.unit_id)


async def only_unit(orchestrator: Orchestrator) -> Unit:
    """The one unit of the one job."""
    (job,) = orchestrator.ledger.jobs
    (unit,) = await orchestrator.units_of(job)
    return unit


async def _advance(orchestrator: Orchestrator, state: UnitState) -> Unit:
    pool = orchestrator.pool
    await orchestrator.submit(PROMPTS, "job")
    unit = await only_unit(orchestrator)
    if state is UnitState.QUEUED:
        return unit
    await until(orchestrator, lambda: unit.unit_id in pool.units)
    orchestrator.stop_commands()  # what they would come to is fed below
    for name in PEERS:
        await orchestrator.feed(
            PeerAnnounced(name, 1, 0.1, None, ""), PeerJoined(name, "0x1", "0x1")
        )
    for name in PEERS:
        await orchestrator.feed(PeerJoined(name, "0x1", "0x1"))
    (group,) = pool.groups.values()
    await orchestrator.feed(GroupUp(group.group_id, group.generation))
    assert pool.units[unit.unit_id].state is UnitState.ASSIGNED
    if state is UnitState.ASSIGNED:
        return unit
    only = unit.sequences[0].sequence_id
    await orchestrator.feed(
        PeerFinished(group.generation, unit.unit_id, only, FinishReason.LENGTH, (10, 11, 12, 13))
    )
    if state is UnitState.PRODUCED:
        return unit
    for stage in range(2):
        await orchestrator.feed(PeerClaimed(unit.unit_id, group.generation, stage, b"claim"))
    await orchestrator.feed(PeerValidates("v1", 1))
    await orchestrator.feed(BundleMade(unit.unit_id, b"b" * 32))
    if state is UnitState.VERIFYING:
        return unit
    rejected = state in (UnitState.REJECTED, UnitState.EXPIRED)
    tries = {UnitState.REJECTED: 1, UnitState.EXPIRED: 5}.get(state, 1)
    for number in range(tries):
        current = pool.units[unit.unit_id]
        if current.state is not UnitState.VERIFYING:
            await orchestrator.feed(
                PeerFinished(
                    group.generation, unit.unit_id, only, FinishReason.LENGTH, (10, 11, 12, 13)
                )
            )
            for stage in range(2):
                await orchestrator.feed(
                    PeerClaimed(unit.unit_id, group.generation, stage, b"claim")
                )
            await orchestrator.feed(BundleMade(unit.unit_id, bytes([number]) * 32))
        bundle = pool.units[unit.unit_id].bundle_id
        reason = "off" if rejected else ""
        await orchestrator.feed(
            PeerVerdict("v1", unit.unit_id, bundle, not rejected, "", reason, {"accepted": True})
        )
    if state is UnitState.SETTLED:
        payment = PayUnits(3, "0x" + "ab" * 32, (unit.unit_id,))
        await orchestrator._context.journal.write(payment)
    return unit


AFTER = {
    UnitState.QUEUED: UnitState.QUEUED,
    UnitState.ASSIGNED: UnitState.QUEUED,
    UnitState.PRODUCED: UnitState.QUEUED,
    UnitState.VERIFYING: UnitState.VERIFYING,
    UnitState.REJECTED: UnitState.QUEUED,
    UnitState.EXPIRED: UnitState.EXPIRED,
    UnitState.ACCEPTED: UnitState.ACCEPTED,
    UnitState.SETTLED: UnitState.SETTLED,
}


@pytest.mark.parametrize("state", AFTER)
async def test_a_restart_loses_nothing_and_repeats_nothing_that_may_be_paid(
    tmp_path: Path, state: UnitState
) -> None:
    async with run(tmp_path) as (_, orchestrator):
        before = await advance(orchestrator, state)
        generation = orchestrator.pool.generation
    for _ in range(2):  # the second restart finds what the first one left
        async with run(tmp_path) as (_, orchestrator):
            unit = await only_unit(orchestrator)
            assert unit.state is AFTER[state]
            known = orchestrator.pool.unit_id_of(unit.sequences[0].sequence_id)
            if unit.state is UnitState.VERIFYING:
                assert known == unit.unit_id
            elif unit.state is not UnitState.QUEUED:
                assert not known
            if unit.state is UnitState.QUEUED:
                assert not unit.group_id
                kept = (10, 11, 12) if state is UnitState.PRODUCED else ()  # one is proven anew
                assert unit.sequences[0].output_ids == kept
                assert unit.attempt == (1 if state is UnitState.REJECTED else 0)
            else:
                assert unit.bundle_id == before.bundle_id
                assert unit.sequences[0].output_ids == (10, 11, 12, 13)
            assert unit.transaction == ("0x" + "ab" * 32 if state is UnitState.SETTLED else "")
            again = await orchestrator.submit(PROMPTS, "job")
            assert again.job_id == before.job_id
            assert orchestrator.ledger.jobs[before.job_id].units.total() == 1
            assert generation >= 0


async def test_a_verifying_unit_keeps_the_validator_that_has_it(tmp_path: Path) -> None:
    async with run(tmp_path) as (_, orchestrator):
        await advance(orchestrator, UnitState.VERIFYING)
    async with run(tmp_path) as (_, orchestrator):
        assert "v1" in orchestrator.pool.asked


async def test_opinions_that_were_outstanding_are_all_asked_for_again(tmp_path: Path) -> None:
    """What one validator had said is not on disk; it says so again, of the same bundle."""

    def verdict(judge: str, unit: Unit) -> PeerVerdict:
        return PeerVerdict(judge, unit.unit_id, unit.bundle_id, True, "", "", {})

    async with run(tmp_path) as (_, orchestrator):
        await orchestrator.feed(ChainQuorum(100, 6_667), PeerValidates("v2", 60))
        before = await advance(orchestrator, UnitState.VERIFYING)
        await orchestrator.feed(verdict("v2", before))
        (unit,) = orchestrator.pool.units.values()
        assert (unit.state, list(unit.opinions)) == (UnitState.VERIFYING, ["v2"])
    async with run(tmp_path) as (_, orchestrator):
        orchestrator.stop_commands()
        (unit,) = orchestrator.pool.units.values()
        assert (unit.opinions, unit.late, unit.bundle_id) == ({}, False, before.bundle_id)
        await orchestrator.feed(ChainQuorum(100, 6_667))
        await orchestrator.feed(PeerValidates("v2", 60), PeerValidates("v3", 40))
        (unit,) = orchestrator.pool.units.values()
        assert unit.asked == ("v2", "v3")
        await orchestrator.feed(verdict("v2", unit))
        assert orchestrator.pool.units[unit.unit_id].state is UnitState.VERIFYING
        await orchestrator.feed(verdict("v3", unit))
        assert (await only_unit(orchestrator)).state is UnitState.ACCEPTED


async def test_epochs_that_were_posted_meanwhile_are_all_learned_of(tmp_path: Path) -> None:
    async with run(tmp_path) as (_, orchestrator):
        unit = await advance(orchestrator, UnitState.ACCEPTED)
    paying = settled([signed(int.from_bytes(unit.unit_id, "big"), pool_id=POOL)], pool_id=POOL)
    later = settled([signed(1, pool_id=POOL)], pool_id=POOL, epoch=2, earned=paying.earned)
    ledger = Ledger()
    for epoch in (paying, later):
        ledger.post(epoch.root, ["0x" + "11" * 20])
    for published in (False, True):  # at first nobody has their leaves
        async with open_node(0, tmp_path, ledger=ledger, role="orchestrator") as node:
            orchestrator = make_orchestrator(node)
            async with running(node, orchestrator=orchestrator):
                await eventually(lambda node=node: node.follower.history(POOL).last == 2)
                assert (await only_unit(orchestrator)).state is UnitState.ACCEPTED
                for epoch in (paying, later) if published else ():
                    await node.follower.blobs.put(epoch.content)
                if published:
                    unit = await reached(orchestrator, unit, UnitState.SETTLED)
    assert unit.epoch == 1
    assert unit.transaction


async def test_the_count_of_builds_goes_on(tmp_path: Path) -> None:
    async with run(tmp_path) as (node, _):
        await node.context.journal.set_state("generation", 7)
    async with run(tmp_path) as (_, orchestrator):
        await advance(orchestrator, UnitState.ASSIGNED)
        (group,) = orchestrator.pool.groups.values()
        assert group.generation == 8


async def test_other_settings_do_not_cut_an_old_job_anew(tmp_path: Path) -> None:
    """Units with other ids would be done, and paid, a second time."""
    prompts = PROMPTS * 4
    async with run(tmp_path) as (_, orchestrator):
        job = (await orchestrator.submit(prompts, "job")).job_id
        before = [unit.unit_id for unit in await orchestrator.units_of(job)]
    async with open_node(0, tmp_path, role="orchestrator") as node:
        orchestrator = make_orchestrator(node)
        wider = replace(orchestrator._cutter, unit_size=4)
        ledger = WorkLedger(node.context.journal, wider)
        await restore(node.context.journal, ledger)
        assert [unit.unit_id for unit in await ledger.next_queued(10)] == before
        other = WorkLedger(node.context.journal, replace(wider, model_id=b"o" * 32))
        with pytest.raises(InputError, match="another model"):
            await restore(node.context.journal, other)
