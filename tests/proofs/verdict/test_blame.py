"""Truth tables of blame: contradictions, rows that are shown, doubts, tokens of other builds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from proofs.evidence.bundle import UnitBundle
from proofs.evidence.statement import token_digest
from proofs.thresholds.builtin import FP32, PUBLISHED
from proofs.thresholds.measures import ChunkMeasure, RevealedRowsCheck
from proofs.verdict.blame import Inquiry
from proofs.verdict.exceedances import RejectConvictLimits
from proofs.verdict.judge import judge
from proofs.verdict.message import StageStatus, Verdict
from tests.proofs.units import (
    DOMAIN,
    GOOD,
    OFF,
    bundle,
    evidence,
    link,
    measures,
    sequence,
    with_evidence,
)
from tests.proofs.verdict.ruling import LIMITS, UNCHECKED, UNIT, blamed, ruled, statuses


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize(
    "change",
    [
        {"received": bytes(32), "returned": bytes(32)},
        {"rows": 71},
        {"sampled_from": 3},
    ],
    ids=["rows", "count", "start"],
)
def test_who_countersigned_what_it_contradicts_is_at_fault(
    stage: int, change: dict[str, object]
) -> None:
    first, second = evidence(stage, UNIT.sequences)
    unit = with_evidence(UNIT, stage, (first.model_copy(update=change), second))
    verdict = ruled(unit, measures(unit))
    assert stage in blamed(verdict)
    # Its downstream neighbour signed for it too, unless the lie is about what came in alone.
    others = {(stage + 1) % 3} if "received" not in change else set()
    assert set(blamed(verdict)) == {stage} | others
    assert "contradicts" in verdict.reason


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_statements_of_another_ring_or_of_other_sequences_blame_nobody(stage: int) -> None:
    """A stage may have said them truly elsewhere, and its neighbour have countersigned."""
    first, second = evidence(stage, UNIT.sequences)
    elsewhere = first.model_copy(update={"terms": evidence(0, UNIT.sequences, 2)[0].terms})
    assert elsewhere.terms != first.terms
    for items in ((elsewhere, second), (), (second,), (second, first), (first, first, second)):
        verdict = ruled(with_evidence(UNIT, stage, items), measures(UNIT, {1: OFF}))
        assert not verdict.accepted
        assert statuses(verdict) == [UNCHECKED] * 3


def test_rows_that_were_off_when_received_clear_the_stage_and_accuse_the_one_before() -> None:
    spoilt = {2: OFF}
    assert judge(UNIT, measures(UNIT, spoilt), LIMITS, DOMAIN) == Inquiry(2, 1, link(1, 1))
    verdicts = {
        "good": ruled(UNIT, measures(UNIT, spoilt), rows=lambda _: PUBLISHED.rows_error),
        "off": ruled(UNIT, measures(UNIT, spoilt), rows=lambda i: 9.0 if i.stage == 2 else 0.0),
        "junk": ruled(UNIT, measures(UNIT, spoilt), rows=lambda i: -1.0 if i.stage == 2 else 0.0),
        "nan": ruled(UNIT, measures(UNIT, spoilt), rows=lambda i: math.nan if i.stage == 2 else 0),
        "first": ruled(UNIT, measures(UNIT, spoilt), rows=lambda _: 9.0),
        "silent": ruled(UNIT, measures(UNIT, spoilt), rows=lambda _: None),
        "then silent": ruled(
            UNIT, measures(UNIT, spoilt), rows=lambda i: 9.0 if i.stage == 2 else None
        ),
    }
    expected = {
        "good": 2, "off": 1, "junk": 1, "nan": 1, "first": 0, "silent": 2, "then silent": 1,
    }  # fmt: skip
    assert {name: v.first_faulty for name, v in verdicts.items()} == expected
    assert all(len(blamed(v)) == 1 for v in verdicts.values())
    assert "did not reveal" in verdicts["silent"].reason
    assert "off by 9" in verdicts["off"].reason
    assert verdicts["off"].stages[2].status is UNCHECKED


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_work_that_is_off_by_little_is_doubted_and_convicts_nobody(stage: int) -> None:
    little = ChunkMeasure(exp_mismatches=50, mant_err_mean=4.0, mant_err_median=3.0)
    verdict = ruled(UNIT, measures(UNIT, {stage: little}), chunk=little)
    assert not verdict.accepted
    assert (verdict.first_faulty, verdict.doubted_peer) == (None, f"peer{stage}")
    assert verdict.stages[stage].status is StageStatus.DOUBTED
    silent = ruled(UNIT, measures(UNIT, {stage: little}), rows=lambda _: None)
    assert silent.first_faulty is None
    if stage:  # rows far off are gross, however little they spoilt what came after
        passed_on = ruled(UNIT, measures(UNIT, {stage: little}), rows=lambda _: 9.0)
        assert passed_on.first_faulty == 0
        near = PUBLISHED.rows_error * 1.5
        rows = ruled(UNIT, measures(UNIT, {stage: little}), rows=lambda _: near)
        assert (rows.first_faulty, rows.doubted_peer) == (None, "peer0")
        own = ruled(UNIT, measures(UNIT, {stage: OFF}), chunk=little)
        assert (own.first_faulty, own.doubted_peer) == (None, f"peer{stage}")
        noise = ruled(UNIT, measures(UNIT, {stage: OFF}), chunk=GOOD)  # right from right rows
        assert statuses(noise) == [UNCHECKED] * 3
        assert "built up" in noise.reason


def mild(sequences: int, mildly: set[tuple[int, int]], grossly: set[tuple[int, int]]) -> Verdict:
    """The verdict where (stage, sequence) are off by little or by much, by their own doing."""
    little = ChunkMeasure(exp_mismatches=50, mant_err_mean=4.0, mant_err_median=3.0)
    unit = bundle(3, [sequence(n + 1, 20) for n in range(sequences)])
    found = measures(unit)
    for index, measure in enumerate(found):
        stages = [list(chunks) for chunks in measure.stages]
        for stage in range(3):
            if (stage, index) in mildly | grossly:
                stages[stage][0] = OFF if (stage, index) in grossly else little
        found[index] = measure.model_copy(update={"stages": tuple(map(tuple, stages))})
    return ruled(unit, found)


def test_a_small_deviation_shields_no_large_one() -> None:
    assert mild(2, {(1, 0)}, {(1, 1)}).first_faulty == 1
    assert mild(2, {(0, 0)}, {(1, 1)}).first_faulty == 1
    assert mild(1, {(0, 0)}, {(1, 0)}).first_faulty == 1
    only = mild(2, {(0, 0), (1, 1)}, set())
    assert (only.first_faulty, only.doubted_peer) == (None, "peer0")


def test_short_outputs_are_taken_together() -> None:
    """Two wrong tokens of two are possible once in a hundred outputs, not in all of them."""
    unit = bundle(3, [sequence(n + 1, 2) for n in range(40)])
    assert ruled(unit, measures(unit)).accepted
    verdict = ruled(unit, measures(unit, None, 0.5, 9))
    assert not verdict.accepted
    assert (verdict.first_faulty, verdict.doubted_peer) == (None, "peer2")


def test_absurdly_tight_limits_of_a_pool_convict_nobody() -> None:
    tight = replace(PUBLISHED, exp_mismatches=0, mant_err_mean=0.0, mant_err_median=0.0)
    limits = RejectConvictLimits.of(tight, PUBLISHED)
    noisy = ChunkMeasure(exp_mismatches=2, mant_err_mean=1.2, mant_err_median=1.0)
    verdict = judge(UNIT, measures(UNIT, {0: noisy}), limits, DOMAIN)
    assert isinstance(verdict, Verdict)
    assert (verdict.accepted, verdict.first_faulty) == (False, None)
    assert RejectConvictLimits.of(PUBLISHED, FP32).convict == PUBLISHED.convicting().looser(
        FP32.convicting()
    )
    assert FP32.looser(PUBLISHED) == PUBLISHED.looser(FP32)


def test_limits_by_depth_hold_early_stages() -> None:
    deep = replace(PUBLISHED, sequence_mant_at=((0.4, 0.001), (1.0, 5.0)))
    slight = ChunkMeasure(exp_mismatches=0, mant_err_mean=0.01, mant_err_median=0.0)
    unit = bundle(3, [sequence(1, 70)])
    found = measures(unit)
    stages = ((slight,) * 3, (slight,) * 3, (slight,) * 3)
    found[0] = found[0].model_copy(update={"stages": stages})
    assert ruled(unit, found).accepted
    assert not ruled(unit, found, deep).accepted


def test_bytes_that_are_no_rows_accuse_who_signed_for_having_sent_them() -> None:
    revealed = {
        Inquiry(2, 1, link(1, 1)): RevealedRowsCheck(error=-1.0),
        Inquiry(1, 1, link(0, 1)): RevealedRowsCheck(error=0.0),
    }
    verdict = judge(UNIT, measures(UNIT, {2: OFF}), LIMITS, DOMAIN, revealed)
    assert isinstance(verdict, Verdict)
    assert verdict.first_faulty == 1


def test_grossly_bad_rows_accuse_their_sender_whatever_the_receiver_made_of_them() -> None:
    """What layers give for absurd numbers may differ between honest machines."""
    absurd = RevealedRowsCheck(error=1e30, chunks=(OFF,))
    revealed = {
        Inquiry(2, 1, link(1, 1)): absurd,
        Inquiry(1, 1, link(0, 1)): RevealedRowsCheck(error=0.0),
    }
    verdict = judge(UNIT, measures(UNIT, {2: OFF}), LIMITS, DOMAIN, revealed)
    assert isinstance(verdict, Verdict)
    assert verdict.first_faulty == 1


def test_tokens_that_are_off_are_walked_back_too() -> None:
    found = measures(UNIT, None, 0.4)
    assert judge(UNIT, found, LIMITS, DOMAIN) == Inquiry(2, 0, link(1, 0))
    assert blamed(ruled(UNIT, found)) == [2]
    assert blamed(ruled(UNIT, found, rows=lambda i: 9.0 if i.stage == 2 else 0.0)) == [1]


def with_tokens(start: int, output: tuple[int, ...] | None = None) -> UnitBundle:
    """The unit, all stages having signed that tokens were sampled from `start` on."""
    told = [s.model_copy(update={"segments": ((0, 3), (start, 4))}) for s in UNIT.sequences]
    unit = UNIT if start == 0 else UNIT.model_copy(update={"sequences": tuple(told)})
    for stage in range(3):
        name = {0: "returned", 2: "sent"}.get(stage)
        items = evidence(stage, UNIT.sequences)
        changed = [
            item.model_copy(
                update={"sampled_from": start}
                | ({name: token_digest(output or s.output_ids, start)} if name else {})
            )
            for item, s in zip(items, UNIT.sequences, strict=True)
        ]
        unit = with_evidence(unit, stage, tuple(changed))
    return unit


def test_tokens_of_an_earlier_generation_blame_nobody() -> None:
    unit = with_tokens(10)
    assert ruled(unit, measures(unit)).accepted
    early = (0.5,) * 10
    for index, blame in ((0, []), (1, []), (2, [2])):
        found = measures(unit)
        for number, measure in enumerate(found):
            count = measure.sampling.tokens
            scores = {
                0: (*early, *(0.0,) * (count - 10)),
                1: (*early[:6], *(0.0,) * (count - 6)),
                2: (*(0.0,) * 10, *(0.5,) * (count - 10)),
            }[index]
            sampling = measure.sampling.model_copy(update={"scores": scores, "matches": 0})
            found[number] = measure.model_copy(update={"sampling": sampling})
        verdict = ruled(unit, found)
        assert not verdict.accepted
        assert blamed(verdict) == blame
        assert ("earlier generation" in verdict.reason) == (not blame)


def test_tokens_that_the_bundle_alone_holds_blame_nobody() -> None:
    unit = with_tokens(0, output=(99,) * 70)
    verdict = ruled(unit, measures(unit))
    assert statuses(verdict) == [UNCHECKED] * 3
    assert "other tokens" in verdict.reason
