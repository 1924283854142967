"""What a runner refuses, and that sequences cannot reach one another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pipeline.models.prepared import PreparedModel
from pipeline.models.slice import load_slice
from pipeline.runner.errors import KvExhausted, RunnerError, UnknownSequence
from pipeline.runner.stage import StageRunner, StepItem


@pytest.fixture
def first(tiny_model: Callable[[str], PreparedModel]) -> StageRunner:
    return StageRunner(load_slice(tiny_model("llama"), 0, 3), 32)


@pytest.fixture
def middle(tiny_model: Callable[[str], PreparedModel]) -> StageRunner:
    return StageRunner(load_slice(tiny_model("llama"), 2, 4), 32)


def ids(count: int) -> torch.Tensor:
    return torch.arange(5, 5 + count)


@pytest.mark.parametrize(
    ("items", "inputs", "reason"),
    [
        ([], ids(1), "at most one"),
        ([StepItem(b"a", 0, 1), StepItem(b"a", 1, 1)], ids(2), "at most one"),
        ([StepItem(b"a", 1, 1)], ids(1), "do not follow"),
        ([StepItem(b"a", -1, 1)], ids(1), "do not follow"),
        ([StepItem(b"a", 0, 0)], ids(0), "do not follow"),
        ([StepItem(b"a", 0, 9)], ids(9), "exceeds"),
        ([StepItem(b"a", 0, 2)], ids(3), "inputs are"),
        ([StepItem(b"a", 0, 2)], ids(2).float(), "inputs are"),
        ([StepItem(b"a", 0, 1)], torch.tensor([300]), "token ids"),
        ([StepItem(b"a", 0, 1)], torch.tensor([-1]), "token ids"),
    ],
)
def test_steps_that_do_not_fit_are_refused(
    first: StageRunner, items: list[StepItem], inputs: torch.Tensor, reason: str
) -> None:
    first.open(b"a", 8)
    with pytest.raises(RunnerError, match=reason):
        first.step(items, inputs)


def test_hidden_states_of_another_width_are_refused(middle: StageRunner) -> None:
    middle.open(b"a", 8)
    with pytest.raises(RunnerError, match="inputs are"):
        middle.step([StepItem(b"a", 0, 2)], torch.zeros(2, 47))


def test_only_open_sequences_run(first: StageRunner) -> None:
    with pytest.raises(UnknownSequence):
        first.step([StepItem(b"a", 0, 1)], ids(1))
    with pytest.raises(UnknownSequence):
        first.close(b"a")


def test_exhaustion_changes_nothing(first: StageRunner) -> None:
    first.open(b"a", 20)
    with pytest.raises(KvExhausted, match="13 KV positions wanted, 12 of 32"):
        first.open(b"b", 13)
    assert first.kv_tokens_used == 20
    assert not first.is_open(b"b")
    first.open(b"b", 12)


def test_not_a_number_stays_in_its_own_sequence(middle: StageRunner) -> None:
    """Values of one sequence, also of a closed one, never reach another: not even as masked
    padding, where 0 x NaN would still be NaN."""
    row = torch.linspace(-1, 1, 48)
    clean = []
    for poison in (0.0, float("nan")):
        for name in (b"a", b"b", b"c"):
            middle.open(name, 8)
        middle.step([StepItem(b"a", 0, 8)], torch.full((8, 48), poison))
        middle.close(b"a")
        middle.open(b"a", 8)
        middle.step([StepItem(b"b", 0, 6)], torch.full((6, 48), poison))
        middle.step([StepItem(b"a", 0, 2), StepItem(b"c", 0, 3)], row.expand(5, 48))
        items = [StepItem(b"a", 2, 1), StepItem(b"b", 6, 1), StepItem(b"c", 3, 1)]
        clean.append(middle.step(items, row.expand(3, 48))[[0, 2]])
        for name in (b"a", b"b", b"c"):
            middle.close(name)
    assert bool(clean[0].isfinite().all())
    torch.testing.assert_close(clean[0], clean[1], rtol=0, atol=0)


def test_compaction_keeps_what_sequences_hold(first: StageRunner) -> None:
    for name in (b"a", b"b", b"c", b"d"):
        first.open(name, 8)
    expected = first.step([StepItem(b"b", 0, 5)], ids(5))
    first.step([StepItem(b"d", 0, 8)], ids(8))
    first.close(b"a")
    first.close(b"c")
    first.open(b"e", 16)
    again = first.step([StepItem(b"b", 4, 1)], ids(5)[4:])
    torch.testing.assert_close(again[0], expected[4], rtol=0, atol=1e-5)


def test_rows_can_be_computed_again_from_an_earlier_position(first: StageRunner) -> None:
    first.open(b"a", 8)
    expected = first.step([StepItem(b"a", 0, 6)], ids(6))
    first.step([StepItem(b"a", 2, 4)], ids(6).flip(0)[:4])
    again = first.step([StepItem(b"a", 2, 4)], ids(6)[2:])
    torch.testing.assert_close(again, expected[2:], rtol=0, atol=1e-5)


def test_memory_figures(tiny_model: Callable[[str], PreparedModel]) -> None:
    model = tiny_model("llama")
    table = model.layer_table()
    for a, b in ((0, 2), (2, 5), (5, 6)):
        runner = StageRunner(load_slice(model, a, b), 32)
        buffers = 2 * 4 * 6
        assert runner.weights_bytes == table.weights(a, b) + buffers
        assert runner.kv_bytes == table.kv(a, b, 32)
    whole = load_slice(model, 0, 6)
    assert whole.weights_bytes == table.total_bytes + buffers
