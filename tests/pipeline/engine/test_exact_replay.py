"""Hashes of what stages must have sent, for who shares an exact kernel class."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.engine.replay import Replayer, rows_digest
from pipeline.models.prepared import PreparedModel
from pipeline.runner.kernel_class import is_exact
from pipeline.runner.replay import WholeModelReplay
from tests.pipeline.engine.rings import cuts, local_ring
from tests.pipeline.engine.test_replay import NUMBERS, STAGES, claims, request, spec


@pytest.fixture(scope="module")
def model(tiny_model: Callable[[str], PreparedModel]) -> PreparedModel:
    return tiny_model("llama")


def test_a_digest_is_over_the_values_row_after_row() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        rows = torch.arange(24).view(4, 6).to(dtype)
        raw = b"".join(bytes(row.clone().view(torch.uint8).tolist()) for row in rows)
        assert rows_digest(rows) == hashlib.sha256(raw).digest()
        assert rows_digest(rows.T.contiguous().T) == rows_digest(rows)
        assert rows_digest(-rows) != rows_digest(rows)


def test_a_replay_in_an_exact_class_hashes_what_each_stage_must_have_made(
    tmp_path: Path, model: PreparedModel
) -> None:
    asked = request(model, claims(tmp_path, model, {}))
    replayed = Replayer(exact=lambda _name: True).replay(asked)
    whole = WholeModelReplay(model)
    assert (replayed.kernel_class, replayed.exact) == (whole.kernel_class, True)
    pairs = [(s.sequence.request.prompt_ids, s.sequence.output_ids) for s in asked.sequences]
    full = {index: range(STAGES - 1) for index in range(len(pairs))}
    expected = whole.prefill(pairs, asked.boundaries, full)
    for measure, own in zip(replayed.measures, expected, strict=True):
        assert measure.sent == (
            *(rows_digest(own.full[s]) for s in range(STAGES - 1)),
            rows_digest(own.stages[-1]),
        )
    plain = Replayer(exact=lambda _name: False).replay(asked)
    assert not plain.exact
    assert all(measure.sent == () for measure in plain.measures)


def test_stages_sign_the_class_that_they_compute_in(tmp_path: Path, model: PreparedModel) -> None:
    """And where it is an exact one, what they sent and sampled is equal to a replay."""
    with local_ring(STAGES, tmp_path) as ring:
        ring.load(model)
        ring.up()
        done = ring.run(map(spec, NUMBERS))
        evidence = ring.evidence(done)
    replay = WholeModelReplay(model)
    stated = {item.kernel_class for stage in evidence for item in stage.values()}
    assert stated == {replay.kernel_class}
    if not is_exact(replay.kernel_class):
        return
    for number in NUMBERS:
        request_, ids = spec(number).request, done[spec(number).sequence_id].ids
        boundaries = cuts(model.manifest.layers, STAGES)[1:]
        (own,) = replay.prefill([(request_.prompt_ids, ids)], boundaries, {0: range(STAGES - 1)})
        for stage in range(STAGES - 1):
            assert evidence[stage][request_.sequence_id].sent == rows_digest(own.full[stage])
        assert evidence[-1][request_.sequence_id].final == rows_digest(own.stages[-1])
