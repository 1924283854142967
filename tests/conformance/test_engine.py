"""A ring of two engine processes with a tiny model, and its stand-in without one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trio

from pipeline.engine.control.client import open_engine
from pipeline.engine.control.messages import (
    Bench,
    Empty,
    Finished,
    Listen,
    Load,
    SequenceIds,
    SequenceSpec,
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
)
from pipeline.engine.control.replay_messages import Replay, ReplaySequence, RevealedRows
from pipeline.engine.errors import EngineError
from pipeline.models.prepared import PreparedModel
from proofs.evidence.ring_terms import request_terms, ring_digest
from proofs.evidence.sequence import BundleSequence, FinishReason, SequenceRequest
from proofs.evidence.statement import input_digest, token_digest
from proofs.thresholds.builtin import FP32
from tests.adversarial.standins import Engine, Ring
from tests.pipeline.engine.rings import GROUP, WAIT, ProcessRing, cuts, load_requests, ring_requests

OUTPUTS = 40
REQUEST = SequenceRequest(sequence_id=b"s" * 16, prompt_ids=(5, 6, 7, 8), max_tokens=OUTPUTS)
SPEC = SequenceSpec(request=REQUEST)
IDS = SequenceIds(sequence_ids=(REQUEST.sequence_id,))


@dataclass
class Pair:
    """Two engines, each with a folder for the rows that it keeps."""

    engines: list[Any]
    model: PreparedModel
    folder: Path

    def loads(self) -> list[Load]:
        return [
            request.model_copy(update={"rows_dir": str(self.folder / f"rows-{stage}")})
            for stage, request in enumerate(load_requests(self.model, 2, 256, {}))
        ]

    @property
    def boundaries(self) -> tuple[int, ...]:
        return tuple(cuts(self.model.manifest.layers, 2)[1:])

    async def up(self) -> None:
        """Both loaded and joined, generation 1."""
        ring = ProcessRing(self.engines)
        ring.model = self.model
        for engine, load in zip(self.engines, self.loads(), strict=True):
            loaded = await engine.request(LOAD, load, WAIT)
            assert loaded.weights_bytes > 0
            assert loaded.kv_bytes > 0
        await ring.up(1)

    async def refusal(self, stage: int, operation: Any, body: Any) -> str:
        with pytest.raises(EngineError) as caught:
            await self.engines[stage].request(operation, body, WAIT)
        return caught.value.code

    async def generated(self) -> tuple[int, ...]:
        """The output that stage 0 reports, token by token and then in whole."""
        ids: tuple[int, ...] = ()
        with trio.fail_after(WAIT):
            while True:
                name, event = await self.engines[0].events.receive()
                assert (event.generation, event.sequence_id) == (1, REQUEST.sequence_id)
                if isinstance(event, Finished):
                    assert name == "finished"
                    assert (event.reason, event.ids) == (FinishReason.LENGTH, ids)
                    return ids
                assert name == "tokens"
                assert isinstance(event, Tokens)
                assert event.offset == len(ids)
                ids += event.ids


@pytest.fixture(params=["process", "stand-in"])
async def pair(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tiny_model: Callable[[str], PreparedModel],
) -> AsyncIterator[Pair]:
    model = tiny_model("llama")
    if request.param == "stand-in":
        ring = Ring()
        yield Pair([Engine(ring), Engine(ring)], model, tmp_path)
        return
    async with AsyncExitStack() as stack:
        threads = {"PRIME_ENGINE_THREADS": "1"}
        engines = [
            await stack.enter_async_context(open_engine(tmp_path, name, environment=threads))
            for name in ("zero", "one")
        ]
        yield Pair(engines, model, tmp_path)


async def test_an_engine_with_nothing_loaded_takes_no_work(pair: Pair) -> None:
    status = await pair.engines[0].request(STATUS, Empty(), WAIT)
    assert status.pid > 0
    assert status.rss > 0
    assert (status.running, status.kv_tokens_used) == (0, 0)
    listen = Listen(host="127.0.0.1")
    listening = [await engine.request(LISTEN, listen, WAIT) for engine in pair.engines]
    assert await pair.engines[0].request(LISTEN, listen, WAIT) == listening[0]
    join = ring_requests(listening, pair.model, 1, 1, 64)[0]
    assert await pair.refusal(0, JOIN_RING, join) == "not_loaded"
    assert await pair.refusal(0, SUBMIT, Submit(sequences=(SPEC,))) == "not_loaded"
    assert await pair.refusal(0, EVIDENCE, IDS) == "unknown_sequence"
    assert await pair.engines[0].request(FORGET, IDS, WAIT) == Empty()
    assert await pair.engines[0].request(ABORT, IDS, WAIT) == Empty()
    measured = await pair.engines[0].request(BENCH, Bench(model_dir=str(pair.model.path)), WAIT)
    assert measured.layer_seconds > 0


async def test_a_ring_generates_proves_and_is_replayed(pair: Pair) -> None:
    await pair.up()
    submit = Submit(sequences=(SPEC,))
    assert await pair.engines[0].request(SUBMIT, submit, WAIT) == Empty()
    assert await pair.engines[0].request(SUBMIT, submit, WAIT) == Empty(), "known, and ignored"
    ids = await pair.generated()
    assert len(ids) == OUTPUTS
    with pytest.raises(trio.WouldBlock):
        pair.engines[0].events.receive_nowait()

    answers = [await engine.request(EVIDENCE, IDS, WAIT) for engine in pair.engines]
    first, last = (answer.items[0] for answer in answers)
    for item in (first, last):
        assert item.sequence_id == REQUEST.sequence_id
        assert (item.rows, len(item.proofs)) == (OUTPUTS, 2)
        digest = ring_digest(pair.model.model_id, GROUP, 1, pair.boundaries)
        assert item.terms == request_terms(digest, REQUEST)
    assert first.received == input_digest(REQUEST.prompt_ids, ids)
    assert first.sent == last.received
    assert last.sent == first.returned == token_digest(ids, 0)
    assert last.returned == b""
    assert await pair.engines[0].request(EVIDENCE, IDS, WAIT) == answers[0], "and again"
    kept = pair.folder / "rows-1" / f"{last.received.hex()}.rows"
    assert sha256(kept.read_bytes()).digest() == last.received

    await replayed(pair, ids, (first.proofs, last.proofs), kept)

    assert await pair.engines[1].request(FORGET, IDS, WAIT) == Empty()
    assert await pair.refusal(1, EVIDENCE, IDS) == "unknown_sequence"
    assert await pair.engines[0].request(EVIDENCE, IDS, WAIT) == answers[0], "forgotten by one"
    assert kept.exists(), "nobody makes a stage lose what exonerates it"


async def replayed(pair: Pair, ids: tuple[int, ...], proofs: Any, kept: Path) -> None:
    """What was done holds in a replay, and so do the rows that the second stage kept."""
    short = pair.folder / "short.rows"
    short.write_bytes(b"no such rows")
    sequence = BundleSequence(request=REQUEST, output_ids=ids, reason=FinishReason.LENGTH)
    asked = ReplaySequence(
        sequence=sequence,
        proofs=proofs,
        revealed=(
            RevealedRows(boundary=0, path=str(kept)),
            RevealedRows(boundary=0, path=str(short)),
        ),
    )
    request = Replay(
        model_dir=str(pair.model.path),
        model_id=pair.model.model_id,
        boundaries=pair.boundaries,
        sequences=(asked,),
    )
    answer = await pair.engines[0].request(REPLAY, request, WAIT)
    (item,) = answer.items
    assert answer.measures == (item.measure,)
    assert item.measure.sequence_id == REQUEST.sequence_id
    assert [len(chunks) for chunks in item.measure.stages] == [2, 2]
    assert all(FP32.passes(chunk) for chunks in item.measure.stages for chunk in chunks)
    sampling = item.measure.sampling
    assert (sampling.tokens, sampling.matches, len(sampling.scores)) == (OUTPUTS,) * 3
    shown, none = item.revealed
    assert 0.0 <= shown.error < 0.01
    assert [FP32.passes(chunk) for chunk in shown.chunks] == [True, True]
    assert shown.sampling is not None
    assert shown.sampling.tokens == OUTPUTS
    assert shown.sent_error == -1.0, "the last stage sends no rows on"
    assert (none.error, none.chunks, none.sampling, none.sent_error) == (-1.0, (), None, -1.0)
