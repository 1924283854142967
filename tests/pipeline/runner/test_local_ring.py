"""A ring in one process gives what a sequence alone gives, in any mix of sequences."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from pipeline.dishonest.weights import apply_fault
from pipeline.models.prepared import PreparedModel
from pipeline.runner.errors import KvExhausted, RunnerError
from pipeline.runner.local_ring import Generated, LocalRing, load_ring
from pipeline.runner.replay import WholeModelReplay
from proofs.evidence.sequence import SequenceRequest
from proofs.sampling.settings import SamplingSettings

CUTS = (2, 5, 6)


def requests(count: int, eos: tuple[int, ...] = ()) -> list[SequenceRequest]:
    return [
        SequenceRequest(
            sequence_id=i.to_bytes(16, "big"),
            prompt_ids=tuple(range(5 + i, 9 + 3 * i)),
            sampling=SamplingSettings(temperature=0.8, top_p=0.95, noise_key=i),
            max_tokens=3 + 4 * (i % 3),
            eos_ids=eos,
        )
        for i in range(count)
    ]


def run(ring: LocalRing, wanted: list[SequenceRequest]) -> list[Generated]:
    return sorted(ring.generate(wanted), key=lambda one: one.index)


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "deepseek_v3"])
def test_batches_and_cut_prompts_do_not_change_what_comes_out(
    tiny_model: Callable[[str], PreparedModel], architecture: str
) -> None:
    stages = load_ring(tiny_model(architecture), CUTS, 400)
    wanted = requests(7)
    alone = run(LocalRing(stages, batch=1), wanted)
    together = run(LocalRing(stages, batch=4, max_batch_tokens=5), wanted)
    for request, one, other in zip(wanted, alone, together, strict=True):
        assert one.output_ids == other.output_ids
        assert len(one.output_ids) == request.max_tokens
        for a, b in zip(one.stages, other.stages, strict=True):
            assert a.shape == (len(request.prompt_ids) + request.max_tokens - 1, 48)
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_rows_are_those_that_a_replay_finds_at_all_positions(
    tiny_model: Callable[[str], PreparedModel],
) -> None:
    model = tiny_model("llama")
    wanted = requests(4)
    made = run(LocalRing(load_ring(model, CUTS, 200), batch=3), wanted)
    pairs = [
        ((r.prompt_ids[0],), (*r.prompt_ids[1:], *one.output_ids))
        for r, one in zip(wanted, made, strict=True)
    ]
    for one, again in zip(made, WholeModelReplay(model).prefill(pairs, CUTS), strict=True):
        for sent, expected in zip(one.stages, again.stages, strict=True):
            torch.testing.assert_close(sent, expected, rtol=1e-3, atol=1e-4)


def test_a_sequence_ends_with_its_end_token(tiny_model: Callable[[str], PreparedModel]) -> None:
    stages = load_ring(tiny_model("llama"), CUTS, 200)
    free = run(LocalRing(stages, batch=4), requests(4))
    eos = free[2].output_ids[1]
    ended = run(LocalRing(stages, batch=4), requests(4, eos=(eos,)))
    assert ended[2].output_ids == free[2].output_ids[:2]
    assert all(runner.kv_tokens_used == 0 for runner in stages)


def test_a_fault_changes_rows_and_an_abandoned_run_frees_its_cache(
    tiny_model: Callable[[str], PreparedModel],
) -> None:
    honest = load_ring(tiny_model("llama"), CUTS, 200)
    faulty = load_ring(
        tiny_model("llama"), CUTS, 200, alter=partial(apply_fault, fault="int8-weights")
    )
    running = LocalRing(faulty, batch=2).generate(requests(2))
    cheap = next(running)
    running.close()
    assert all(runner.kv_tokens_used == 0 for runner in faulty)
    true = next(one for one in LocalRing(honest, 2).generate(requests(2)) if one.index == 0)
    assert cheap.index == 0
    assert not torch.allclose(cheap.stages[0][:4], true.stages[0][:4], rtol=1e-4, atol=1e-4)


def test_impossible_rings_are_refused(tiny_model: Callable[[str], PreparedModel]) -> None:
    stages = load_ring(tiny_model("llama"), CUTS, 40)
    with pytest.raises(RunnerError):
        LocalRing(stages[:2])
    with pytest.raises(RunnerError):
        LocalRing(stages, batch=9, max_batch_tokens=8)
    with pytest.raises(KvExhausted):
        list(LocalRing(stages, batch=8).generate(requests(8)))
