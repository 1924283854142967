"""Within an exact kernel class one row that differs, or one token, convicts its stage."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.evidence.bundle import UnitBundle
from proofs.evidence.statement import token_digest
from proofs.thresholds.builtin import EXACT, FP32
from proofs.thresholds.measures import SequenceMeasure
from proofs.verdict.exact import ExactClass
from proofs.verdict.exceedances import RejectConvictLimits
from proofs.verdict.judge import VerdictError, judge
from proofs.verdict.message import Verdict
from tests.proofs.units import (
    DOMAIN,
    GENERATION,
    bundle,
    evidence,
    link,
    measures,
    sequence,
    with_evidence,
)
from tests.proofs.verdict.ruling import FAULTY, HONEST, UNCHECKED, blamed, statuses

NAME = "cpu-fp32-fixed"
DEMANDED = ExactClass(NAME, demanded=True)
LIMITS = RejectConvictLimits.of(EXACT, FP32)


def stated(unit: UnitBundle, names: list[str]) -> UnitBundle:
    """`unit`, whose stages state these kernel classes."""
    for stage, name in enumerate(names):
        last = stage == len(names) - 1
        items = tuple(
            item.model_copy(
                update={"kernel_class": name, "final": link(stage, number) if last else b""}
            )
            for number, item in enumerate(unit.stages[stage].evidence)
        )
        unit = with_evidence(unit, stage, items)
    return unit


def replayed(unit: UnitBundle) -> list[SequenceMeasure]:
    """What a validator of the same class measures of honest work."""
    exact = {"exp_mismatches": 0, "mant_err_mean": 0.0}
    found = []
    for number, measure in enumerate(measures(unit)):
        sent = tuple(link(stage, number) for stage in range(len(unit.stages)))
        chunks = tuple(tuple(c.model_copy(update=exact) for c in s) for s in measure.stages)
        found.append(measure.model_copy(update={"sent": sent, "stages": chunks}))
    return found


def other_rows(unit: UnitBundle, stage: int, index: int) -> UnitBundle:
    """`stage` sends other rows of a sequence and all agree on that: one bit of one row, perhaps."""
    lie = sha256(b"one bit").digest()
    for at, field in ((stage, "sent"), (stage + 1, "received")):
        items = list(unit.stages[at].evidence)
        items[index] = items[index].model_copy(update={field: lie})
        unit = with_evidence(unit, at, tuple(items))
    return unit


def verdict_on(
    unit: UnitBundle, found: list[SequenceMeasure] | None = None, exact: ExactClass = DEMANDED
) -> Verdict:
    verdict = judge(unit, found or replayed(unit), LIMITS, DOMAIN, exact=exact)
    assert isinstance(verdict, Verdict)  # and no rows are asked for
    return verdict


UNIT = stated(bundle(), [NAME] * 3)


@pytest.mark.parametrize("stages", [1, 3])
def test_what_is_equal_is_accepted(stages: int) -> None:
    assert verdict_on(stated(bundle(stages), [NAME] * stages)).accepted


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("index", [0, 1])
def test_one_row_that_differs_convicts_whoever_sent_it(stage: int, index: int) -> None:
    """However little: no measure is off. A prompt's rows count like all others."""
    verdict = verdict_on(other_rows(UNIT, stage, index))
    assert statuses(verdict) == [HONEST] * stage + [FAULTY] + [UNCHECKED] * (2 - stage)
    assert f"sequence {index}: it made other rows than {NAME} gives" in verdict.reason


@pytest.mark.parametrize("stages", [1, 3])
def test_the_last_stages_rows_convict_though_its_tokens_are_right(stages: int) -> None:
    unit = stated(bundle(stages), [NAME] * stages)
    items = [*unit.stages[-1].evidence]
    for lie in (sha256(b"one bit").digest(), b""):
        items[1] = items[1].model_copy(update={"final": lie})
        assert blamed(verdict_on(with_evidence(unit, stages - 1, tuple(items)))) == [stages - 1]


def test_what_comes_after_it_is_not_judged() -> None:
    unit = other_rows(other_rows(UNIT, 0, 0), 1, 0)  # which follows from what it was handed
    assert blamed(verdict_on(unit)) == [0]


@pytest.mark.parametrize("score", [1e-9, 3.0])
def test_one_other_token_convicts_the_last_stage(score: float) -> None:
    found = replayed(UNIT)
    scores = (0.0, score, *found[1].sampling.scores[2:])
    sampling = found[1].sampling.model_copy(update={"scores": scores, "matches": 19})
    found[1] = found[1].model_copy(update={"sampling": sampling})
    assert blamed(verdict_on(UNIT, found)) == [2]
    assert blamed(verdict_on(other_rows(UNIT, 1, 1), found)) == [1]  # handed to it by that one


def test_tokens_of_an_earlier_generation_reject_and_convict_nobody() -> None:
    told = sequence(1, segments=((0, 3), (5, GENERATION)))
    unit = bundle(sequences=[told])
    for stage in range(3):
        (item,) = evidence(stage, [told])
        sampled = {"sampled_from": 5, "kernel_class": NAME}
        sampled["final"] = link(2, 0) if stage == 2 else b""
        if stage == 2:
            sampled["sent"] = token_digest(told.output_ids, 5)
        if stage == 0:
            sampled["returned"] = token_digest(told.output_ids, 5)
        unit = with_evidence(unit, stage, (item.model_copy(update=sampled),))
    found = replayed(unit)
    for at, expected in ((4, []), (5, [2])):
        scores = [0.0] * 70
        scores[at] = 2.0
        sampling = found[0].sampling.model_copy(update={"scores": tuple(scores), "matches": 69})
        verdict = verdict_on(unit, [found[0].model_copy(update={"sampling": sampling})])
        assert (verdict.accepted, blamed(verdict)) == (False, expected)


@given(st.lists(st.sampled_from([NAME, "", "cuda-bf16-torch-sm90"]), min_size=3, max_size=3))
def test_a_pool_that_demands_a_class_takes_no_other(names: list[str]) -> None:
    verdict = verdict_on(stated(bundle(), names))
    assert verdict.accepted == (names == [NAME] * 3)
    assert blamed(verdict) == []


def test_after_a_stage_of_another_class_limits_decide() -> None:
    undemanded = ExactClass(NAME)
    mixed = stated(bundle(), [NAME, "cpu-fp32-onednn-avx2", NAME])
    assert verdict_on(other_rows(mixed, 1, 0), exact=undemanded).accepted
    assert blamed(verdict_on(other_rows(mixed, 0, 0), exact=undemanded)) == [0]
    other = stated(bundle(), ["cpu-fp32-onednn-avx2"] * 3)
    assert verdict_on(other_rows(other, 0, 0), exact=undemanded).accepted


def test_a_replay_in_an_exact_class_must_tell_all_hashes() -> None:
    with pytest.raises(VerdictError, match="hash all rows"):
        judge(UNIT, measures(UNIT), LIMITS, DOMAIN, exact=DEMANDED)
    assert judge(UNIT, [None, None], LIMITS, DOMAIN, exact=DEMANDED)
