"""Which sequences are replayed: the same for all validators, and everything where in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from node.onchain.blocks import Blocks
from node.roles.validator.journal_events import WorkerChecked
from node.roles.validator.judging.reputation import (
    SUSPECT_UNITS,
    WorkerRecord,
    WorkerRecords,
    p_values,
    unit_figures,
)
from node.roles.validator.judging.spotcheck import SequenceChooser, coarse
from proofs.evidence.bundle import UnitBundle
from proofs.thresholds.builtin import FP32
from proofs.thresholds.drift import DriftState, DriftTest
from proofs.thresholds.measures import ChunkMeasure
from proofs.thresholds.pooled import HonestMeans
from proofs.thresholds.profiles import Profile, QuantileTable
from proofs.thresholds.spotcheck import DEFAULT_TERMS, DRAW_DELAY, MAX_AGE, ONE, chosen
from proofs.verdict.exceedances import RejectConvictLimits
from proofs.verdict.judge import judge
from proofs.verdict.message import Verdict
from tests.node.roles.chains import Chain, block_hash, open_context
from tests.proofs.units import DOMAIN, EOS, NULL, bundle, measures, sequence

HEAD, SIZE = 100, 60
PROBATION = DEFAULT_TERMS.probation


@cache
def unit(number: int = 0, committed_at: int = HEAD) -> UnitBundle:
    """`number` makes another bundle of it; end-of-sequence ids are the assembler's word."""
    first = sequence(1, 4, eos_ids=(EOS, 1000 + number))
    made = bundle(2, (first, *(sequence(n, 4) for n in range(2, SIZE + 1))))
    return made.model_copy(update={"committed_at": committed_at})


def verdict_on(made: UnitBundle, spoilt: bool = False, replayed: bool = True) -> Verdict:
    found: list[Any] = list(measures(made, {0: NULL} if spoilt else None))
    if not replayed:
        found = [None] * len(found)
    verdict = judge(made, found, RejectConvictLimits.of(FP32, FP32), DOMAIN)
    assert isinstance(verdict, Verdict)
    return verdict


async def note(
    records: WorkerRecords, made: UnitBundle, like: Verdict, p: dict[int, Sequence[float]]
) -> None:
    """A verdict on `made` that says the same as `like`."""
    await records.note(made, like.model_copy(update={"bundle_id": made.content_id}), p)


async def establish(
    records: WorkerRecords, units: int = PROBATION, p: Sequence[float] = ()
) -> None:
    made = unit()
    verdict = verdict_on(made)
    for number in range(units):
        await note(records, unit(1000 + number), verdict, {0: p})


def records_of(context: Any, test: DriftTest | None = None) -> WorkerRecords:
    return WorkerRecords(context.journal, context.metrics, context.log, test)


async def choose(folder: Path, chain: Chain, made: UnitBundle, **how: Any) -> tuple[int, ...]:
    """What one validator chooses; its workers are established unless `units` says otherwise."""
    await trio.Path(folder).mkdir(exist_ok=True)
    async with open_context(folder) as context:
        records = records_of(context)
        await establish(records, how.get("units", PROBATION))
        blocks = Blocks(context, chain, how.get("confirmations", 1))
        setting = how.get("check_rate", "auto")
        chooser = SequenceChooser(chain, blocks, records, setting, context.log)  # type: ignore[arg-type]
        return await chooser.choose(made, how.get("seen_at", HEAD))


EVERYTHING = tuple(range(SIZE))


