"""Whatever stage 0 reports: a row's text is what its proven tokens say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.roles.orchestrator.coordinator.events import QueueRead
from node.roles.orchestrator.coordinator.units import Unit, UnitState, WorkSequence
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.jobs.dataset import dataset_rows
from node.roles.orchestrator.workers.progress import BadReport, progress_events
from node.wire.messages.fields import StageRef
from node.wire.messages.work import FinishedRun, Progress, TokenRun
from proofs.evidence.bundle import UnitBundle
from proofs.evidence.sequence import FinishReason, SequenceRequest
from tests.node.roles.orchestrator.coordination import Pool

EOS, VOCAB, MAX = 0, 90, 6


class Letters:
    """Token i is the letter of code i."""

    eos_ids = (EOS,)
    special: ClassVar[dict[str, int]] = {}

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        return [1]

    def decode(self, ids) -> str:
        return "".join(map(chr, ids))


CUTTER = JobCutter(Letters(), b"m" * 32, "tiny", context_length=99, unit_size=1, vocab_size=VOCAB)
SEQUENCE = WorkSequence(
    request=SequenceRequest(
        sequence_id=bytes(16), prompt_ids=(1,), max_tokens=MAX, eos_ids=(EOS,), stop=("MN",)
    ),
    prompt_id="0",
    messages=({"role": "user", "content": "hi"},),
    seed=0,
)
TRUTH = (65, 66, 67, 68, 69, 70)


@dataclass
class Ring:
    """A running ring with one unit; `report` does what a handler of reports does."""

    pool: Pool
    unit: Unit

    @classmethod
    def up(cls) -> Ring:
        pool, unit = Pool(), Unit(b"u" * 32, "job", (SEQUENCE,))
        pool.feed(QueueRead((unit,)))
        pool.validators(v1=1)
        pool.up()
        return cls(pool, unit)

    @property
    def sequence(self) -> WorkSequence:
        return self.pool.unit(self.unit).sequences[0]

    def report(self, *runs: TokenRun | FinishedRun) -> None:
        (group,) = self.pool.pool.groups.values()
        ref = StageRef(group_id=group.group_id, generation=group.generation, stage=0)
        report = Progress(
            ref=ref,
            tokens=tuple(run for run in runs if isinstance(run, TokenRun)),
            finished=tuple(run for run in runs if isinstance(run, FinishedRun)),
        )
        for event in progress_events(report, self.pool.pool, CUTTER.output_fault):
            self.pool.feed(event)

    def row(self) -> dict[str, object]:
        """The dataset's row, once a validator has accepted what was produced."""
        self.pool.claim(self.unit)
        self.pool.verdict(self.unit)
        unit = self.pool.unit(self.unit)
        assert unit.state is UnitState.ACCEPTED
        bundle = UnitBundle.model_construct(
            model_id=b"m" * 32, group_id=b"g", generation=1, boundaries=(), stages=()
        )
        (row,) = dataset_rows([unit], lambda _: bundle, CUTTER.text, ("tiny", b"m" * 32))
        return row


def tokens(offset: int, *ids: int) -> TokenRun:
    return TokenRun(sequence_id=bytes(16), offset=offset, ids=ids)


def end(reason: FinishReason, *ids: int, offset: int = 0) -> FinishedRun:
    return FinishedRun(sequence_id=bytes(16), reason=reason, offset=offset, ids=ids)


