"""What a replay's measures carry into `proofs`: signs, and surprise over blocks of logits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import torch

from pipeline.engine.control.replay_messages import ReplaySequence
from pipeline.engine.replay import chunk_measure, measure, measure_sampling
from pipeline.models.prepared import PreparedModel
from pipeline.runner.local_ring import LocalRing, load_ring
from pipeline.runner.replay import SequenceReplay, WholeModelReplay
from proofs.evidence.sequence import SequenceRequest
from proofs.sampling.settings import SamplingSettings
from proofs.thresholds.builtin import FP32, PUBLISHED
from proofs.toploc import build_row_proofs, measure_rows
from tests.pipeline.engine.sequences import to_replay

CUTS = (3, 6)
SAMPLING = SamplingSettings(temperature=1.0, top_k=40, top_p=0.95, noise_key=5)


@pytest.fixture(scope="module")
def honest(tiny_model: Callable[[str], PreparedModel]) -> tuple[ReplaySequence, SequenceReplay]:
    """One honest sequence of 70 tokens and its replay."""
    model, prompt = tiny_model("llama"), tuple(range(20, 29))
    ring = LocalRing(load_ring(model, CUTS, 90))
    request = SequenceRequest(
        sequence_id=hashlib.sha256(b"one").digest()[:16],
        prompt_ids=prompt,
        sampling=SAMPLING,
        max_tokens=70,
    )
    (made,) = ring.generate([request])
    proofs = tuple(tuple(build_row_proofs(r[-70:].to(torch.bfloat16))) for r in made.stages)
    claim = to_replay(request, made.output_ids, proofs)
    (replayed,) = WholeModelReplay(model).prefill([(prompt, made.output_ids)], CUTS)
    return claim, replayed


def test_an_honest_sequence_passes_the_limits(
    honest: tuple[ReplaySequence, SequenceReplay],
) -> None:
    measured = measure(*honest)
    for stage in measured.stages:
        assert FP32.passes_sequence(stage)
    s = measured.sampling
    assert (s.tokens, s.matches) == (70, 70)
    assert 0.0 < abs(s.surprise) < 4.0
    assert FP32.passes_sequence_sampling(70, 70, sum(s.scores), max(s.scores), s.surprise)


def test_negated_rows_differ_in_signs_alone_and_fail(
    honest: tuple[ReplaySequence, SequenceReplay],
) -> None:
    _, replayed = honest
    rows = replayed.stages[0].to(torch.bfloat16)
    for result in measure_rows(rows, build_row_proofs(-rows)):
        chunk = chunk_measure(result)
        assert (chunk.exp_mismatches, chunk.mant_err_mean) == (0, 0.0)
        assert chunk.sign_mismatches == 128
        for thresholds in (FP32, PUBLISHED):
            assert not thresholds.passes(chunk)


def test_surprise_does_not_depend_on_the_blocks_of_logits(
    honest: tuple[ReplaySequence, SequenceReplay],
) -> None:
    claim, replayed = honest
    whole = measure_sampling(claim.sequence, replayed)
    blocks = measure_sampling(claim.sequence, replayed, block_rows=16)
    assert blocks.surprise == pytest.approx(whole.surprise, rel=1e-6)


def test_a_colder_request_makes_the_output_look_surprising(
    honest: tuple[ReplaySequence, SequenceReplay],
) -> None:
    claim, replayed = honest
    sampling = SAMPLING.model_copy(update={"temperature": 0.3})
    request = claim.sequence.request.model_copy(update={"sampling": sampling})
    colder = claim.sequence.model_copy(update={"request": request})
    measured = measure_sampling(colder, replayed)
    assert measured.surprise > measure_sampling(claim.sequence, replayed).surprise + 2.0
    assert measured.matches < 60