async def test_validators_choose_alike_and_as_anybody_can_repeat(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    made = unit()
    found = {
        await choose(
            tmp_path / str(n), Chain(HEAD, 2.0, trio.current_time()), made, units=PROBATION + n
        )
        for n in range(3)
    }
    assert found == {chosen(block_hash(HEAD + DRAW_DELAY), made.draw_id, SIZE, ONE // 16)}
    assert 0 < len(found.pop()) < SIZE // 4


@pytest.mark.parametrize(
    "how",
    [
        {"units": PROBATION - 1},
        {"committed_at": 0},
        {"seen_at": HEAD + MAX_AGE + 1},
        {"seen_at": 0},
        {"loss": 0},
        {"down": True},
        {"interval": 0.0},  # the block that decides never comes
        {"check_rate": 1.0},
    ],
)
async def test_in_doubt_everything_is_replayed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, how: dict[str, Any]
) -> None:
    chain = Chain(HEAD, how.get("interval", 2.0), trio.current_time())
    chain.down, chain.loss = how.get("down", False), how.get("loss", chain.loss)
    made = unit(committed_at=how.get("committed_at", HEAD))
    found = await choose(tmp_path, chain, made, **how)
    assert found == EVERYTHING


async def test_an_operators_rate_replaces_the_computed_one(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    chain, made = Chain(HEAD, 2.0, trio.current_time()), unit()
    assert await choose(tmp_path / "a", chain, made, check_rate=0.0) == ()
    half = await choose(tmp_path / "b", chain, made, check_rate=0.5)
    assert half == chosen(block_hash(HEAD + DRAW_DELAY), made.draw_id, SIZE, ONE // 2)
    assert await choose(tmp_path / "c", chain, made, check_rate=0.0, units=3) == EVERYTHING


async def test_less_stake_is_checked_more(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    chain, made, sizes = Chain(HEAD, 2.0, trio.current_time()), unit(), []
    pay = made.work(0) * chain.rate
    for index, loss in enumerate((1000 * pay, 2 * pay, pay * 9 // 10, pay // 2)):
        chain.loss = loss
        sizes.append(len(await choose(tmp_path / str(index), chain, made)))
    assert sizes == sorted(sizes)
    assert sizes[-1] == SIZE


async def test_nodes_that_share_a_stake_are_checked_more(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    chain, made = Chain(HEAD, 2.0, trio.current_time()), unit()
    chain.loss = 4 * made.work(0) * chain.rate
    assert len(await choose(tmp_path / "one", chain, made)) < SIZE
    chain.fleet = 20
    assert await choose(tmp_path / "many", chain, made) == EVERYTHING


def test_rates_are_coarse() -> None:
    assert [coarse(rate) for rate in (0, 1, 3, 4096, 4097, ONE // 2 + 1, ONE)] == [
        0,
        1,
        4,
        4096,
        8192,
        ONE,
        ONE,
    ]


async def test_records_count_a_bundle_once_and_survive_a_restart(tmp_path: Path) -> None:
    made = unit()
    worker = made.stages[0].address
    async with open_context(tmp_path) as context:
        records = records_of(context)
        for _ in range(3):
            await records.note(made, verdict_on(made), {0: (0.5,)})
        await records.note(unit(1), verdict_on(unit(1), replayed=False), {})
        record = await records.of(worker)
        assert (record.verified, record.drift.units) == (1, 1)
        assert record.is_newcomer()
        assert not record.suspect
    async with open_context(tmp_path) as context:
        records = records_of(context)
        await records.restore()
        assert await records.of(worker) == record
        await establish(records, PROBATION - 1)
        assert not (await records.of(worker)).is_newcomer()
        verdict = verdict_on(unit(2), spoilt=True)
        assert verdict.first_faulty == 0
        await records.note(unit(2), verdict, {})
        assert (await records.of(worker)).is_newcomer()


def renamed(made: UnitBundle, number: int) -> UnitBundle:
    """The unit, each stage worked on by somebody of whom nobody has heard."""
    stages = [
        claim.model_copy(update={"address": f"0x{number:038x}{stage:02x}"})
        for stage, claim in enumerate(made.stages)
    ]
    return made.model_copy(update={"stages": tuple(stages)})


async def test_a_crowd_of_addresses_keeps_no_more_records_than_there_may_be(tmp_path: Path) -> None:
    made, count = unit(), 20
    worker, verdict = made.stages[0].address, verdict_on(made)
    async with open_context(tmp_path) as context:
        records = WorkerRecords(context.journal, context.metrics, context.log, most=8)
        for number in range(count):
            for bundle_id, work in ((number, renamed(made, number)), (100 + number, made)):
                said = verdict.model_copy(update={"bundle_id": bytes([bundle_id]) * 32})
                await records.note(work, said, {})
        assert (await records.of(worker)).verified == count  # who goes on working is remembered
        assert (await records.of(renamed(made, 0).stages[0].address)).verified == 0
    async with open_context(tmp_path) as context:
        assert len(await context.journal.replay(WorkerChecked)) == 8


async def test_drift_makes_a_suspect_and_nothing_else(tmp_path: Path) -> None:
    made = unit()
    worker, other = made.stages[0].address, made.stages[1].address
    async with open_context(tmp_path) as context:
        records = records_of(context, DriftTest(alpha=1e-3))
        await establish(records, PROBATION, (0.4, 0.6))
        assert not records.suspects
        verdict = verdict_on(made)
        for number in range(4):
            await note(records, unit(number), verdict, {0: (0.001, 0.002), 1: (0.5,)})
        assert records.suspects == {worker}
        assert (await records.of(worker)).verified == PROBATION + 4
        assert b"prime_node_suspects 1.0" in context.metrics.exposition()
        assert not (await records.of(other)).suspect
    async with open_context(tmp_path) as context:
        records = records_of(context)
        await records.restore()
        assert records.suspects == {worker}
        await establish(records, SUSPECT_UNITS)
        assert records.suspects == {worker}  # the same bundles as before: nothing new
        for number in range(SUSPECT_UNITS):
            await note(records, unit(5000 + number), verdict, {0: (0.5,)})
        assert not records.suspects


def test_p_values_are_of_each_stage_and_the_last_one_samples() -> None:
    made = unit()
    table = QuantileTable.of([n / 1000 for n in range(1000)])
    profile = Profile.model_construct(distance=table, score=table)
    found: list[Any] = list(measures(made, scores=0.5))
    found[1:] = [None] * (SIZE - 1)
    p = p_values(profile, found)
    assert set(p) == {0, 1}
    assert p[0] == (table.p_value(0.01),)
    assert p[1] == (table.p_value(0.01), table.p_value(0.5))
    assert p_values(profile, [None] * SIZE) == {}


async def test_figures_that_are_none_are_not_held_against_anybody(tmp_path: Path) -> None:
    made = unit()
    async with open_context(tmp_path) as context:
        records = records_of(context)
        await records.note(made, verdict_on(made), {0: (float("nan"),)})
        assert await records.of(made.stages[0].address) == WorkerRecord(1, DriftState(units=1))


async def test_what_short_sequences_add_up_to_makes_a_suspect(tmp_path: Path) -> None:
    """No unit is rejected, no limit broken: each of these sequences is a little off, as all are."""
    made, means = unit(), HonestMeans(2.0, 0.025, 0.002)
    worker, other = (stage.address for stage in made.stages)
    honest = measures(made)
    off = [ChunkMeasure(mant_err_mean=3.2)]
    measured = [m.model_copy(update={"stages": (tuple(off), m.stages[1])}) for m in honest[:3]]
    async with open_context(tmp_path) as context:
        records = records_of(context)
        verdict = verdict_on(made)
        for number in range(20):
            like = verdict.model_copy(update={"bundle_id": unit(2000 + number).content_id})
            await records.note(made, like, {}, unit_figures(means, measured))
        assert worker in records.suspects
        record = await records.of(worker)
        assert (record.alarms, record.pooled.units) == (1, 20)
        assert (await records.of(other)).alarms == 0
    async with open_context(tmp_path) as context:
        records = records_of(context)
        await records.restore()
        assert await records.of(worker) == record
        assert set(records.suspects) == {worker}
