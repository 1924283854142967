"""Truth tables of blame: who is named for what, and when nobody is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.bundle import FinishReason, StageEvidence
from proofs.canonical import CanonicalError
from proofs.measures import ChunkMeasure
from proofs.signing import SignatureError, address_of
from proofs.thresholds import FP32, PROFILES, PUBLISHED, UnknownProfileError, profile
from proofs.verdict import VerdictError, ending_fault, judge
from proofs.verdict_messages import SignedVerdict, StageStatus, Verdict
from tests.proofs.units import (
    DOMAIN,
    EOS,
    GOOD,
    NULL,
    OFF,
    UNMATCHED,
    bundle,
    evidence,
    measures,
    sequence,
    with_evidence,
)

HONEST, FAULTY, UNCHECKED = StageStatus.HONEST, StageStatus.FAULTY, StageStatus.UNCHECKED
UNIT = bundle()


def statuses(verdict: Verdict) -> list[StageStatus]:
    return [stage.status for stage in verdict.stages]


def blamed(verdict: Verdict) -> list[int]:
    return [stage.stage for stage in verdict.stages if stage.status is FAULTY]


@pytest.mark.parametrize("thresholds", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("stages", [1, 2, 5])
def test_honest_work_is_accepted(thresholds: object, stages: int) -> None:
    unit = bundle(stages)
    verdict = judge(unit, measures(unit), thresholds, DOMAIN)  # type: ignore[arg-type]
    assert verdict.accepted
    assert verdict.first_faulty is None
    assert verdict.faulty_peer == ""
    assert statuses(verdict) == [HONEST] * stages
    assert verdict.bundle_id == unit.content_id


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("chunk", [NULL, OFF, UNMATCHED], ids=["null", "off", "unmatched"])
def test_one_bad_stage_is_blamed_alone(stage: int, chunk: ChunkMeasure) -> None:
    verdict = judge(UNIT, measures(UNIT, {stage: chunk}), PUBLISHED, DOMAIN)
    assert not verdict.accepted
    assert blamed(verdict) == [stage]
    assert verdict.first_faulty == stage
    assert verdict.faulty_peer == f"peer{stage}"
    assert "sequence 1, chunk 0" in verdict.reason
    assert statuses(verdict).count(HONEST) == 2


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_corrupt_stage_spoils_the_later_ones_without_blame(stage: int) -> None:
    spoilt = dict.fromkeys(range(stage, 3), OFF)
    verdict = judge(UNIT, measures(UNIT, spoilt), PUBLISHED, DOMAIN)
    expected = [HONEST] * stage + [FAULTY] + [UNCHECKED] * (2 - stage)
    assert statuses(verdict) == expected


def test_form_is_every_stages_own_fault() -> None:
    verdict = judge(UNIT, measures(UNIT, {0: NULL, 2: NULL}), PUBLISHED, DOMAIN)
    assert statuses(verdict) == [FAULTY, HONEST, FAULTY]
    assert verdict.first_faulty == 0


def test_a_boundary_off_before_a_null_proof_is_blamed_first() -> None:
    verdict = judge(UNIT, measures(UNIT, {0: OFF, 1: OFF, 2: NULL}), PUBLISHED, DOMAIN)
    assert statuses(verdict) == [FAULTY, UNCHECKED, FAULTY]


def test_a_boundary_off_after_a_null_proof_is_unchecked() -> None:
    verdict = judge(UNIT, measures(UNIT, {0: NULL, 1: OFF, 2: OFF}), PUBLISHED, DOMAIN)
    assert statuses(verdict) == [FAULTY, UNCHECKED, UNCHECKED]


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("kind", ["missing", "double", "rows", "fewer", "more", "none"])
def test_evidence_out_of_shape_is_that_stages_fault(stage: int, kind: str) -> None:
    first, second = evidence(stage, UNIT.sequences)
    proofs = first.proofs
    items: dict[str, tuple[StageEvidence, ...]] = {
        "missing": (second,),
        "double": (first, first, second),
        "rows": (first.model_copy(update={"rows": 64}), second),
        "fewer": (first.model_copy(update={"proofs": proofs[:1]}), second),
        "more": (first.model_copy(update={"proofs": (*proofs, proofs[0])}), second),
        "none": (),
    }
    unit = with_evidence(UNIT, stage, items[kind])
    verdict = judge(unit, measures(unit), PUBLISHED, DOMAIN)
    assert blamed(verdict) == [stage]
    assert "sequence 0" in verdict.reason


@pytest.mark.parametrize("stage", [1, 2])
def test_neighbours_that_signed_for_different_rows_leave_it_unresolved(stage: int) -> None:
    first, second = evidence(stage, UNIT.sequences)
    unit = with_evidence(UNIT, stage, (first, second.model_copy(update={"received": bytes(32)})))
    spoilt = dict.fromkeys(range(stage, 3), OFF)
    verdict = judge(unit, measures(unit, spoilt), PUBLISHED, DOMAIN)
    assert not verdict.accepted
    assert blamed(verdict) == []
    assert verdict.first_faulty is None
    assert f"stages {stage - 1} and {stage}" in verdict.reason
    assert statuses(verdict) == [HONEST] * (stage - 1) + [UNCHECKED] * (4 - stage)
    assert judge(unit, measures(unit), PUBLISHED, DOMAIN).accepted  # harmless where all pass


@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize(("scores", "match_every"), [(0.2, 1), (0.0, 3), (math.nan, 1)])
def test_sampling_is_the_last_stages_fault(stages: int, scores: float, match_every: int) -> None:
    unit = bundle(stages)
    verdict = judge(unit, measures(unit, None, scores, match_every), PUBLISHED, DOMAIN)
    assert statuses(verdict) == [HONEST] * (stages - 1) + [FAULTY]
    assert "sampling" in verdict.reason


def test_sampling_is_not_looked_at_where_a_boundary_failed() -> None:
    verdict = judge(UNIT, measures(UNIT, {0: OFF}, 0.5, 5), PUBLISHED, DOMAIN)
    assert blamed(verdict) == [0]


def test_a_few_unlucky_tokens_do_not_fail_a_short_unit() -> None:
    assert PUBLISHED.passes_sampling(10, 7, 1.5)
    assert not PUBLISHED.passes_sampling(1000, 700, 150.0)
    assert FP32.passes_sampling(20, 19, 0.5)
    assert not FP32.passes_sampling(20, 18, 0.5)


def test_an_end_of_sequence_token_that_was_not_sampled_is_the_last_stages_fault() -> None:
    output = (*range(10, 40), EOS)
    unit = bundle(sequences=[
        sequence(1, output_ids=output, reason=FinishReason.EOS), sequence(2, 200)
    ])  # fmt: skip
    found = measures(unit)
    scores = (*found[0].sampling.scores[:-1], 0.5)
    sampling = found[0].sampling.model_copy(update={"scores": scores, "matches": 30})
    found[0] = found[0].model_copy(update={"sampling": sampling})
    assert judge(unit, found, PUBLISHED, DOMAIN).accepted  # one such token is bf16 noise
    assert blamed(judge(unit, found, FP32, DOMAIN)) == [2]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"max_tokens": 69}, "at most 69"),
        ({"output_ids": (EOS, *range(10, 79))}, "goes on after"),
        ({"output_ids": (10, EOS), "max_tokens": 2}, "but says 'length'"),
        ({"reason": FinishReason.EOS}, "says 'eos'"),
        ({"max_tokens": 71}, "says 'length' after 70 of 71"),
        ({"reason": FinishReason.STOP}, "no stop string"),
    ],
)
def test_an_ending_against_the_rules_is_stage_0s_fault(
    changes: dict[str, object], reason: str
) -> None:
    unit = bundle(sequences=[sequence(1, **changes)])
    verdict = judge(unit, measures(unit), PUBLISHED, DOMAIN)
    assert blamed(verdict) == [0]
    assert reason in verdict.reason


def test_endings_by_the_rules() -> None:
    assert ending_fault(sequence(1)) == ""
    assert ending_fault(sequence(1, reason=FinishReason.STOP, stop=("\n",))) == ""
    ended = sequence(1, output_ids=(10, EOS), reason=FinishReason.EOS)
    assert ending_fault(ended) == ""
    assert ending_fault(sequence(1, eos_ids=(), output_ids=(EOS,) * 70)) == ""


def test_unsigned_claims_and_altered_outputs_blame_nobody() -> None:
    unsigned = [item.model_copy(update={"receipt_signature": None}) for item in UNIT.stages]
    unit = UNIT.model_copy(update={"stages": (UNIT.stages[0], *unsigned[1:])})
    tokens = (999, *UNIT.sequences[1].output_ids[1:])
    other = sequence(2, 20, output_ids=tokens)
    altered = UNIT.model_copy(update={"sequences": (UNIT.sequences[0], other)})
    for spoilt in (unit, altered):
        verdict = judge(spoilt, measures(spoilt, {1: NULL}), PUBLISHED, DOMAIN)
        assert not verdict.accepted
        assert statuses(verdict) == [UNCHECKED] * 3
    assert "proved other tokens" in verdict.reason
    assert judge(unit, measures(unit), PUBLISHED).accepted  # without a domain: not looked at


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([GOOD, OFF, NULL, UNMATCHED]), min_size=3, max_size=3))
def test_the_first_fault_in_ring_order_is_always_named(chunks: list[ChunkMeasure]) -> None:
    verdict = judge(UNIT, measures(UNIT, dict(enumerate(chunks))), PUBLISHED, DOMAIN)
    bad = [stage for stage, chunk in enumerate(chunks) if chunk is not GOOD]
    assert verdict.first_faulty == (bad[0] if bad else None)
    assert verdict.accepted == (not bad)
    for stage, chunk in enumerate(chunks):
        assert (verdict.stages[stage].status is HONEST) == (chunk is GOOD)
        if chunk is NULL:
            assert verdict.stages[stage].status is FAULTY


@given(st.floats(), st.floats(), st.integers(-5, 200))
def test_thresholds_pass_only_what_is_inside(mean: float, median: float, count: int) -> None:
    chunk = ChunkMeasure(exp_mismatches=count, mant_err_mean=mean, mant_err_median=median)
    inside = 0 <= count <= 38 and 0.0 <= mean <= 10.0 and 0.0 <= median <= 8.0
    assert PUBLISHED.passes(chunk) == inside


def test_profiles_are_found_by_name() -> None:
    assert profile("published") is PUBLISHED
    assert (PUBLISHED.exp_mismatches, PUBLISHED.mant_err_mean) == (38, 10.0)
    with pytest.raises(UnknownProfileError, match="fp32"):
        profile("fp64")


def test_measurements_must_cover_the_bundle() -> None:
    good = measures(UNIT)
    short = good[1].sampling.model_copy(update={"scores": ()})
    for wrong in (
        good[:1],
        good[::-1],
        [good[0], good[1].model_copy(update={"stages": good[1].stages[:2]})],
        [good[0], good[1].model_copy(update={"stages": ((), (), ())})],
        [good[0], good[1].model_copy(update={"sampling": short})],
    ):
        with pytest.raises(VerdictError):
            judge(UNIT, wrong, PUBLISHED)


def test_signed_verdicts_round_trip_and_name_their_signer() -> None:
    key = b"\x33" * 32
    verdict = judge(UNIT, measures(UNIT, {1: NULL}), PUBLISHED, DOMAIN)
    signed = SignedVerdict.sign(verdict, key)
    read = SignedVerdict.from_bytes(signed.to_bytes())
    assert read == signed
    assert read.signer() == address_of(key)
    assert read.verdict.summary()["faulty_peer"] == "peer1"
    other = judge(UNIT, measures(UNIT), PUBLISHED, DOMAIN)
    with pytest.raises(SignatureError):
        signed.model_copy(update={"verdict": other}).signer()
    with pytest.raises(CanonicalError):
        SignedVerdict.from_bytes(signed.to_bytes()[:-1])


@pytest.mark.parametrize(
    "changes",
    [
        {"accepted": True},
        {"first_faulty": 2},
        {"first_faulty": None},
        {"stages": ()},
        {"reason": ""},
    ],
)
def test_verdicts_that_contradict_themselves_are_refused(changes: dict[str, object]) -> None:
    verdict = judge(UNIT, measures(UNIT, {1: NULL}), PUBLISHED, DOMAIN)
    with pytest.raises(CanonicalError):
        Verdict.from_bytes(verdict.model_copy(update=changes).to_bytes())
