"""What every engine does on request: the real process and the stand-in pass the same suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from pipeline.engine.control.client import open_engine
from pipeline.engine.control.messages import (
    Bench,
    Empty,
    Finished,
    JoinRing,
    Listen,
    Load,
    SequenceIds,
    Submit,
    Tokens,
)
from pipeline.engine.control.operations import (
    ABORT,
    BENCH,
    EVIDENCE,
    FORGET,
    JOIN_RING,
    LISTEN,
    LOAD,
    REPLAY,
    STATUS,
    SUBMIT,
    UNLOAD,
)
from pipeline.engine.control.replay_messages import Replay, ReplaySequence
from pipeline.engine.errors import EngineError
from pipeline.models.prepared import PreparedModel
from proofs.evidence.ring_terms import ring_digest, terms_digest
from proofs.evidence.sequence import BundleSequence, FinishReason
from proofs.evidence.statement import input_digest, token_digest
from tests.adversarial.standins import LAYERS, MODEL, Engine, Ring
from tests.pipeline.engine.sequences import make_spec

WAIT = 60.0
GROUP, GENERATION = b"g" * 32, 3
SPEC = make_spec(b"s" * 16, (5, 6, 7), max_tokens=6)


@dataclass
class Subject:
    """An engine, and the model that it is asked to load."""

    engine: Any
    model_dir: str
    model_id: bytes
    layers: int


@asynccontextmanager
async def real(folder: Path, model: PreparedModel) -> AsyncIterator[Subject]:
    async with open_engine(folder, "one", environment={"PRIME_ENGINE_THREADS": "1"}) as engine:
        yield Subject(engine, str(model.path), model.model_id, model.manifest.layers)


@asynccontextmanager
async def stand_in(folder: Path, _model: PreparedModel) -> AsyncIterator[Subject]:
    yield Subject(Engine(Ring()), str(folder), MODEL, LAYERS)


async def generate(subject: Subject) -> tuple[int, ...]:
    """Load, join a ring of one, and generate `SPEC`; checks the events on the way."""
    engine = subject.engine
    loaded = await engine.request(
        LOAD,
        Load(
            model_dir=subject.model_dir,
            model_id=subject.model_id,
            first_layer=0,
            last_layer=subject.layers,
            kv_tokens=64,
        ),
        WAIT,
    )
    assert loaded.weights_bytes > 0
    ring = JoinRing(
        group_id=GROUP, generation=GENERATION, stage=0, stages=1, boundaries=(subject.layers,)
    )
    assert await engine.request(JOIN_RING, ring, WAIT) == Empty()
    await engine.request(SUBMIT, Submit(sequences=(SPEC,)), WAIT)
    seen: tuple[int, ...] = ()
    with trio.fail_after(WAIT):
        while True:
            name, event = await engine.events.receive()
            assert (event.generation, event.sequence_id) == (GENERATION, SPEC.sequence_id)
            if isinstance(event, Tokens):
                assert (name, event.offset) == ("tokens", len(seen))
                seen += event.ids
                continue
            assert isinstance(event, Finished)
            assert (name, event.ids, len(seen)) == ("finished", seen, 6)
            return seen


@pytest.mark.parametrize("opened", [real, stand_in])
async def test_an_engine_generates_proves_and_replays(
    opened: Callable[..., Any], tmp_path: Path, tiny_model: Callable[[str], PreparedModel]
) -> None:
    async with opened(tmp_path, tiny_model("llama")) as subject:
        engine, ids = subject.engine, SequenceIds(sequence_ids=(SPEC.sequence_id,))
        with pytest.raises(EngineError) as caught:
            await engine.request(EVIDENCE, ids, WAIT)
        assert caught.value.code == "unknown_sequence"
        output = await generate(subject)
        (said,) = (await engine.request(EVIDENCE, ids, WAIT)).items
        cut = (subject.layers,)
        ring = ring_digest(subject.model_id, GROUP, GENERATION, cut)
        prompt, sampling = SPEC.request.prompt_ids, SPEC.request.sampling
        assert (said.sequence_id, said.rows, len(said.proofs)) == (SPEC.sequence_id, 6, 1)
        assert said.received == input_digest(prompt, output)
        assert said.sent == said.returned == token_digest(output, 0)
        assert said.terms == terms_digest(ring, len(prompt), sampling)
        sequence = BundleSequence(
            request=SPEC.request, output_ids=output, reason=FinishReason.LENGTH
        )
        replay = Replay(
            model_dir=subject.model_dir,
            model_id=subject.model_id,
            boundaries=cut,
            sequences=(ReplaySequence(sequence=sequence, proofs=(said.proofs,)),),
        )
        (measure,) = (await engine.request(REPLAY, replay, WAIT)).measures
        assert [len(chunks) for chunks in measure.stages] == [1]
        assert not measure.stages[0][0].malformed
        assert (measure.sampling.tokens, measure.sampling.matches) == (6, 6)
        assert await engine.request(ABORT, ids, WAIT) == Empty()
        assert await engine.request(FORGET, ids, WAIT) == Empty()
        assert await engine.request(UNLOAD, Empty(), WAIT) == Empty()


@pytest.mark.parametrize("opened", [real, stand_in])
async def test_an_engine_reports_listens_and_measures_itself(
    opened: Callable[..., Any], tmp_path: Path, tiny_model: Callable[[str], PreparedModel]
) -> None:
    async with opened(tmp_path, tiny_model("llama")) as subject:
        status = await subject.engine.request(STATUS, Empty(), WAIT)
        assert (status.pid > 0, status.rss > 0, status.running) == (True, True, 0)
        listening = await subject.engine.request(LISTEN, Listen(host="127.0.0.1"), WAIT)
        assert listening.port > 0
        assert len(listening.fingerprint) == 32
        bench = Bench(model_dir=subject.model_dir, batch=2)
        assert (await subject.engine.request(BENCH, bench, WAIT)).layer_seconds > 0
