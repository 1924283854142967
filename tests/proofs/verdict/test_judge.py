"""Truth tables of verdicts: form, boundaries, sampling, endings, and verdicts as messages."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.config.profiles import load_profile
from proofs.encoding.canonical import CanonicalError
from proofs.encoding.eip712 import Domain
from proofs.encoding.signing import SignatureError, address_of, checksum_address
from proofs.evidence.sequence import FinishReason
from proofs.thresholds.builtin import BUILTIN, FP32, PUBLISHED
from proofs.thresholds.limits import Thresholds
from proofs.thresholds.measures import ChunkMeasure, RevealedRowsCheck, SequenceMeasure
from proofs.thresholds.named import UnknownThresholdsError, builtin
from proofs.verdict.blame import inquiry_of
from proofs.verdict.exceedances import RejectConvictLimits
from proofs.verdict.judge import VerdictError, judge
from proofs.verdict.message import SignedVerdict, StageStatus, StageVerdict, Verdict
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
from tests.proofs.verdict.ruling import (
    FAULTY,
    HONEST,
    LIMITS,
    UNCHECKED,
    UNIT,
    blamed,
    ruled,
    statuses,
)

BF16 = load_profile("smollm2-bf16", Path()).thresholds
ANYBODY = checksum_address(b"\x11" * 20)


@pytest.mark.parametrize("thresholds", BUILTIN.values(), ids=BUILTIN)
@pytest.mark.parametrize("stages", [1, 2, 5])
def test_honest_work_is_accepted(thresholds: Thresholds, stages: int) -> None:
    unit = bundle(stages)
    verdict = ruled(unit, measures(unit), thresholds)
    assert verdict.accepted
    assert verdict.first_faulty is None
    assert verdict.faulty_peer == ""
    assert statuses(verdict) == [HONEST] * stages
    assert verdict.bundle_id == unit.content_id


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("chunk", [NULL, OFF, UNMATCHED], ids=["null", "off", "unmatched"])
def test_one_bad_stage_is_blamed_alone(stage: int, chunk: ChunkMeasure) -> None:
    verdict = ruled(UNIT, measures(UNIT, {stage: chunk}), PUBLISHED)
    assert not verdict.accepted
    assert blamed(verdict) == [stage]
    assert verdict.first_faulty == stage
    assert verdict.faulty_peer == f"peer{stage}"
    assert "sequence 1: chunk 0" in verdict.reason
    assert statuses(verdict).count(HONEST) == 2


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_corrupt_stage_spoils_the_later_ones_without_blame(stage: int) -> None:
    spoilt = dict.fromkeys(range(stage, 3), OFF)
    verdict = ruled(UNIT, measures(UNIT, spoilt), PUBLISHED)
    expected = [HONEST] * stage + [FAULTY] + [UNCHECKED] * (2 - stage)
    assert statuses(verdict) == expected


def test_form_is_every_stages_own_fault() -> None:
    verdict = ruled(UNIT, measures(UNIT, {0: NULL, 2: NULL}), PUBLISHED)
    assert statuses(verdict) == [FAULTY, HONEST, FAULTY]
    assert verdict.first_faulty == 0


def test_a_boundary_off_before_a_null_proof_is_blamed_first() -> None:
    verdict = ruled(UNIT, measures(UNIT, {0: OFF, 1: OFF, 2: NULL}), PUBLISHED)
    assert statuses(verdict) == [FAULTY, UNCHECKED, FAULTY]


def test_a_boundary_off_after_a_null_proof_is_unchecked() -> None:
    verdict = ruled(UNIT, measures(UNIT, {0: NULL, 1: OFF, 2: OFF}), PUBLISHED)
    assert statuses(verdict) == [FAULTY, UNCHECKED, UNCHECKED]


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("kind", ["fewer", "more", "none"])
def test_a_wrong_count_of_proofs_is_that_stages_fault(stage: int, kind: str) -> None:
    first, second = evidence(stage, UNIT.sequences)
    proofs = {"fewer": first.proofs[:1], "more": (*first.proofs, first.proofs[0]), "none": ()}
    items = (first.model_copy(update={"proofs": proofs[kind]}), second)
    unit = with_evidence(UNIT, stage, items)
    verdict = ruled(unit, measures(unit))
    assert blamed(verdict) == [stage]
    assert "sequence 0" in verdict.reason


def test_sequences_that_were_not_chosen_are_held_to_all_but_a_replay() -> None:
    found: list[SequenceMeasure | None] = [*measures(UNIT, {1: OFF})]
    found[1] = None  # where the spoilt chunk was
    verdict = ruled(UNIT, found)
    assert verdict.accepted
    assert verdict.replayed == (0,)
    nothing = ruled(UNIT, [None, None])
    assert nothing.accepted
    assert (nothing.replayed, nothing.figures) == ((), {})
    other = sequence(2, 20, output_ids=(999, *UNIT.sequences[1].output_ids[1:]))
    altered = UNIT.model_copy(update={"sequences": (UNIT.sequences[0], other)})
    assert not ruled(altered, [None, None]).accepted


@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize(("scores", "match_every"), [(0.2, 1), (0.0, 3), (math.nan, 1)])
def test_sampling_is_the_last_stages_fault(stages: int, scores: float, match_every: int) -> None:
    unit = bundle(stages)
    verdict = ruled(unit, measures(unit, None, scores, match_every), PUBLISHED)
    assert statuses(verdict) == [HONEST] * (stages - 1) + [FAULTY]
    assert "sampling" in verdict.reason


def test_sampling_is_not_looked_at_where_a_boundary_failed() -> None:
    verdict = ruled(UNIT, measures(UNIT, {0: OFF}, 0.5, 5), PUBLISHED)
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
    scores = (*found[0].sampling.scores[:-1], 0.9)
    sampling = found[0].sampling.model_copy(update={"scores": scores, "matches": 30})
    found[0] = found[0].model_copy(update={"sampling": sampling})
    assert ruled(unit, found, PUBLISHED).accepted  # one such token is bf16 noise
    assert blamed(ruled(unit, found, FP32)) == [2]


@pytest.mark.parametrize("tokens", [1, 2, 70])
@pytest.mark.parametrize("thresholds", [PUBLISHED, BF16], ids=["published", "bf16"])
def test_one_token_that_no_rounding_explains_convicts(thresholds: Thresholds, tokens: int) -> None:
    """Even where it is the whole output: what noise and logits would have chosen is logits away."""
    unit = bundle(sequences=[sequence(1, tokens), sequence(2, 20)])
    for score, expected in ((2.5, StageStatus.FAULTY), (1.2, StageStatus.DOUBTED), (0.4, HONEST)):
        found = measures(unit)
        scores = (score, *found[0].sampling.scores[1:])
        sampling = found[0].sampling.model_copy(update={"scores": scores, "matches": tokens - 1})
        found[0] = found[0].model_copy(update={"sampling": sampling})
        limits = RejectConvictLimits.of(thresholds, PUBLISHED)
        check = RevealedRowsCheck(error=0.0, sampling=sampling)
        verdict = judge(unit, found, limits, DOMAIN, {inquiry_of(unit, 2, 0): check})
        assert isinstance(verdict, Verdict)
        assert statuses(verdict) == [HONEST, HONEST, expected]


def test_unsigned_claims_and_altered_outputs_blame_nobody() -> None:
    unsigned = [item.model_copy(update={"receipt_signature": None}) for item in UNIT.stages]
    unit = UNIT.model_copy(update={"stages": (UNIT.stages[0], *unsigned[1:])})
    tokens = (999, *UNIT.sequences[1].output_ids[1:])
    other = sequence(2, 20, output_ids=tokens)
    altered = UNIT.model_copy(update={"sequences": (UNIT.sequences[0], other)})
    for spoilt in (unit, altered):
        verdict = ruled(spoilt, measures(spoilt, {1: NULL}), PUBLISHED)
        assert not verdict.accepted
        assert statuses(verdict) == [UNCHECKED] * 3
    assert "proved other tokens" in verdict.reason
    for change in ({"model_id": bytes(32)}, {"generation": 5}):
        elsewhere = UNIT.model_copy(update=change)  # every proof would be off
        verdict = ruled(elsewhere, measures(elsewhere, {0: OFF, 1: OFF, 2: OFF}), PUBLISHED)
        assert statuses(verdict) == [UNCHECKED] * 3
    foreign = judge(UNIT, measures(UNIT), LIMITS, Domain(chain_id=1, verifying_contract=ANYBODY))
    assert isinstance(foreign, Verdict)
    assert statuses(foreign) == [UNCHECKED] * 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([GOOD, OFF, NULL, UNMATCHED]), min_size=3, max_size=3))
def test_the_first_fault_in_ring_order_is_always_named(chunks: list[ChunkMeasure]) -> None:
    verdict = ruled(UNIT, measures(UNIT, dict(enumerate(chunks))), PUBLISHED)
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
    assert builtin("published") is PUBLISHED
    assert (PUBLISHED.exp_mismatches, PUBLISHED.mant_err_mean) == (38, 10.0)
    with pytest.raises(UnknownThresholdsError, match="fp32"):
        builtin("fp64")


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
            judge(UNIT, wrong, LIMITS, DOMAIN)


DOUBTFUL = (StageVerdict(stage=0, peer_id="peer0", status=StageStatus.DOUBTED),)


def test_signed_verdicts_round_trip_and_name_their_signer() -> None:
    key = b"\x33" * 32
    verdict = ruled(UNIT, measures(UNIT, {1: NULL}), PUBLISHED)
    signed = SignedVerdict.sign(verdict, key)
    read = SignedVerdict.from_bytes(signed.to_bytes())
    assert read == signed
    assert read.signer() == address_of(key)
    assert read.verdict.summary()["faulty_peer"] == "peer1"
    other = ruled(UNIT, measures(UNIT), PUBLISHED)
    with pytest.raises(SignatureError):
        signed.model_copy(update={"verdict": other}).signer()
    with pytest.raises(CanonicalError):
        SignedVerdict.from_bytes(signed.to_bytes()[:-1])


@pytest.mark.parametrize("stages", [16, 256])
def test_verdicts_on_long_rings_can_be_read(stages: int) -> None:
    figures = ("malformed", "exp_mismatches", "mant_err_mean", "mant_err_median")
    verdict = Verdict(
        unit_id=bytes(32),
        bundle_id=bytes(32),
        accepted=True,
        stages=tuple(
            StageVerdict(stage=stage, peer_id=f"peer{stage}", status=HONEST)
            for stage in range(stages)
        ),
        figures={f"stage{stage}.{name}": 0.5 for stage in range(stages) for name in figures},
    )
    assert Verdict.from_bytes(verdict.to_bytes()) == verdict
    signed = SignedVerdict.sign(verdict, b"\x33" * 32)
    assert SignedVerdict.from_bytes(signed.to_bytes()) == signed


@pytest.mark.parametrize(
    "changes",
    [
        {"accepted": True},
        {"first_faulty": 2},
        {"first_faulty": None},
        {"stages": ()},
        {"reason": ""},
        {"accepted": True, "reason": "", "first_faulty": None, "stages": DOUBTFUL},
    ],
)
def test_verdicts_that_contradict_themselves_are_refused(changes: dict[str, object]) -> None:
    verdict = ruled(UNIT, measures(UNIT, {1: NULL}), PUBLISHED)
    with pytest.raises(CanonicalError):
        Verdict.from_bytes(verdict.model_copy(update=changes).to_bytes())