TOKEN = st.one_of(st.sampled_from([EOS, VOCAB, 77, 78]), st.integers(65, 72))
FORGED = st.lists(TOKEN, min_size=1, max_size=MAX + 3)
GROWN = st.builds(lambda more: [*TRUTH, *more], st.lists(TOKEN, max_size=3))
IDS = st.one_of(FORGED, GROWN, st.builds(lambda n: list(TRUTH[:n]), st.integers(1, MAX)))
RUNS = st.one_of(
    st.builds(lambda at, ids: tokens(at, *ids), st.integers(0, MAX + 1), IDS),
    st.builds(
        lambda why, ids, at: end(why, *ids[at:], offset=at),
        st.sampled_from(list(FinishReason)),
        IDS,
        st.integers(0, 3),
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(RUNS, min_size=1, max_size=3), max_size=8))
def test_whatever_is_reported_the_text_of_a_row_is_that_of_its_ids(
    reports: list[list[TokenRun | FinishedRun]],
) -> None:
    ring = Ring.up()
    for runs in reports:
        before = ring.sequence
        try:
            ring.report(*runs)
        except BadReport:
            assert ring.sequence == before
    known = ring.sequence
    if not known.finished:
        whole = (*known.output_ids, *TRUTH)[:MAX]
        if known.output_ids[-1:] == (EOS,):
            ring.report(end(FinishReason.EOS, *known.output_ids))
        else:
            ring.report(end(FinishReason.LENGTH, *whole))
    row = ring.row()
    ids = row["output_ids"]
    assert isinstance(ids, list)
    assert len(ids) <= MAX
    assert max(ids) < VOCAB
    assert EOS not in ids[:-1]
    text = Letters().decode(ids[:-1] if ids[-1] == EOS else ids)
    assert row["completion"] == text.split("MN")[0]


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ([end(FinishReason.LENGTH, *TRUTH, 66, 66)], "8 tokens where at most 6"),
        ([tokens(2, *TRUTH)], "8 tokens where at most 6"),
        ([tokens(2, 70, EOS, 70)], "goes on after the end-of-sequence token at 3"),
        ([tokens(3, EOS), end(FinishReason.LENGTH, 65, 66, 67, EOS)], "but says 'length'"),
        ([tokens(2, VOCAB)], "a token that the model does not have"),
        ([end(FinishReason.LENGTH, *TRUTH[:5], VOCAB)], "a token that the model does not have"),
        ([end(FinishReason.LENGTH, *TRUTH[:5])], "'length' after 5 of 6"),
        ([end(FinishReason.EOS, *TRUTH)], "does not end with an end-of-sequence token"),
        ([end(FinishReason.STOP, *TRUTH[:5])], "its text holds no stop string"),
    ],
)
def test_a_report_that_no_honest_stage_makes_is_refused_whole(
    runs: list[TokenRun | FinishedRun], reason: str
) -> None:
    ring = Ring.up()
    ring.report(tokens(0, 65, 66))
    good = tokens(2, 67)
    with pytest.raises(BadReport, match=reason):
        ring.report(good, *runs)
    assert ring.sequence.output_ids == (65, 66)
    ring.report(good)
    ring.report(end(FinishReason.LENGTH, *TRUTH))
    assert ring.row()["completion"] == "ABCDEF"


def test_what_follows_a_reported_end_of_sequence_token_is_refused() -> None:
    ring = Ring.up()
    ring.report(tokens(0, 65, EOS))
    with pytest.raises(BadReport, match="goes on after the end-of-sequence token at 1"):
        ring.report(tokens(2, 66))
    ring.report(end(FinishReason.EOS, 65, EOS))
    assert ring.row()["completion"] == "A"


def test_runs_of_one_report_follow_one_another_and_contradictions_change_nothing() -> None:
    ring = Ring.up()
    ring.report(tokens(0, 65), tokens(1, 66), tokens(1, 66, 67), tokens(0, 70, 70, 70, 70))
    assert ring.sequence.output_ids == (65, 66, 67)
    with pytest.raises(BadReport, match="goes on after"):
        ring.report(tokens(3, EOS), tokens(4, 66))
    ring.report(end(FinishReason.LENGTH, *TRUTH))
    assert ring.row()["completion"] == "ABCDEF"


class Counting(Letters):
    """Counts what it is asked for."""

    decoded = 0

    def decode(self, ids) -> str:
        type(self).decoded += 1
        return super().decode(ids)


def test_an_end_brings_what_was_not_told_before_and_a_repetition_costs_nothing() -> None:
    ring = Ring.up()
    ring.report(tokens(0, 65))
    ring.report(end(FinishReason.LENGTH, *TRUTH[3:], offset=3))  # a gap says nothing
    assert ring.sequence.output_ids == (65,)
    with pytest.raises(BadReport, match="1 of 6 tokens"):
        ring.report(end(FinishReason.LENGTH, offset=1))
    cutter = replace(CUTTER, tokenizer=Counting())
    (group,) = ring.pool.pool.groups.values()
    report = Progress(
        ref=StageRef(group_id=group.group_id, generation=group.generation, stage=0),
        tokens=(),
        finished=(
            *(end(FinishReason.STOP, 66, 77, 78),) * 500,  # other than was told before
            *(end(FinishReason.STOP, 77, 78, offset=1),) * 500,
        ),
    )
    (event,) = progress_events(report, ring.pool.pool, cutter.output_fault)
    assert Counting.decoded == 1
    ring.pool.feed(event)
    assert ring.row()["completion"] == "A"


def test_an_end_without_any_token_is_a_lie() -> None:
    with pytest.raises(BadReport, match="without a token"):
        Ring.up().report(end(FinishReason.STOP))


def test_an_honest_stop_is_cut_before_its_string() -> None:
    ring = Ring.up()
    ring.report(tokens(0, 65, 77, 78), end(FinishReason.STOP, 65, 77, 78))
    assert ring.row()["completion"] == "A"


def test_late_and_foreign_runs_say_nothing_about_anybody() -> None:
    ring = Ring.up()
    ring.report(TokenRun(sequence_id=b"?" * 16, offset=0, ids=(VOCAB,) * 99), tokens(5, 65))
    assert ring.sequence.output_ids == ()
    ring.report(end(FinishReason.LENGTH, *TRUTH))
    ring.report(tokens(0, *TRUTH, 66), end(FinishReason.LENGTH, *TRUTH, 66))
    assert ring.row()["completion"] == "ABCDEF"
