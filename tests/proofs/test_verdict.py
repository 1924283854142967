"""Truth tables of blame: who is named for what, and when nobody is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.blame import Inquiry, Shown
from proofs.bundle import FinishReason, UnitBundle
from proofs.canonical import CanonicalError
from proofs.eip712 import Domain
from proofs.evidence import token_digest
from proofs.faults import Limits
from proofs.measures import ChunkMeasure, SamplingMeasure, SequenceMeasure
from proofs.signing import SignatureError, address_of, checksum_address
from proofs.thresholds import FP32, PROFILES, PUBLISHED, Thresholds, UnknownProfileError, profile
from proofs.verdict import VerdictError, ending_fault, judge
from proofs.verdict_messages import SignedVerdict, StageStatus, StageVerdict, Verdict
from tests.proofs.units import (
    DOMAIN,
    EOS,
    GOOD,
    NULL,
    OFF,
    UNMATCHED,
    bundle,
    evidence,
    link,
    measures,
    sequence,
    with_evidence,
)

HONEST, FAULTY, UNCHECKED = StageStatus.HONEST, StageStatus.FAULTY, StageStatus.UNCHECKED
UNIT = bundle()
LIMITS = Limits.of(PUBLISHED, PUBLISHED)
ANYBODY = checksum_address(b"\x11" * 20)


def shown(
    unit: UnitBundle, asked: Inquiry, error: float | None, chunk: ChunkMeasure, limit: float
) -> Shown | None:
    """What a validator finds of rows that are off by `error`: where these are right, the stage's
    work does not follow from them (its proofs measure as `chunk`); where they are off, it does."""
    if error is None:
        return None
    guilty = 0.0 <= error <= limit
    count = len(unit.sequences[asked.place].output_ids)
    return Shown(
        error,
        (chunk if guilty else GOOD,) * unit.sequences[asked.place].chunks,
        SamplingMeasure(
            tokens=count,
            matches=0 if guilty else count,
            scores=((0.5 if guilty else 0.0),) * count,
        ),
        sent_error=9.0 if guilty else 0.0,
    )


def ruled(
    unit: UnitBundle,
    found: Sequence[SequenceMeasure | None],
    thresholds: Thresholds = PUBLISHED,
    rows: Callable[[Inquiry], float | None] = lambda _: 0.0,
    chunk: ChunkMeasure = OFF,
) -> Verdict:
    """The verdict once every inquiry was answered with how far `rows` are off."""
    revealed: dict[Inquiry, Shown | None] = {}
    limits = Limits.of(thresholds, thresholds)
    for _ in range(len(unit.stages) * len(unit.sequences) + 1):
        answer = judge(unit, found, limits, DOMAIN, revealed)
        if isinstance(answer, Verdict):
            return answer
        assert answer not in revealed
        revealed[answer] = shown(unit, answer, rows(answer), chunk, thresholds.rows_error)
    raise AssertionError("the inquiries do not end")


def statuses(verdict: Verdict) -> list[StageStatus]:
    return [stage.status for stage in verdict.stages]


def blamed(verdict: Verdict) -> list[int]:
    return [stage.stage for stage in verdict.stages if stage.status is FAULTY]


@pytest.mark.parametrize("thresholds", PROFILES.values(), ids=PROFILES)
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
    for place, measure in enumerate(found):
        stages = [list(chunks) for chunks in measure.stages]
        for stage in range(3):
            if (stage, place) in mildly | grossly:
                stages[stage][0] = OFF if (stage, place) in grossly else little
        found[place] = measure.model_copy(update={"stages": tuple(map(tuple, stages))})
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
    limits = Limits.of(tight, PUBLISHED)
    noisy = ChunkMeasure(exp_mismatches=2, mant_err_mean=1.2, mant_err_median=1.0)
    verdict = judge(UNIT, measures(UNIT, {0: noisy}), limits, DOMAIN)
    assert isinstance(verdict, Verdict)
    assert (verdict.accepted, verdict.first_faulty) == (False, None)
    assert Limits.of(PUBLISHED, FP32).convict == PUBLISHED.convicting().looser(FP32.convicting())
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
    revealed = {Inquiry(2, 1, link(1, 1)): Shown(-1.0), Inquiry(1, 1, link(0, 1)): Shown(0.0)}
    verdict = judge(UNIT, measures(UNIT, {2: OFF}), LIMITS, DOMAIN, revealed)
    assert isinstance(verdict, Verdict)
    assert verdict.first_faulty == 1


def test_grossly_bad_rows_accuse_their_sender_whatever_the_receiver_made_of_them() -> None:
    """What layers give for absurd numbers may differ between honest machines."""
    absurd = Shown(1e30, chunks=(OFF,))
    revealed = {Inquiry(2, 1, link(1, 1)): absurd, Inquiry(1, 1, link(0, 1)): Shown(0.0)}
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


def test_tokens_of_an_earlier_build_blame_nobody() -> None:
    unit = with_tokens(10)
    assert ruled(unit, measures(unit)).accepted
    early = (0.5,) * 10
    for place, blame in ((0, []), (1, []), (2, [2])):
        found = measures(unit)
        for number, measure in enumerate(found):
            count = measure.sampling.tokens
            scores = {
                0: (*early, *(0.0,) * (count - 10)),
                1: (*early[:6], *(0.0,) * (count - 6)),
                2: (*(0.0,) * 10, *(0.5,) * (count - 10)),
            }[place]
            sampling = measure.sampling.model_copy(update={"scores": scores, "matches": 0})
            found[number] = measure.model_copy(update={"sampling": sampling})
        verdict = ruled(unit, found)
        assert not verdict.accepted
        assert blamed(verdict) == blame
        assert ("earlier build" in verdict.reason) == (not blame)


def test_tokens_that_the_bundle_alone_holds_blame_nobody() -> None:
    unit = with_tokens(0, output=(99,) * 70)
    verdict = ruled(unit, measures(unit))
    assert statuses(verdict) == [UNCHECKED] * 3
    assert "other tokens" in verdict.reason


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
    scores = (*found[0].sampling.scores[:-1], 0.5)
    sampling = found[0].sampling.model_copy(update={"scores": scores, "matches": 30})
    found[0] = found[0].model_copy(update={"sampling": sampling})
    assert ruled(unit, found, PUBLISHED).accepted  # one such token is bf16 noise
    assert blamed(ruled(unit, found, FP32)) == [2]


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
def test_an_ending_against_the_rules_is_rejected_without_blame(
    changes: dict[str, object], reason: str
) -> None:
    unit = bundle(sequences=[sequence(1, **changes)])
    verdict = ruled(unit, measures(unit), PUBLISHED)
    assert not verdict.accepted
    assert statuses(verdict) == [UNCHECKED] * 3  # what was asked for is the assembler's word
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
