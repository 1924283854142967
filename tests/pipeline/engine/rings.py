"""Rings for tests: engine services in this process, or whole engine processes.

Both are real: the same services, mutual-TLS edges and slices. In one process a ring is up in a
moment and its state can be looked at; processes are what runs in production and can be killed.
"""

from __future__ import annotations

import queue
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from pipeline.engine.control.client import EngineClient
from pipeline.engine.control.messages import (
    Endpoint,
    Finished,
    JoinRing,
    Listen,
    Listening,
    Load,
    Loaded,
    Message,
    SequenceIds,
    SequenceSpec,
    Submit,
)
from pipeline.engine.control.operations import EVIDENCE, JOIN_RING, LISTEN, LOAD, SUBMIT
from pipeline.engine.errors import EngineError
from pipeline.engine.service import EngineService
from pipeline.models.prepared import PreparedModel
from proofs.evidence.statement import StageEvidence

WAIT = 120.0
GROUP = b"g" * 32


def cuts(layers: int, stages: int) -> list[int]:
    """Layer boundaries of an even split: stages + 1 numbers."""
    return [round(stage * layers / stages) for stage in range(stages + 1)]


def load_requests(
    model: PreparedModel, stages: int, kv_tokens: int, faults: dict[int, str]
) -> list[Load]:
    at = cuts(model.manifest.layers, stages)
    return [
        Load(
            model_dir=str(model.path),
            model_id=model.model_id,
            first_layer=at[stage],
            last_layer=at[stage + 1],
            kv_tokens=kv_tokens,
            fault=faults.get(stage, ""),
        )
        for stage in range(stages)
    ]


def ring_requests(
    listening: Sequence[Listening],
    model: PreparedModel,
    generation: int,
    micro_batches: int,
    max_batch_tokens: int,
) -> list[JoinRing]:
    stages = len(listening)
    several = stages > 1
    return [
        JoinRing(
            group_id=GROUP,
            generation=generation,
            stage=stage,
            stages=stages,
            boundaries=tuple(cuts(model.manifest.layers, stages)[1:]),
            upstream_certificate=listening[stage - 1].certificate if several else None,
            downstream=(endpoint(listening[(stage + 1) % stages]),) if several else (),
            micro_batches=micro_batches,
            max_batch_tokens=max_batch_tokens,
        )
        for stage in range(stages)
    ]


def endpoint(listening: Listening) -> Endpoint:
    return Endpoint(host="127.0.0.1", port=listening.port, fingerprint=listening.fingerprint)


class LocalRing:
    """A ring of `EngineService`s in this process; `events[s]` are what stage s emitted."""

    def __init__(self, stages: int, folder: Path) -> None:
        self.stages = stages
        self.model: PreparedModel | None = None
        self.events: list[queue.SimpleQueue[tuple[str, Message]]] = []
        self.services: list[EngineService] = []
        for stage in range(stages):
            events: queue.SimpleQueue[tuple[str, Message]] = queue.SimpleQueue()
            self.events.append(events)
            path = str(folder / f"{stage}.sock")
            self.services.append(
                EngineService(path, 1, lambda name, body, put=events.put: put((name, body)))
            )
        self.listening = [s.listen(Listen(host="127.0.0.1")) for s in self.services]

    def load(
        self, model: PreparedModel, kv_tokens: int = 2048, faults: dict[int, str] | None = None
    ) -> None:
        self.model = model
        requests = load_requests(model, self.stages, kv_tokens, faults or {})
        for service, request in zip(self.services, requests, strict=True):
            service.load(request)

    def up(
        self, generation: int = 1, micro_batches: int = 4, max_batch_tokens: int = 64
    ) -> list[EngineError | None]:
        """Join all stages at once; the error of each stage that could not."""
        assert self.model is not None
        requests = ring_requests(
            self.listening, self.model, generation, micro_batches, max_batch_tokens
        )
        return self.join(requests)

    def join(self, requests: Sequence[JoinRing]) -> list[EngineError | None]:
        from concurrent.futures import ThreadPoolExecutor

        def one(pair: tuple[EngineService, JoinRing]) -> EngineError | None:
            try:
                pair[0].ring(pair[1])
            except EngineError as exc:
                return exc
            return None

        with ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(one, zip(self.services, requests, strict=True)))

    def run(self, specs: Iterable[SequenceSpec]) -> dict[bytes, Finished]:
        """Generate and wait for every sequence."""
        specs = tuple(specs)
        self.services[0].submit(Submit(sequences=specs))
        return self.finished(len(specs))

    def finished(self, count: int) -> dict[bytes, Finished]:
        found: dict[bytes, Finished] = {}
        while len(found) < count:
            name, body = self.events[0].get(timeout=WAIT)
            assert name in ("tokens", "finished"), (name, body)
            if isinstance(body, Finished):
                found[body.sequence_id] = body
        return found

    def wait_for(self, stage: int, name: str) -> Any:
        """The next event of that name from a stage, skipping tokens."""
        while True:
            got, body = self.events[stage].get(timeout=WAIT)
            if got == name:
                return body
            assert got == "tokens", (got, body)

    def evidence(self, sequence_ids: Iterable[bytes]) -> list[dict[bytes, StageEvidence]]:
        ids = SequenceIds(sequence_ids=tuple(sequence_ids))
        items = [service.evidence(ids).items for service in self.services]
        return [{item.sequence_id: item for item in each} for each in items]

    def close(self) -> None:
        for service in self.services:
            service.close()


