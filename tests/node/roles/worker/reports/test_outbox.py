"""What is told is what was generated, in reports that their limit lets pass."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from node.roles.worker.reports.outbox import SEQUENCE_WEIGHT, Outbox
from node.wire.codec import decode, encode
from node.wire.messages.fields import MAX_RUNS, StageRef
from node.wire.messages.work import FinishedRun, Progress, TokenRun
from node.wire.methods import PROGRESS
from pipeline.engine.control.messages import Finished, Tokens
from proofs.evidence.sequence import FinishReason

REF = StageRef(group_id=b"g" * 32, generation=2**32 - 1, stage=0)
WIDEST = 2**31 - 1


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def tokens(number: int, offset: int, *ids: int) -> Tokens:
    return Tokens(generation=1, sequence_id=key(number), offset=offset, ids=ids)


def finished(number: int, *ids: int) -> Finished:
    return Finished(generation=1, sequence_id=key(number), reason=FinishReason.LENGTH, ids=ids)


class Told:
    """What an orchestrator has put together from reports."""

    def __init__(self) -> None:
        self.outputs: dict[bytes, tuple[int, ...]] = {}
        self.ended: set[bytes] = set()
        self.sizes: list[int] = []

    def take(self, report: Progress) -> None:
        data = encode(report)
        self.sizes.append(len(data))
        report = decode(Progress, data)
        runs: list[TokenRun | FinishedRun] = [*report.tokens, *report.finished]
        for run in runs:
            known = self.outputs.get(run.sequence_id, ())
            assert run.offset == len(known), "a gap, or told twice"
            self.outputs[run.sequence_id] = known + run.ids
        for end in report.finished:
            assert end.sequence_id not in self.ended
            self.ended.add(end.sequence_id)

    def drain(self, outbox: Outbox) -> None:
        while (report := outbox.report()) is not None:
            self.take(report)
            outbox.taken(report)


def test_long_outputs_are_told_in_parts_that_the_real_limit_lets_pass() -> None:
    outbox, told = Outbox(REF), Told()
    output = (*range(WIDEST - 9, WIDEST), *(WIDEST,) * (32_768 - 9))
    for number in range(8):
        outbox.put(finished(number, *output))
    told.drain(outbox)
    assert set(told.outputs.values()) == {output}
    assert len(told.ended) == 8
    assert max(told.sizes) <= PROGRESS.max_request
    assert min(told.sizes[:-1]) > 0.9 * PROGRESS.max_request  # and not in crumbs


PIECES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), max_size=30)


@settings(max_examples=60, deadline=None)
@given(PIECES, st.integers(400, 900), st.sampled_from([1, 300, WIDEST]), st.data())
def test_whatever_pieces_come_and_whenever_reports_are_taken_all_is_told_once(
    pieces: list[tuple[int, int]], limit: int, token: int, data: st.DataObject
) -> None:
    outbox, told = Outbox(REF, limit=limit), Told()
    made: dict[int, int] = {}
    for number, count in pieces:
        at = made.get(number, 0)
        if not at or data.draw(st.booleans()):  # an event may be lost: the end brings all
            outbox.put(tokens(number, at, *(token,) * count))
        made[number] = at + count
        report = outbox.report()
        if report is not None and data.draw(st.booleans()):
            outbox.put(tokens(number, made[number], token))  # while it was on its way
            made[number] += 1
            told.take(report)
            outbox.taken(report)
    for number, count in made.items():
        outbox.put(finished(number, *(token,) * count))
    told.drain(outbox)
    assert {k: len(v) for k, v in told.outputs.items()} == {key(n): c for n, c in made.items()}
    assert told.ended == {key(n) for n in made}
    assert max(told.sizes, default=0) <= limit
    assert outbox._tokens == 0
    assert not outbox._entries


def test_runs_that_follow_one_another_are_one_run() -> None:
    outbox = Outbox(REF)
    for at in range(100):
        outbox.put(tokens(1, 7 + at, at))
    report = outbox.report()
    assert report is not None
    assert report.tokens == (TokenRun(sequence_id=key(1), offset=7, ids=tuple(range(100))),)
    outbox.taken(report)
    outbox.put(finished(1, *range(7), *range(100), 5))
    report = outbox.report()
    assert report is not None
    end = FinishedRun(sequence_id=key(1), reason=FinishReason.LENGTH, offset=107, ids=(5,))
    assert (report.tokens, report.finished) == ((), (end,))


def test_as_many_ends_as_a_report_may_hold_and_one_more() -> None:
    outbox, told = Outbox(REF), Told()
    for number in range(MAX_RUNS + 1):
        outbox.put(finished(number, 1))
    told.drain(outbox)
    assert len(told.ended) == MAX_RUNS + 1
    assert len(told.sizes) == 2


def test_what_waits_is_counted_and_forgotten_with_its_sequence() -> None:
    outbox = Outbox(REF, most=2 * SEQUENCE_WEIGHT + 20)
    full: list[bool] = []
    for event in (tokens(1, 0, *range(10)), tokens(2, 0, *range(10)), tokens(2, 10, 1)):
        outbox.put(event)
        full.append(outbox.overfull)
    outbox.drop(key(1))
    full.append(outbox.overfull)
    outbox.put(tokens(2, 11, *range(999)))
    full.append(outbox.overfull)
    assert full == [False, False, True, False, True]
    outbox.clear()
    assert not outbox.overfull
    assert outbox.report() is None
