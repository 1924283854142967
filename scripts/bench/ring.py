"""A ring of engine processes on this machine, driven as the worker role drives its engine.

Three engines, each a process of its own with one compute thread, hold a third of the model's
layers and are joined by mutual-TLS edges over loopback. A run submits prompts to stage 0 and reads
its events; nothing is shared with the engines but their control sockets.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from relay import Relay

from pipeline.engine.control.client import EngineClient, open_engine
from pipeline.engine.control.messages import (
    EdgeDown,
    Empty,
    Endpoint,
    EngineStatus,
    Finished,
    JoinRing,
    Listen,
    Listening,
    Load,
    SequenceIds,
    SequenceSpec,
    Submit,
    Tokens,
)
from pipeline.engine.control.operations import (
    EVIDENCE,
    FORGET,
    JOIN_RING,
    LISTEN,
    LOAD,
    STATUS,
    SUBMIT,
)
from pipeline.models.prepared import PreparedModel
from proofs.evidence.sequence import SequenceRequest
from proofs.sampling.settings import SamplingSettings

WAIT = 300.0
KV_TOKENS = 4096


@dataclass(frozen=True)
class Generated:
    """One run. Seconds from `submit`; `arrivals` are those of every token, in order."""

    sequences: tuple[SequenceSpec, ...]
    outputs: dict[bytes, tuple[int, ...]]
    arrivals: tuple[float, ...]
    all_started: float
    seconds: float
    compute: tuple[float, ...]

    @property
    def tokens(self) -> int:
        """How many tokens arrived."""
        return len(self.arrivals)

    @property
    def decode_rate(self) -> float:
        """Tokens a second from when every sequence has its first token to the last token."""
        after = sum(1 for at in self.arrivals if at > self.all_started)
        return after / (self.arrivals[-1] - self.all_started)

    @property
    def idle(self) -> float:
        """Share of the run that an engine spent outside of its compute steps, on average."""
        return 1.0 - sum(self.compute) / len(self.compute) / self.seconds


class Ring:
    """`engines` in ring order; `join` (again) before `generate`."""

    def __init__(self, engines: Sequence[EngineClient], model: PreparedModel) -> None:
        self.engines = list(engines)
        self.model = model
        layers, stages = model.manifest.layers, len(engines)
        self.cuts = [round(stage * layers / stages) for stage in range(stages + 1)]
        self._generation = 0

    async def each(self, ask: Callable[[int], Awaitable[Any]]) -> list[Any]:
        """Ask every engine at once; answers in ring order."""
        answers: dict[int, Any] = {}

        async def one(stage: int) -> None:
            answers[stage] = await ask(stage)

        async with trio.open_nursery() as nursery:
            for stage in range(len(self.engines)):
                nursery.start_soon(one, stage)
        return [answers[stage] for stage in range(len(self.engines))]

    async def load(self, kv_tokens: int = KV_TOKENS) -> None:
        """Load every stage's layers, with memory for `kv_tokens` positions."""

        async def one(stage: int) -> None:
            load = Load(
                model_dir=str(self.model.path),
                model_id=self.model.model_id,
                first_layer=self.cuts[stage],
                last_layer=self.cuts[stage + 1],
                kv_tokens=kv_tokens,
            )
            await self.engines[stage].request(LOAD, load, WAIT)

        await self.each(one)

    async def listen(self) -> list[Listening]:
        """Have every stage listen; where each can be reached, stage 0 first."""
        listen = Listen(host="127.0.0.1")
        return await self.each(lambda stage: self.engines[stage].request(LISTEN, listen, WAIT))

    async def join(self, micro_batches: int, relays: Sequence[Relay] = ()) -> None:
        """Connect every stage to the next, through `relays[stage]` in front of it if given."""
        listening = await self.listen()
        stages = len(self.engines)
        self._generation += 1

        async def one(stage: int) -> None:
            following = (stage + 1) % stages
            at = listening[following]
            port = relays[following].port if relays else at.port
            ring = JoinRing(
                group_id=b"benchmark".ljust(32, b"."),
                generation=self._generation,
                stage=stage,
                stages=stages,
                boundaries=tuple(self.cuts[1:]),
                upstream_certificate=listening[stage - 1].certificate,
                downstream=(Endpoint(host="127.0.0.1", port=port, fingerprint=at.fingerprint),),
                micro_batches=micro_batches,
            )
            await self.engines[stage].request(JOIN_RING, ring, WAIT)

        await self.each(one)

    async def status(self) -> list[EngineStatus]:
        """Every engine's status, stage 0 first."""
        return await self.each(lambda stage: self.engines[stage].request(STATUS, Empty(), WAIT))

    async def generate(
        self,
        prompts: Sequence[Sequence[int]],
        new: int,
        sampling: SamplingSettings = SamplingSettings(),  # noqa: B008 -- frozen
    ) -> Generated:
        """Generate exactly `new` tokens for every prompt, all submitted at once; greedy, unless
        `sampling` says otherwise, with noise of its own for every prompt."""
        specs = tuple(
            SequenceSpec(
                request=SequenceRequest(
                    sequence_id=secrets.token_bytes(16),
                    prompt_ids=tuple(prompt),
                    max_tokens=new,
                    sampling=sampling.model_copy(update={"noise_key": number}),
                )
            )
            for number, prompt in enumerate(prompts)
        )
        before = await self.status()
        arrivals: list[float] = []
        outputs: dict[bytes, tuple[int, ...]] = {}
        all_started = started = trio.current_time()
        await self.engines[0].request(SUBMIT, Submit(sequences=specs), WAIT)
        with trio.fail_after(WAIT):
            while len(outputs) < len(specs):
                name, body = await self.engines[0].events.receive()
                at = trio.current_time() - started
                if isinstance(body, Tokens):
                    arrivals += [at] * len(body.ids)
                    all_started = at if body.offset == 0 else all_started
                elif isinstance(body, Finished):
                    outputs[body.sequence_id] = body.ids
                elif not (isinstance(body, EdgeDown) and body.generation < self._generation):
                    raise RuntimeError(f"the ring stopped: {name} {body}")
        seconds = trio.current_time() - started
        after = await self.status()
        compute = tuple(
            b.compute_seconds - a.compute_seconds for a, b in zip(before, after, strict=True)
        )
        return Generated(specs, outputs, tuple(arrivals), all_started, seconds, compute)

    async def evidence(self, generated: Generated) -> list[dict[bytes, tuple[bytes, ...]]]:
        """Proofs of every sequence, stage by stage."""
        ids = SequenceIds(sequence_ids=tuple(generated.outputs))
        answers = await self.each(lambda s: self.engines[s].request(EVIDENCE, ids, WAIT))
        return [{item.sequence_id: item.proofs for item in answer.items} for answer in answers]

    async def forget(self, generated: Generated) -> None:
        """Drop what the stages keep of finished sequences."""
        ids = SequenceIds(sequence_ids=tuple(generated.outputs))
        await self.each(lambda stage: self.engines[stage].request(FORGET, ids, WAIT))


@asynccontextmanager
async def open_ring(
    model: PreparedModel, folder: Path, stages: int, kv_tokens: int = KV_TOKENS
) -> AsyncIterator[Ring]:
    """Engines started and loaded, one compute thread each."""
    environment = {"PRIME_ENGINE_THREADS": "1"}
    async with AsyncExitStack() as stack:
        engines = [
            await stack.enter_async_context(
                open_engine(folder, f"stage{stage}", restart=False, environment=environment)
            )
            for stage in range(stages)
        ]
        ring = Ring(engines, model)
        await ring.load(kv_tokens)
        yield ring


@asynccontextmanager
async def open_relays(ring: Ring, delay: float = 0.0) -> AsyncIterator[list[Relay]]:
    """One relay in front of every stage, counting from zero."""
    relays = [Relay(at.port, delay) for at in await ring.listen()]
    async with trio.open_nursery() as nursery:
        for relay in relays:
            await nursery.start(relay.run)
        yield relays
        nursery.cancel_scope.cancel()
