"""Sequences that a stage cannot work on: it says so, and the ring goes on with the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pipeline.engine.control.messages import Failed, Finished, SequenceIds, SequenceSpec, Submit
from pipeline.engine.errors import EngineError
from pipeline.models.prepared import PreparedModel
from tests.pipeline.engine.rings import WAIT, LocalRing, local_ring
from tests.pipeline.engine.sequences import make_spec

BAD = 77
"""A token whose embedding is not finite."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tiny_model: Callable[[str], PreparedModel]) -> PreparedModel:
    return tiny_model("llama")


def spec(number: int, *prompt_ids: int) -> SequenceSpec:
    return make_spec(number.to_bytes(16, "big"), prompt_ids, max_tokens=12)


def spoil(ring: LocalRing, stage: int, name: str, row: int | None = None) -> None:
    """Make a tensor of a loaded stage not finite, or one row of it."""
    held = ring.services[stage]._model
    assert held is not None
    tensor = dict(held.slice._base.named_parameters())[name]
    with torch.no_grad():
        tensor.data[slice(None) if row is None else row] = float("nan")


def gathered(ring: LocalRing, stage: int, count: int) -> tuple[dict[bytes, Finished], list[Failed]]:
    """What the stage emits until so many sequences have finished there, but for tokens."""
    finished: dict[bytes, Finished] = {}
    failed: list[Failed] = []
    while len(finished) < count:
        name, body = ring.events[stage].get(timeout=WAIT)
        assert name != "edge_down", body
        if isinstance(body, Finished):
            finished[body.sequence_id] = body
        if isinstance(body, Failed):
            failed.append(body)
    return finished, failed


@pytest.mark.parametrize("stages", [1, 2])
def test_one_bad_sequence_takes_no_other_with_it(
    tmp_path: Path, model: PreparedModel, stages: int
) -> None:
    good = [spec(n, 5 + n, 9, 20 + n) for n in range(4)]
    bad = spec(9, 5, BAD, 9)
    with local_ring(stages, tmp_path) as ring:
        ring.load(model)
        assert ring.up(1) == [None] * stages
        expected = ring.run(good)
        ring.load(model)
        spoil(ring, 0, "embed_tokens.weight", BAD)
        ring.up(2)
        ring.services[0].submit(Submit(sequences=(good[0], bad, *good[1:])))
        found, failed = gathered(ring, 0, 5)
        (said,) = failed
        assert (said.sequence_ids, said.generation) == ((bad.sequence_id,), 2)
        assert said.reason.startswith("hidden states after layers 0-")
        for each in good:
            assert found[each.sequence_id].ids == expected[each.sequence_id].ids
        proven = ring.evidence(s.sequence_id for s in good)
        assert [len(items) for items in proven] == [4] * stages
        with pytest.raises(EngineError):
            ring.services[0].evidence(SequenceIds(sequence_ids=(bad.sequence_id,)))
        ring.services[0].forget(SequenceIds(sequence_ids=(bad.sequence_id,)))
        again = spec(11, 6, 9, 21)
        assert ring.run([again])[again.sequence_id].ids == expected[good[1].sequence_id].ids


def test_a_model_that_is_not_finite_fails_its_sequences_at_the_stage_that_has_it(
    tmp_path: Path, model: PreparedModel
) -> None:
    asked = [spec(n, 5 + n, 9) for n in range(3)]
    with local_ring(2, tmp_path) as ring:
        ring.load(model)
        spoil(ring, 1, "norm.weight")
        ring.up(1)
        ring.services[0].submit(Submit(sequences=tuple(asked)))
        gathered(ring, 0, 3)
        said: set[bytes] = set()
        while len(said) < 3:
            name, body = ring.events[1].get(timeout=WAIT)
            assert name == "failed"
            assert isinstance(body, Failed)
            said |= set(body.sequence_ids)
        assert said == {each.sequence_id for each in asked}
