"""The bar: a ring of engine processes gives what transformers generates from the whole model."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest
import trio

from pipeline.engine.control.client import open_engine
from pipeline.engine.control.messages import SequenceSpec
from pipeline.models.prepared import PreparedModel
from proofs.sampling.settings import SamplingSettings
from tests.pipeline.engine.reference import Reference
from tests.pipeline.engine.rings import WAIT, ProcessRing
from tests.pipeline.engine.sequences import make_spec

SAMPLED = SamplingSettings(temperature=0.8, top_k=40, top_p=0.95)
ALL_LENGTHS = (1, 2, 3, 4, 5)
# (micro-batches, tokens a batch, KV positions): from one at a time to all together.
SHAPES = [(1, 512, 4096), (3, 16, 4096), (5, 7, 400), (2, 64, 600), (8, 33, 4096)]


def make_prompts(vocab: int, count: int, longest: int) -> dict[int, tuple[int, ...]]:
    rng = np.random.default_rng(7)
    lengths = rng.integers(1, longest, count)
    return {n: tuple(rng.integers(3, vocab, size).tolist()) for n, size in enumerate(lengths)}


def key(run: int, number: int) -> bytes:
    return run.to_bytes(8, "big") + number.to_bytes(8, "big")


def specs(
    run: int, prompts: dict[int, tuple[int, ...]], max_tokens: int, sampled: bool
) -> list[SequenceSpec]:
    return [
        make_spec(
            key(run, number),
            prompt,
            sampling=SAMPLED.model_copy(update={"noise_key": number})
            if sampled
            else SamplingSettings(),
            max_tokens=max_tokens,
            eos_ids=(2,),
        )
        for number, prompt in prompts.items()
    ]


async def check(
    folder: Path,
    model: PreparedModel,
    count: int,
    longest: int,
    max_tokens: int,
    lengths: Sequence[int] = ALL_LENGTHS,
) -> None:
    """Rings of as many stages as `lengths` say give the whole model's tokens, and each other's."""
    prompts = make_prompts(model.manifest.vocab_size, count, longest)
    reference = Reference(model)
    wanted = {n: reference.greedy(p, max_tokens, (2,)) for n, p in prompts.items()}
    ties = 0
    sampled: dict[int, tuple[int, ...]] = {}
    async with AsyncExitStack() as stack:
        engines = [
            await stack.enter_async_context(
                open_engine(folder, f"e{n}", environment={"PRIME_ENGINE_THREADS": "1"})
            )
            for n in range(max(lengths))
        ]
        for stages in lengths:
            micro_batches, batch_tokens, kv_tokens = SHAPES[stages - 1]
            ring = ProcessRing(engines[:stages])
            await ring.load(model, kv_tokens)
            await ring.up(stages, micro_batches, batch_tokens)
            await ring.submit(specs(stages, prompts, max_tokens, sampled=False))
            await ring.submit(specs(100 + stages, prompts, max_tokens, sampled=True))
            done = await ring.finished(2 * len(prompts))
            outputs = {n: done[key(stages, n)].ids for n in prompts}
            compared = reference.compare(prompts, wanted, outputs)
            assert compared.different == {}, f"{stages} stages"
            ties += compared.ties
            drawn = {n: done[key(100 + stages, n)].ids for n in prompts}
            sampled = sampled or drawn
            assert drawn == sampled, f"{stages} stages"
            evidence = await ring.evidence(done)
            for sequence_id, finished in done.items():
                chain = [each[sequence_id] for each in evidence]
                assert {each.rows for each in chain} == {len(finished.ids)}
                assert all(a.sent == b.received for a, b in itertools.pairwise(chain))
    total = sum(map(len, wanted.values())) * len(lengths)
    print(f"{model.name}: {total} greedy positions, {ties} sequences differ at a tie")


async def test_tiny_llama(tmp_path: Path, tiny_model: Callable[[str], PreparedModel]) -> None:
    await check(tmp_path, tiny_model("llama"), count=6, longest=40, max_tokens=16)


async def test_a_killed_engine_costs_no_token(
    tmp_path: Path, tiny_model: Callable[[str], PreparedModel]
) -> None:
    model = tiny_model("llama")
    prompts = make_prompts(model.manifest.vocab_size, 6, 40)
    reference = Reference(model)
    wanted = {n: reference.greedy(p, 40, (2,)) for n, p in prompts.items()}
    async with AsyncExitStack() as stack:
        engines = [
            await stack.enter_async_context(
                open_engine(tmp_path, f"e{n}", environment={"PRIME_ENGINE_THREADS": "1"})
            )
            for n in range(3)
        ]
        ring = ProcessRing(engines)
        await ring.load(model)
        await ring.up(generation=1)
        await ring.submit(specs(1, prompts, 40, sampled=False))
        for _ in range(50):
            assert (await engines[0].events.receive())[0] == "tokens"
        assert engines[1].pid is not None
        os.kill(engines[1].pid, signal.SIGKILL)
        with trio.fail_after(WAIT):
            while (await engines[1].events.receive())[0] != "restarted":
                pass
            while (await engines[0].events.receive())[0] != "edge_down":
                pass
        await ring.load_one(model, 1)
        await ring.up(generation=2)
        done = await ring.finished(len(prompts))
        outputs = {n: done[key(1, n)].ids for n in prompts}
        assert reference.compare(prompts, wanted, outputs).different == {}
        for each in await ring.evidence(done):
            assert {k: item.rows for k, item in each.items()} == {
                k: len(finished.ids) for k, finished in done.items()
            }


@pytest.mark.model
async def test_smollm2(tmp_path: Path, smollm2: PreparedModel) -> None:
    await check(tmp_path, smollm2, count=4, longest=40, max_tokens=16, lengths=(1, 4))
