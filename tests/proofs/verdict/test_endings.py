"""Outputs end where their request says, or stage 0 answers for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.evidence.bundle import UnitBundle
from proofs.evidence.endings import (
    NO_STOP,
    EndingFault,
    StopReading,
    bundle_ending_fault,
    ending_of,
)
from proofs.evidence.sequence import FinishReason, ending_fault
from proofs.verdict.judge import StopReadings, VerdictError, judge, judge_words
from proofs.verdict.message import Verdict
from tests.proofs.units import (
    DOMAIN,
    EOS,
    GENERATION,
    bundle,
    changed,
    evidence,
    measures,
    sequence,
    with_evidence,
)
from tests.proofs.verdict.ruling import LIMITS, UNCHECKED, blamed, statuses

STOPS = ("\n\n",)
STOP, LENGTH, BY_EOS = FinishReason.STOP, FinishReason.LENGTH, FinishReason.EOS


def verdict_on(unit: UnitBundle, stops: StopReadings | None = None) -> Verdict:
    found = judge(unit, measures(unit), LIMITS, DOMAIN, None, stops)
    assert isinstance(found, Verdict)
    words = judge_words(unit, DOMAIN, stops)
    assert (
        (words is None) if found.accepted else words is not None and blamed(words) == blamed(found)
    )
    return found


@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize(
    ("changes", "read", "reason"),
    [
        ({"max_tokens": 69}, NO_STOP, "goes on for 1 tokens after it ended by 'length'"),
        ({"output_ids": (EOS, *range(10, 79))}, NO_STOP, "goes on for 69 tokens"),
        ({"max_tokens": 71}, NO_STOP, "ends after 70 of 71 tokens without a reason"),
        ({"max_tokens": 71, "reason": STOP, "stop": STOPS}, NO_STOP, "without a reason"),
        ({"max_tokens": 80, "reason": BY_EOS}, NO_STOP, "without a reason"),
        ({"stop": STOPS}, StopReading(2), "goes on for 68 tokens after it ended by 'stop'"),
    ],
)
def test_an_output_that_ends_elsewhere_convicts_stage_0(
    stages: int, changes: dict[str, Any], read: StopReading, reason: str
) -> None:
    """As every stage signed for these terms, and the first and the last one for these tokens."""
    unit = bundle(stages, sequences=[sequence(2, 20), sequence(1, **changes)])
    verdict = verdict_on(unit, [None, read])
    assert blamed(verdict) == [0]
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("changes", "read"),
    [
        ({"output_ids": (10, EOS), "max_tokens": 2}, NO_STOP),
        ({"reason": BY_EOS}, NO_STOP),
        ({"reason": STOP, "stop": STOPS}, NO_STOP),
        ({"reason": LENGTH, "stop": STOPS}, StopReading(70)),
    ],
)
def test_another_reason_for_a_right_end_is_the_assemblers_word(
    changes: dict[str, Any], read: StopReading
) -> None:
    verdict = verdict_on(bundle(sequences=[sequence(1, **changes)]), [read])
    assert (verdict.accepted, statuses(verdict)) == (False, [UNCHECKED] * 3)


@pytest.mark.parametrize("change", [{"stop": ("a",)}, {"max_tokens": 60}, {"eos_ids": (11,)}])
def test_nobody_is_convicted_by_other_terms_than_were_signed(change: dict[str, Any]) -> None:
    unit = bundle(sequences=[sequence(1)])
    told = unit.model_copy(update={"sequences": (changed(unit.sequences[0], **change),)})
    verdict = verdict_on(told, [StopReading(3)])
    assert (verdict.accepted, statuses(verdict)) == (False, [UNCHECKED] * 3)
    assert "another ring, sampling or ending" in verdict.reason


def test_a_text_that_has_stop_strings_must_be_read() -> None:
    unit = bundle(sequences=[sequence(1, stop=STOPS)])
    for stops in (None, [None]):
        with pytest.raises(VerdictError, match="read the text"):
            judge(unit, measures(unit), LIMITS, DOMAIN, None, stops)
    assert verdict_on(unit, [NO_STOP]).accepted


def test_a_doubtful_reading_rejects_and_convicts_nobody() -> None:
    unit = bundle(sequences=[sequence(1, stop=STOPS)])
    verdict = verdict_on(unit, [StopReading(2, certain=False)])
    assert (verdict.accepted, blamed(verdict)) == (False, [])


def test_what_an_earlier_generation_sampled_is_not_stage_0s_doing() -> None:
    output = (10, EOS, *range(20, 40))
    made = sequence(1, output_ids=output, max_tokens=30, segments=((0, 3), (5, GENERATION)))
    fault = bundle_ending_fault(made, GENERATION, NO_STOP)
    assert fault is not None
    assert (fault.by_head, fault.ran_on) == (False, 20)
    own = made.model_copy(update={"segments": ((0, 3), (2, GENERATION))})
    assert bundle_ending_fault(own, GENERATION, NO_STOP) == EndingFault(fault.reason, True, 20)
    whole = sequence(1, max_tokens=90, segments=((0, 3),))  # its last token nobody signed for here
    fault = bundle_ending_fault(whole, GENERATION, NO_STOP)
    assert fault is not None
    assert not fault.by_head


def test_a_head_that_says_it_sampled_from_elsewhere_contradicts_its_neighbours() -> None:
    unit = bundle(sequences=[sequence(1, max_tokens=90)])
    (item,) = evidence(0, unit.sequences)
    lying = with_evidence(unit, 0, (item.model_copy(update={"sampled_from": 70}),))
    assert blamed(verdict_on(lying, [NO_STOP])) == [0, 1]  # who countersigned each other


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=12).map(tuple),
    st.integers(1, 12),
    st.none() | st.integers(1, 12),
)
def test_every_output_has_one_end_at_most(
    output: tuple[int, ...], most: int, stop: int | None
) -> None:
    """An output cut there is right, one that is longer or shorter is not; and whatever a report's
    receiver finds wrong on ids alone, a judge does too."""
    request = sequence(1, max_tokens=most, stop=STOPS).request
    ended = ending_of(request, output, stop)

    def fault(ids: tuple[int, ...], reason: FinishReason) -> EndingFault | None:
        told = sequence(1, max_tokens=most, stop=STOPS, output_ids=ids, reason=reason)
        read = StopReading(stop if stop is not None and stop <= len(ids) else None)
        found = bundle_ending_fault(told, GENERATION, read)
        if ending_fault(request, ids, reason):
            assert found is not None
        return found

    for count in range(1, len(output) + 1):
        faults = [fault(output[:count], reason) for reason in FinishReason]
        if ended is not None and count == ended[0]:
            assert [
                reason for reason, one in zip(FinishReason, faults, strict=True) if not one
            ] == [ended[1]]
        else:
            assert all(one is not None and one.by_head for one in faults)
