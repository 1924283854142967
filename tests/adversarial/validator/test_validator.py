"""A validator among strangers who want money, and killed at bad moments."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from node.retry import Backoff
from node.roles.validator.bundle_state import QueueLimits
from node.roles.validator.intake.offers import OfferLimits
from node.roles.validator.settlement.proposer import ProposalTiming
from node.wire.messages.verification import BundleUpload
from node.wire.methods import BUNDLE, VERIFY
from p2p.errors import RemoteRefused
from proofs.evidence.bundle import UnitBundle
from proofs.evidence.sequence import NoiseSource
from proofs.sampling.settings import SamplingSettings
from tests.adversarial.harness import VALIDATOR_TIMING, eventually, open_node
from tests.adversarial.standins import POOL
from tests.adversarial.validator_scenario import WORK, bundle_of, offer
from tests.proofs.units import changed

SHORTLY_STRANGE = replace(
    VALIDATOR_TIMING,
    settlement=replace(
        VALIDATOR_TIMING.settlement, proposals=ProposalTiming(retry=0.05, strange=0.1)
    ),
)
"""A unit that names a stranger is tried again soon."""


async def test_only_the_pools_owner_can_spend_its_money(scenario) -> None:
    async with scenario() as c, c.session():
        unit = c.bundle()
        assert await c.refused(unit, c.rival) == "not_your_pool"
        assert await c.refused(c.bundle(pool_id=99)) == "not_your_pool"
        await c.verify(unit)
        await c.judged(unit)
        await eventually(lambda: c.paid() == WORK)


async def test_bundles_that_are_none_or_name_others_are_refused(scenario) -> None:
    patient = replace(VALIDATOR_TIMING, offers=OfferLimits(penalty=0.0))
    async with scenario(timing=patient) as c, c.session():
        unit, (claim,) = c.bundle(), c.bundle().stages
        framed = claim.model_copy(update={"peer_id": c.owner.peer_id})
        unpaid = claim.model_copy(update={"receipt": None})
        for changed in (framed, unpaid):
            assert await c.refused(unit.model_copy(update={"stages": (changed,)})) == "bad_bundle"
        for data in (b"\xc1", unit.to_bytes()[:-1], unit.to_bytes() + b"\x00"):
            said = offer(unit, bundle_id=sha256(data).digest(), size=len(data))
            assert (await c.owner.ask(c.judge.peer_id, VERIFY, said))["wanted"]
            request = BundleUpload(bundle_id=said.bundle_id, bundle=data)
            assert await c.owner.refused(c.judge.peer_id, BUNDLE, request) == "bad_bundle"


async def test_a_second_bundle_for_an_accepted_unit_is_not_paid(scenario) -> None:
    async with scenario() as c, c.session():
        first, second = c.bundle(), c.bundle(last=14)
        assert first.unit_id == second.unit_id
        await c.verify(first)
        await c.judged(first)
        assert await c.refused(second) == "already_accepted"
        await eventually(lambda: c.validator.queued == 0)  # it knows that the verdict is here
        await c.verify(first)  # asked again: judged already, paid once
        await eventually(lambda: c.verdicts.count(first.content_id) >= 2)
        await eventually(lambda: c.paid() == WORK)
        assert c.engine.count("replay") == 1
        await c.validator.settlement.settled()
        assert (c.paid(), c.ledger.posts) == (WORK, 1)


async def test_two_bundles_of_one_unit_in_the_queue_are_paid_once(scenario) -> None:
    async with scenario() as c, c.session():
        first, second = c.bundle(), c.bundle(last=14)
        await c.verify(first)
        with suppress(RemoteRefused):  # the first one may be through already
            await c.verify(second)
        await c.judged(first)
        await eventually(lambda: c.validator.queued == 0)
        await c.validator.settlement.settled()
        assert (c.paid(), c.ledger.posts) == (WORK, 1)


async def test_a_rival_cannot_use_up_anothers_unit_id(scenario) -> None:
    async with scenario() as c, c.session():
        theirs, ours = c.bundle(pool_id=POOL + 1), c.bundle()
        assert theirs.unit_id == ours.unit_id
        await c.verify(theirs, c.rival)
        await c.judged(theirs)
        await c.verify(ours)
        await c.judged(ours)


async def test_one_sender_cannot_fill_the_queue(scenario) -> None:
    timing = replace(
        VALIDATOR_TIMING, queue=QueueLimits(sender_total=3), delivery=Backoff.every(0.25)
    )
    async with scenario(timing=timing) as c, c.session():
        c.deaf = True
        for number in range(3):
            await c.verify(c.bundle(bytes([number])))
        assert await c.refused(c.bundle(b"more")) == "busy"
        await c.verify(c.bundle(b"other", pool_id=POOL + 1), c.rival)
        c.deaf = False
        await eventually(lambda: len(c.verdicts) == 4)
        await c.verify(c.bundle(b"more"))


async def test_bundles_that_wait_for_blocks_hold_no_other_sender_up(scenario) -> None:
    async with scenario() as c, c.session():
        waiting = 2 * QueueLimits().sender_preparing
        for number in range(waiting):
            await c.verify(of_a_block_to_come(c.bundle(bytes([number]))))
        theirs = c.bundle(b"other", pool_id=POOL + 1)
        await c.verify(theirs, c.rival)
        await c.judged(theirs)
        await eventually(lambda: c.validator.queued == waiting)


def of_a_block_to_come(unit: UnitBundle) -> UnitBundle:
    """Its noise is said to be of a block that nobody has yet."""
    (sequence,) = unit.sequences
    noise = NoiseSource(beacon=bytes(32), block=10**6, request_id=sequence.sequence_id)
    told = changed(sequence, sampling=SamplingSettings(temperature=1.0), noise=noise)
    return unit.model_copy(update={"sequences": (told,), "committed_at": 10**6})


async def test_a_bundle_that_breaks_the_engine_is_set_aside_and_can_be_asked_again(
    scenario,
) -> None:
    async with scenario() as c, c.session():
        poison, good = c.bundle(b"poison"), c.bundle(b"good")
        c.engine.refuse["replay"] = "internal"
        await c.verify(poison)
        await eventually(lambda: c.validator.queued == 0)
        c.engine.refuse.clear()
        await c.verify(good)
        await c.judged(good)
        await c.verify(poison)
        await c.judged(poison)


async def test_a_pool_whose_root_is_refused_holds_up_no_other(scenario) -> None:
    async with scenario() as c, c.session():
        c.ledger.refuse_roots.add(POOL + 1)
        await c.verify(c.bundle(b"stuck", pool_id=POOL + 1), c.rival)
        await eventually(lambda: c.ledger.refused)
        await c.verify(c.bundle())
        await eventually(lambda: c.paid() == WORK)


async def test_a_verdict_that_was_not_delivered_is_delivered_by_the_next_run(scenario) -> None:
    async with scenario() as c:
        unit = c.bundle()
        c.deaf = True
        async with c.session():
            await c.verify(unit)
            await eventually(lambda: c.validator.judged == 1)
        c.deaf = False
        async with c.session():
            await c.judged(unit)
            assert c.engine.count("replay") == 0
            await eventually(lambda: c.paid() == WORK)


async def test_killed_between_verdict_and_ledger_the_unit_is_still_paid(scenario) -> None:
    async with scenario() as c:
        unit = c.bundle()
        c.deaf = True
        async with c.session():
            await c.verify(unit)
            await eventually(lambda: c.paid() == WORK)
        c.deaf = False
        path = c.folder / "judge" / "journal.db"
        with sqlite3.connect(path) as connection:  # as if killed right after the verdict
            connection.execute(
                "DELETE FROM events WHERE kind NOT IN ('peer.bundle', 'self.verdict')"
            )
        c.ledger.roots.clear()
        c.ledger.events.clear()
        async with c.session():
            await c.judged(unit)
            await eventually(lambda: c.paid() == WORK)
            assert c.engine.count("replay") == 0


async def test_killed_between_signing_and_posting_a_unit_is_paid_once(scenario) -> None:
    async with scenario() as c:
        unit = c.bundle()
        c.ledger.refuse_roots.add(POOL)
        async with c.session():
            await c.verify(unit)
            await eventually(lambda: c.ledger.refused)
            assert not c.ledger.roots
        assert list((c.folder / "judge" / "blobs").glob("*.epoch"))  # it was ready to be posted
        c.ledger.refuse_roots.clear()
        for _ in range(2):
            async with c.session():
                await eventually(lambda: c.paid() == WORK)
                await c.validator.settlement.settled()
        assert c.ledger.posts == 1


async def test_work_that_a_stranger_countersigned_holds_no_other_up(
    scenario, tmp_path: Path
) -> None:
    """No root could be defended with it, so it is left out until the stranger is registered."""
    async with (
        scenario(timing=SHORTLY_STRANGE) as c,
        c.session(),
        open_node(60, tmp_path / "x") as stranger,
    ):
        odd, good = c.bundle(b"odd", boss=stranger), c.bundle(b"good")
        for unit in (odd, good):
            await c.verify(unit)
        await c.judged(odd, good)
        await eventually(lambda: c.paid() == WORK)
        await eventually(lambda: c.validator.settlement.waiting == 1)
        c.ledger.owners[stranger.address] = stranger.address
        await eventually(lambda: c.paid() == 2 * WORK)


async def test_a_worker_without_a_provider_holds_no_other_up(scenario) -> None:
    async with scenario(timing=SHORTLY_STRANGE) as c, c.session():
        home = c.ledger.owners.pop(c.rival.address)
        homeless = c.bundle(b"homeless")
        good = bundle_of(c.judge, c.owner, b"good", POOL, 13)
        for unit in (homeless, good):
            await c.verify(unit)
        await c.judged(homeless, good)
        await eventually(lambda: c.paid() == WORK)
        c.ledger.owners[c.rival.address] = home
        await eventually(lambda: c.paid() == 2 * WORK)


async def test_an_endpoint_that_fails_for_a_while_costs_nothing_but_time(scenario) -> None:
    async with scenario() as c, c.session():
        c.ledger.silent |= {
            "nodes.owners_of",
            "validators.addresses",
            "settlement.terms",
            "validators.weight_of",
        }
        unit = c.bundle()
        await c.verify(unit)
        await c.judged(unit)
        assert c.paid() == 0
        c.ledger.silent.clear()
        await eventually(lambda: c.paid() == WORK)


async def test_a_voided_root_is_made_again_and_pays_once(scenario) -> None:
    async with scenario() as c, c.session():
        c.ledger.window = 3600
        unit = c.bundle()
        await c.verify(unit)
        await eventually(lambda: c.paid() == WORK)
        await eventually(lambda: c.validator.settlement.waiting == 0)
        first = c.ledger.root_of(POOL)
        c.ledger.void(POOL)
        await eventually(lambda: c.ledger.posts == 2)
        again = c.ledger.root_of(POOL)
        assert again != first  # the contract takes no root twice
        assert (again.receipts_root, again.total_payout) == (first.receipts_root, WORK)


async def test_units_that_were_paid_while_the_validator_was_down_are_not_proposed(scenario) -> None:
    async with scenario() as c:
        unit = c.bundle()
        async with c.session():
            await c.verify(unit)
            await eventually(lambda: c.paid() == WORK)
        async with c.session():
            await c.validator.settlement.settled()
            more = c.bundle(b"more")
            await c.verify(more)
            await eventually(lambda: c.paid() == 2 * WORK)
        assert [posted.root.receipt_count for posted in c.ledger.roots[POOL]] == [1, 1]
