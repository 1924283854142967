"""Blame under attack: the guilty stage is named, and no lie of others names an honest one."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proofs.evidence.bundle import StageClaim
from proofs.evidence.sequence import BundleSequence, FinishReason
from proofs.thresholds.builtin import PUBLISHED
from proofs.thresholds.measures import ChunkMeasure
from proofs.verdict.exceedances import RejectConvictLimits
from proofs.verdict.message import StageStatus, Verdict
from tests.proofs.units import GOOD, NULL, OFF, changed, sequence
from tests.proofs.verdict.ring_model import (
    FAR,
    HONEST,
    WRONG_TOKEN,
    Deed,
    Work,
    assemble,
    do_work,
    hold_court,
    sign_claim,
)

LIMITS = RejectConvictLimits.of(PUBLISHED, PUBLISHED)
ASKED = (
    sequence(1, output_ids=tuple(range(10, 50)), max_tokens=40),
    sequence(2, output_ids=tuple(range(10, 13)), max_tokens=3),
)


def verdict_on(work: Work) -> Verdict | None:
    """None where somebody refused to countersign: no bundle, no pay, nobody named."""
    claims = [sign_claim(work, stage) for stage in range(len(work.deeds))]
    bound = [claim for claim in claims if claim is not None]
    return hold_court(work, assemble(work, bound), LIMITS) if bound == claims else None


def blamed(verdict: Verdict) -> set[int]:
    return {s.stage for s in verdict.stages if s.status is StageStatus.FAULTY}


FRAUDS = {
    "cheap weights": Deed(spoil=FAR),
    "cheap weights, no rows shown": Deed(spoil=FAR, reveals=False),
    "right proof, other rows": Deed(spoil=FAR, proof=GOOD),
    "null proof": Deed(proof=NULL),
    "wrong tokens": Deed(tokens=True),
}


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
@pytest.mark.parametrize("fraud", FRAUDS)
@pytest.mark.parametrize("hides", [0, 1, 2])
def test_every_fraud_of_one_stage_is_named_wherever_it_stands(
    stages: int, fraud: str, hides: int
) -> None:
    """The error does not show in the proofs of `hides` honest stages after the guilty one."""
    for guilty in range(stages):
        if fraud == "wrong tokens" and guilty != stages - 1:
            continue
        deeds = [HONEST] * stages
        for follower in range(guilty + 1, min(guilty + 1 + hides, stages)):
            deeds[follower] = Deed(hides=True)
        deeds[guilty] = FRAUDS[fraud]
        verdict = verdict_on(do_work(b"u" * 32, ASKED, tuple(deeds)))
        assert verdict is not None
        if fraud == "right proof, other rows" and guilty < stages - 1 <= guilty + hides:
            assert verdict.accepted  # the error changed no proof and no token
            continue
        assert not verdict.accepted
        assert blamed(verdict) == {guilty}


@pytest.mark.parametrize("stages", [2, 3, 5])
def test_a_receiver_that_denies_what_it_got_is_named_or_gets_no_bundle(stages: int) -> None:
    for guilty in range(1, stages):
        deeds = [HONEST] * stages
        deeds[guilty] = Deed(spoil=FAR, says={"received": b"x" * 32})
        assert verdict_on(do_work(b"u" * 32, ASKED, tuple(deeds))) is None
        deeds[guilty] = Deed(spoil=FAR, says={"received": b"x" * 32}, signs_anything=True)
        verdict = verdict_on(do_work(b"u" * 32, ASKED, tuple(deeds)))
        assert verdict is not None
        assert blamed(verdict) == {guilty}


@pytest.mark.parametrize("stages", [2, 3, 5])
def test_a_sender_that_signs_for_other_rows_gets_no_countersignature(stages: int) -> None:
    for guilty in range(stages):
        deeds = [HONEST] * stages
        deeds[guilty] = Deed(spoil=FAR, proof=GOOD, says={"sent": b"x" * 32})
        assert verdict_on(do_work(b"u" * 32, ASKED, tuple(deeds))) is None


SAID = st.fixed_dictionaries(
    {},
    optional={
        "sent": st.sampled_from([b"a" * 32, b"b" * 32]),
        "received": st.sampled_from([b"a" * 32, b"b" * 32]),
        "returned": st.sampled_from([b"a" * 32, b""]),
        "terms": st.just(b"t" * 32),
        "rows": st.integers(0, 80),
        "proofs": st.just(()),
        "sampled_from": st.integers(0, 41),
    },
)


@st.composite
def frauds(draw: st.DrawFn) -> Deed:
    """Mostly quiet ones: whoever signs what its neighbours contradict gets no bundle at all."""
    lies = draw(st.integers(0, 3)) == 0
    proof: ChunkMeasure | None = draw(st.sampled_from([GOOD, GOOD, OFF, NULL]))
    return Deed(
        spoil=draw(st.sampled_from([0.0, FAR, FAR])),
        proof=proof,
        hides=draw(st.booleans()),
        says=draw(SAID) if lies else {},
        terms=b"t" * 32 if lies and draw(st.booleans()) else b"",
        tokens=draw(st.booleans()),
        reveals=draw(st.booleans()),
        signs_anything=draw(st.booleans()),
    )


ASSEMBLERS_WORD = st.fixed_dictionaries(
    {},
    optional={
        "prompt_ids": st.just((5, 6, 8)),
        "output_ids": st.sampled_from(
            [(WRONG_TOKEN, *range(11, 50)), (*range(10, 49), WRONG_TOKEN), tuple(range(10, 30))]
        ),
        "max_tokens": st.sampled_from([1, 1000]),
        "eos_ids": st.sampled_from([(12,), (WRONG_TOKEN,)]),
        "reason": st.sampled_from(list(FinishReason)),
        "segments": st.just(((0, 3), (20, 0))),
        "noise": st.none(),
    },
)


class Conspiracy(RuleBasedStateMachine):
    """Some stages, the assembler and old messages work together against the honest stages.

    Everything that honest stages ever signed stays in the conspirators' hands and may be put into
    any bundle; they sign whatever they like themselves.
    """

    def __init__(self) -> None:
        super().__init__()
        self.units = 0
        self.claims: list[StageClaim] = []
        self.verdicts: list[Verdict] = []

    @initialize(stages=st.integers(2, 4), dishonest=st.sets(st.integers(0, 3), min_size=1))
    def found(self, stages: int, dishonest: set[int]) -> None:
        self.stages = stages
        self.dishonest = {stage % stages for stage in dishonest}

    def work(self, data: st.DataObject) -> Work:
        deeds = tuple(
            data.draw(frauds(), label=f"stage {stage}")
            if stage in self.dishonest
            else Deed(hides=data.draw(st.integers(0, 3), label=f"stage {stage} hides") == 0)
            for stage in range(self.stages)
        )
        self.units += 1
        known = data.draw(st.sampled_from([0, 0, 0, 20]), label="tokens of an earlier generation")
        return do_work(sha256(b"%d" % self.units).digest(), ASKED, deeds, known)

    @rule(data=st.data())
    def honest_assembly(self, data: st.DataObject) -> None:
        work = self.work(data)
        claims = [sign_claim(work, stage) for stage in range(self.stages)]
        bound = [claim for claim in claims if claim is not None]
        self.claims += bound
        if bound == claims:
            self.judged(work, bound, work.done)

    @rule(data=st.data(), changes=ASSEMBLERS_WORD)
    def lying_assembly(self, data: st.DataObject, changes: dict[str, Any]) -> None:
        """Other words about the sequences, forged evidence, claims of other units and stages."""
        work = self.work(data)
        claims = []
        for stage in range(self.stages):
            items = None
            if stage in self.dishonest and data.draw(st.booleans(), label="signs otherwise"):
                change = data.draw(SAID)
                items = tuple(i.model_copy(update=change) for i in work.evidence[stage])
            claim = sign_claim(work, stage, items)
            old = data.draw(st.sampled_from([None, *self.claims[-6:]]), label="an old claim")
            if old is not None:
                claim = old
            assume(claim is not None)
            assert claim is not None
            if data.draw(st.booleans(), label="tampers"):
                change = data.draw(SAID)
                tampered = tuple(i.model_copy(update=change) for i in claim.evidence)
                claim = claim.model_copy(update={"evidence": tampered})
            claims.append(claim)
        try:
            first = BundleSequence.model_validate(changed(work.done[0], **changes).model_dump())
        except ValueError:
            return
        self.judged(work, claims, (first, *work.done[1:]))

    def judged(
        self, work: Work, claims: list[StageClaim], told: tuple[BundleSequence, ...]
    ) -> None:
        self.verdicts.append(hold_court(work, assemble(work, claims, told), LIMITS))

    @invariant()
    def no_honest_stage_is_blamed(self) -> None:
        for verdict in self.verdicts:
            for stage in verdict.stages:
                honest = int(stage.peer_id.removeprefix("peer")) not in self.dishonest
                assert not (honest and stage.status is StageStatus.FAULTY), verdict.reason
        self.verdicts.clear()


TestConspiracy = Conspiracy.TestCase
TestConspiracy.settings = settings(max_examples=100, stateful_step_count=12, deadline=None)