@contextmanager
def local_ring(stages: int, folder: Path) -> Iterator[LocalRing]:
    ring = LocalRing(stages, folder)
    try:
        yield ring
    finally:
        ring.close()


class ProcessRing:
    """A ring over running engine processes; `engines` in ring order."""

    def __init__(self, engines: Sequence[EngineClient]) -> None:
        self.engines = list(engines)
        self.model: PreparedModel | None = None

    async def _each(self, ask: Callable[[int, EngineClient], Awaitable[Any]]) -> list[Any]:
        answers: dict[int, Any] = {}

        async def one(stage: int, engine: EngineClient) -> None:
            answers[stage] = await ask(stage, engine)

        async with trio.open_nursery() as nursery:
            for stage, engine in enumerate(self.engines):
                nursery.start_soon(one, stage, engine)
        return [answers[stage] for stage in range(len(self.engines))]

    async def load(self, model: PreparedModel, kv_tokens: int = 2048) -> list[Loaded]:
        self.model = model
        requests = load_requests(model, len(self.engines), kv_tokens, {})
        return await self._each(lambda s, e: e.request(LOAD, requests[s], WAIT))

    async def load_one(self, model: PreparedModel, stage: int, kv_tokens: int = 2048) -> Loaded:
        request = load_requests(model, len(self.engines), kv_tokens, {})[stage]
        return await self.engines[stage].request(LOAD, request, WAIT)

    async def up(self, generation: int, micro_batches: int = 4, max_batch_tokens: int = 64) -> None:
        listen = Listen(host="127.0.0.1")
        listening = await self._each(lambda _, e: e.request(LISTEN, listen, WAIT))
        assert self.model is not None
        requests = ring_requests(listening, self.model, generation, micro_batches, max_batch_tokens)
        await self._each(lambda s, e: e.request(JOIN_RING, requests[s], WAIT))

    async def submit(self, specs: Iterable[SequenceSpec]) -> None:
        await self.engines[0].request(SUBMIT, Submit(sequences=tuple(specs)), WAIT)

    async def finished(self, count: int) -> dict[bytes, Finished]:
        found: dict[bytes, Finished] = {}
        with trio.fail_after(WAIT):
            while len(found) < count:
                _, body = await self.engines[0].events.receive()
                if isinstance(body, Finished):
                    found[body.sequence_id] = body
        return found

    async def evidence(self, sequence_ids: Iterable[bytes]) -> list[dict[bytes, StageEvidence]]:
        ids = SequenceIds(sequence_ids=tuple(sequence_ids))
        answers = await self._each(lambda _, e: e.request(EVIDENCE, ids, WAIT))
        return [{item.sequence_id: item for item in each.items} for each in answers]
