"""Replay against what stages really computed while decoding."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from pipeline.dishonest.weights import apply_fault
from pipeline.models.prepared import PreparedModel
from pipeline.models.slice import load_slice
from pipeline.runner.errors import RunnerError
from pipeline.runner.replay import WholeModelReplay
from pipeline.runner.stage import StageRunner, StepItem
from tests.pipeline.tiny_models import CONFIGS

CUTS = [0, 2, 5, 6]


def generate(
    model: PreparedModel, prompt: list[int], length: int, fault_in: int | None = None
) -> tuple[list[int], list[torch.Tensor], torch.Tensor]:
    """Greedy decoding over three stages; returns output ids, rows per stage, logits per token."""
    slices = [load_slice(model, a, b) for a, b in pairwise(CUTS)]
    if fault_in is not None:
        apply_fault(slices[fault_in], "int4-weights")
    stages = [StageRunner(slice_, 64) for slice_ in slices]
    rows: list[list[torch.Tensor]] = [[] for _ in stages]
    logits, ids, start = [], list(prompt), 0
    for stage in stages:
        stage.open(b"s", len(prompt) + length)
    while len(ids) < len(prompt) + length:
        hidden = torch.tensor(ids[start:])
        item = StepItem(b"s", start, len(ids) - start)
        for number, stage in enumerate(stages):
            hidden = stage.step([item], hidden)
            rows[number].append(hidden[-1])
        logits.append(stages[-1].logits(hidden[-1:])[0])
        start = len(ids)
        ids.append(int(logits[-1].argmax()))
    return ids[len(prompt) :], [torch.stack(one) for one in rows], torch.stack(logits)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_replay_gives_the_rows_and_logits_that_stages_had(
    tiny_model: Callable[[str], PreparedModel], architecture: str
) -> None:
    model = tiny_model(architecture)
    prompts = [[5, 6, 7], list(range(10, 31)), [40]]
    made = [generate(model, prompt, 4 + 5 * i) for i, prompt in enumerate(prompts)]
    pairs = [(prompt, output) for prompt, (output, _, _) in zip(prompts, made, strict=True)]
    replayed = WholeModelReplay(model).prefill(pairs, CUTS[1:])
    for (output, rows, logits), again in zip(made, replayed, strict=True):
        assert [stage.shape for stage in again.stages] == [(len(output), 48)] * 3
        for sent, expected in zip(rows, again.stages, strict=True):
            scale = max(1.0, float(expected.abs().max()))
            torch.testing.assert_close(sent, expected, rtol=0, atol=2e-5 * scale)
        replayed_logits = torch.cat(list(again.logits()))
        scale = max(1.0, float(logits.abs().max()))
        torch.testing.assert_close(replayed_logits, logits, rtol=0, atol=2e-5 * scale)


def test_only_stages_from_the_faulty_one_on_differ(
    tiny_model: Callable[[str], PreparedModel],
) -> None:
    model = tiny_model("llama")
    prompt = [9, 8, 7, 6]
    output, rows, _ = generate(model, prompt, 8, fault_in=1)
    (again,) = WholeModelReplay(model).prefill([(prompt, output)], CUTS[1:])
    errors = [
        float((sent - expected).norm() / expected.norm())
        for sent, expected in zip(rows, again.stages, strict=True)
    ]
    assert errors[0] < 1e-5
    assert errors[1] > 1e-2
    assert errors[2] > 1e-2


def test_long_batches_are_split_and_keep_their_order(
    tiny_model: Callable[[str], PreparedModel],
) -> None:
    model = tiny_model("llama")
    pairs = [([3 + i] * (5 + 3 * i), [7, 8]) for i in range(6)]
    together = WholeModelReplay(model).prefill(pairs, [6])
    apart = WholeModelReplay(model, max_packed=20).prefill(pairs, [6])
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one.stages[0], other.stages[0], rtol=1e-4, atol=1e-4)


def test_full_rows_are_given_where_they_are_asked_for(
    tiny_model: Callable[[str], PreparedModel],
) -> None:
    model = tiny_model("llama")
    pairs = [([3 + i] * (5 + 3 * i), [7, 8, 9]) for i in range(6)]
    plain = WholeModelReplay(model).prefill(pairs, CUTS[1:])
    replay = WholeModelReplay(model, max_packed=30)
    replayed = replay.prefill(pairs, CUTS[1:], {1: [0, 1], 4: {1}})
    assert [set(one.full) for one in replayed] == [set(), {0, 1}, set(), set(), {1}, set()]
    for index, stage in ((1, 0), (1, 1), (4, 1)):
        prompt, output = pairs[index]
        rows = replayed[index].full[stage]
        assert rows.shape == (len(prompt) + len(output) - 1, 48)
        expected = plain[index].stages[stage]
        torch.testing.assert_close(rows[len(prompt) - 1 :], expected, rtol=1e-4, atol=1e-4)
        (alone,) = replay.prefill([(prompt[:2], [prompt[2]])], CUTS[1:])
        torch.testing.assert_close(rows[1:2], alone.stages[stage], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_resuming_does_what_the_stage_does_with_any_rows(
    tiny_model: Callable[[str], PreparedModel], architecture: str
) -> None:
    model = tiny_model(architecture)
    replay = WholeModelReplay(model)
    prompt, output = list(range(10, 31)), [7] * 12
    (before,) = replay.prefill([(prompt, output)], CUTS[1:], {0: [0, 1]})
    for stage in (1, 2):
        first, last = CUTS[stage : stage + 2]
        honest = before.full[stage - 1]
        resumed = replay.resume(honest, first, last, len(output))
        _assert_near(resumed.stages[0], before.stages[stage])

        garbage = torch.randn_like(honest) * honest.std()
        runner = StageRunner(load_slice(model, first, last), 64)
        runner.open(b"s", len(garbage))
        sent = runner.step([StepItem(b"s", 0, len(garbage))], garbage)
        resumed = replay.resume(garbage, first, last, len(output))
        _assert_near(resumed.full[0], sent)
        assert resumed.stages[0].equal(resumed.full[0][-len(output) :])
        assert (resumed.stages[0] - before.stages[stage]).norm() > 0.1 * sent[-12:].norm()
        if last == CUTS[-1]:
            _assert_near(next(resumed.logits()), runner.logits(sent[-len(output) :]))
        for huge in (1e30, torch.finfo(honest.dtype).max):
            absurd = replay.resume(torch.full_like(honest, huge), first, last, len(output))
            assert absurd.full[0].shape == honest.shape
    (after,) = replay.prefill([(prompt, output)], CUTS[1:])
    assert all(map(torch.equal, before.stages, after.stages))


def _assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize(
    ("rows", "first", "last", "outputs", "reason"),
    [
        (torch.zeros(5, 48), 3, 3, 1, "range"),
        (torch.zeros(5, 48), 3, 7, 1, "range"),
        (torch.zeros(5, 48), -1, 3, 1, "range"),
        (torch.zeros(5, 47), 3, 6, 1, "rows are"),
        (torch.zeros(48), 3, 6, 1, "rows are"),
        (torch.zeros(5, 48, dtype=torch.bfloat16), 3, 6, 1, "rows are"),
        (torch.zeros(5, 48), 3, 6, 0, "outputs"),
        (torch.zeros(5, 48), 3, 6, 6, "outputs"),
        (torch.zeros(513, 48), 3, 6, 1, "outputs"),
    ],
)
def test_resuming_from_what_cannot_be_is_refused(
    tiny_model: Callable[[str], PreparedModel],
    rows: torch.Tensor,
    first: int,
    last: int,
    outputs: int,
    reason: str,
) -> None:
    with pytest.raises(RunnerError, match=reason):
        WholeModelReplay(tiny_model("llama")).resume(rows, first, last, outputs)


@pytest.mark.parametrize("stage", [-1, 2, 3])
def test_rows_of_stages_that_send_none_are_refused(
    tiny_model: Callable[[str], PreparedModel], stage: int
) -> None:
    with pytest.raises(RunnerError, match="first 2 stages"):
        WholeModelReplay(tiny_model("llama")).prefill([([1], [2])], CUTS[1:], {0: [stage]})


@pytest.mark.parametrize(
    ("pair", "boundaries", "reason"),
    [
        (([1], [2]), [], "boundaries"),
        (([1], [2]), [3], "boundaries"),
        (([1], [2]), [3, 3, 6], "boundaries"),
        (([1], [2]), [3, 7], "boundaries"),
        (([], [2]), [6], "at least one"),
        (([1], []), [6], "at least one"),
        (([1], [300]), [6], "token ids"),
        (([1] * 512, [2, 2]), [6], "positions"),
    ],
)
def test_impossible_replays_are_refused(
    tiny_model: Callable[[str], PreparedModel],
    pair: tuple[list[int], list[int]],
    boundaries: list[int],
    reason: str,
) -> None:
    with pytest.raises(RunnerError, match=reason):
        WholeModelReplay(tiny_model("llama")).prefill([pair], boundaries)
