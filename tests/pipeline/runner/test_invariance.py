"""Within an exact kernel class a row's bits depend on nothing but its own sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.kernels import exact
from pipeline.models.prepared import PreparedModel
from pipeline.models.slice import load_slice
from pipeline.runner.arithmetic import Kernels, prepare
from pipeline.runner.kernel_class import is_exact
from pipeline.runner.local_ring import load_ring
from pipeline.runner.replay import WholeModelReplay
from pipeline.runner.stage import StageRunner, StepItem
from tests.pipeline.tiny_models import CONFIGS

CUTS = [2, 5, 6]
LENGTHS = (3, 17, 40, 33, 16, 70, 5, 21)
"""Tokens of the sequences that share batches: around multiples of the kernels' blocks of 16."""

needs_kernels = pytest.mark.skipif(not exact.available(), reason="the kernels are not built")


def sequences(model: PreparedModel, lengths: Sequence[int]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(7)
    vocabulary = model.manifest.vocab_size
    return [torch.randint(3, vocabulary, (n,), generator=generator).tolist() for n in lengths]


class Rows:
    """Bits of every stage's rows, and of the logits, at every position of some sequences."""

    def __init__(self, model: PreparedModel, cuts: Sequence[int], ids: list[list[int]]) -> None:
        self.stages = load_ring(model, cuts, sum(map(len, ids)) + 64)
        self.ids = ids
        replay = WholeModelReplay(model)
        assert {stage.kernel_class for stage in self.stages} == {replay.kernel_class}
        # A replay gives rows of all but the last token: one more that nobody looks at.
        pairs = [(one[:1], [*one[1:], one[0]]) for one in ids]
        self.expected = [
            [*one.stages, torch.cat(list(one.logits()))] for one in replay.prefill(pairs, cuts)
        ]

    def run(self, pieces: Sequence[tuple[int, int]]) -> None:
        """Run steps of (sequence, tokens) until all are through, in the order given, one item for a
        sequence at a time; compare all bits with the replay's."""
        at = [0] * len(self.ids)
        for stage in self.stages:
            for index, one in enumerate(self.ids):
                stage.open(bytes([index]), len(one))
        todo = list(pieces)
        while any(at[i] < len(one) for i, one in enumerate(self.ids)):
            step: dict[int, int] = {}
            while todo and todo[0][0] not in step and len(step) < 64:
                index, count = todo.pop(0)
                count = min(count, len(self.ids[index]) - at[index])
                if count:
                    step[index] = count
            if not step:
                step = {i: len(one) - at[i] for i, one in enumerate(self.ids) if at[i] < len(one)}
            self._step(at, step)
        for stage in self.stages:
            for index in range(len(self.ids)):
                stage.close(bytes([index]))

    def _step(self, at: list[int], step: dict[int, int]) -> None:
        items = [StepItem(bytes([i]), at[i], count) for i, count in step.items()]
        rows = torch.tensor([t for i, n in step.items() for t in self.ids[i][at[i] : at[i] + n]])
        for number, stage in enumerate(self.stages):
            rows = stage.step(items, rows)
            self._compare(at, step, rows, number)
        self._compare(at, step, self.stages[-1].logits(rows), len(self.stages))
        for index, count in step.items():
            at[index] += count

    def _compare(
        self, at: list[int], step: dict[int, int], rows: torch.Tensor, number: int
    ) -> None:
        for (index, count), own in zip(step.items(), rows.split(list(step.values())), strict=True):
            expected = self.expected[index][number][at[index] : at[index] + count]
            assert torch.equal(own, expected), (index, at[index], count, number)


@pytest.fixture(scope="module")
def llama_rows(tiny_model: Callable[[str], PreparedModel]) -> Rows:
    model = tiny_model("llama")
    return Rows(model, CUTS, sequences(model, LENGTHS))


@needs_kernels
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    pieces=st.lists(st.tuples(st.integers(0, len(LENGTHS) - 1), st.integers(1, 20)), max_size=60),
    threads=st.integers(1, 3),
)
def test_bits_do_not_depend_on_the_batch(
    llama_rows: Rows, pieces: list[tuple[int, int]], threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        llama_rows.run(pieces)
    finally:
        torch.set_num_threads(before)


@needs_kernels
@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_bits_are_those_of_64_sequences_decoding_together(
    tiny_model: Callable[[str], PreparedModel], architecture: str
) -> None:
    model = tiny_model(architecture)
    rows = Rows(model, CUTS, sequences(model, [5 + i % 9 for i in range(64)]))
    rows.run([(i, 1) for _ in range(13) for i in range(64)])


@needs_kernels
def test_classes(tiny_model: Callable[[str], PreparedModel]) -> None:
    """What is exact; nobody else claims to be."""
    slices = {name: load_slice(tiny_model(name), 0, 2) for name in CONFIGS}
    found = {name: prepare(slice_).kernel_class for name, slice_ in slices.items()}
    exactly = {name for name, kernel_class in found.items() if is_exact(kernel_class)}
    assert exactly == {"llama", "qwen3", "gemma3_text"}
    assert all(found[name].count("-") == 4 for name in ("llama", "qwen3"))  # nothing is torch's


@pytest.mark.parametrize("kernels", [Kernels.ONEDNN, Kernels.TRANSFORMERS])
def test_torch_kernels_are_never_called_exact(
    tiny_model: Callable[[str], PreparedModel], kernels: Kernels
) -> None:
    runner = StageRunner(load_slice(tiny_model("llama"), 0, 6), 32, kernels=kernels)
    assert not is_exact(runner.kernel_class)


@needs_kernels
def test_windows_are_exact_too(tiny_model: Callable[[str], PreparedModel]) -> None:
    """Gemma's layers see 8 positions; their norms and activations are torch's."""
    model = tiny_model("gemma3_text")
    rows = Rows(model, CUTS, sequences(model, (30, 9, 8, 41)))
    rows.run([(i, n) for n in (1, 3, 1, 7, 1, 1, 12) for i in range(4)])


@needs_kernels
@pytest.mark.model
def test_smollm2_decodes_the_bits_that_a_validator_prefills(smollm2: PreparedModel) -> None:
    ids = sequences(smollm2, (40, 9, 65, 30))
    rows = Rows(smollm2, [10, 20, 30], ids)
    rows.run([(0, 33), (2, 16), (1, 5), (2, 40), *((i, 1) for _ in range(8) for i in range(4))])
