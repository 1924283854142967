"""Slices joined in one process against the whole model in transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.models.prepared import PreparedModel
from pipeline.models.slice import load_slice
from pipeline.runner.arithmetic import Kernels
from pipeline.runner.stage import StageRunner, StepItem
from tests.pipeline.tiny_models import CONFIGS, VOCAB

NOISE = 1e-5


class Ring:
    """All stages of a model in one process, cut evenly."""

    def __init__(
        self,
        model: PreparedModel,
        stages: int,
        kv_tokens: int = 512,
        kernels: Kernels = Kernels.BEST,
    ) -> None:
        layers = model.manifest.layers
        cuts = [round(layers * i / stages) for i in range(stages + 1)]
        self.stages = [
            StageRunner(load_slice(model, a, b), kv_tokens, kernels=kernels)
            for a, b in pairwise(cuts)
        ]

    def open(self, sequence: bytes, capacity: int) -> None:
        for stage in self.stages:
            stage.open(sequence, capacity)

    def close(self, sequence: bytes) -> None:
        for stage in self.stages:
            stage.close(sequence)

    def logits(self, items: Sequence[StepItem], ids: torch.Tensor) -> torch.Tensor:
        rows = ids
        for stage in self.stages:
            rows = stage.step(items, rows)
        return self.stages[-1].logits(rows)


def whole(model: PreparedModel) -> Any:
    """The whole model as transformers loads it, weights copied out of the file mapping: they start
    at odd addresses there, and matrix kernels round differently by alignment."""
    loaded = AutoModelForCausalLM.from_pretrained(model.path, dtype="auto").eval()
    for parameter in loaded.parameters():
        parameter.data = parameter.data.clone()
    return loaded


def reference(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(ids[None]).logits[0].float()
    return logits


def random_ids(length: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCAB, (length,), generator=generator)


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_prefill_is_bit_equal_to_the_whole_model(
    tiny_model: Callable[[str], PreparedModel], architecture: str, stages: int
) -> None:
    model = tiny_model(architecture)
    ids = random_ids(37, seed=stages)
    ring = Ring(model, stages, kernels=Kernels.TRANSFORMERS)
    ring.open(b"a", 40)
    logits = ring.logits([StepItem(b"a", 0, 37)], ids)
    assert torch.equal(logits, reference(whole(model), ids))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_decode_and_chunked_prefill_agree_with_one_prefill(
    tiny_model: Callable[[str], PreparedModel], architecture: str
) -> None:
    model = tiny_model(architecture)
    ids = random_ids(40, seed=1)
    expected = reference(whole(model), ids)
    ring = Ring(model, 3)
    ring.open(b"a", 40)
    pieces = [(0, 11), (11, 9), *((at, 1) for at in range(20, 30)), (30, 10)]
    got = torch.cat([ring.logits([StepItem(b"a", at, n)], ids[at : at + n]) for at, n in pieces])
    torch.testing.assert_close(got, expected, rtol=0, atol=_scale(expected))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_any_batch_composition_gives_each_sequence_its_own_logits(
    tiny_model: Callable[[str], PreparedModel], architecture: str
) -> None:
    """Sequences come and go, in mixed steps whose order and company change all the time."""
    model = tiny_model(architecture)
    lengths = {b"a": 31, b"b": 18, b"c": 40, b"d": 25, b"e": 12}
    ids = {name: random_ids(n, seed=n) for name, n in lengths.items()}
    reference_model = whole(model)
    expected = {name: reference(reference_model, tokens) for name, tokens in ids.items()}
    ring = Ring(model, 2, kv_tokens=160)
    waiting = list(lengths)
    at: dict[bytes, int] = {}
    for number in range(200):
        if waiting and number % 3 == 0:
            name = waiting.pop()
            ring.open(name, lengths[name])
            at[name] = 0
        # Alternate the order, and give every third sequence a longer piece.
        names = sorted(at, reverse=number % 2 == 0)
        items = [
            StepItem(
                name, at[name], min(lengths[name] - at[name], 5 if (number + i) % 3 == 0 else 1)
            )
            for i, name in enumerate(names)
        ]
        rows = torch.cat([ids[i.sequence][i.start : i.start + i.count] for i in items])
        got = ring.logits(items, rows).split([item.count for item in items])
        for item, logits in zip(items, got, strict=True):
            wanted = expected[item.sequence][item.start : item.start + item.count]
            torch.testing.assert_close(logits, wanted, rtol=0, atol=_scale(wanted))
            at[item.sequence] += item.count
            if at[item.sequence] == lengths[item.sequence]:
                ring.close(item.sequence)
                del at[item.sequence]
        if not at and not waiting:
            break
    else:
        pytest.fail("sequences did not finish")


def _scale(logits: torch.Tensor) -> float:
    """Noise allowed, relative to the largest logit."""
    return NOISE * max(1.0, float(logits.abs().max()))
