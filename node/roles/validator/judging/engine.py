"""This validator's engine: one replay at a time, in fair turns, retried if it fails.

Replays of all senders' bundles wait here: whole bundles, and single sequences of which a stage
showed rows. Whose replay is next is counted in tokens (`fair_turns`), so neither many inquiries nor
a bundle on which the engine fails again and again keeps other senders waiting for more than the
replay that runs.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from node.config.hardware import Device
from node.retry import Backoff, tries
from node.roles.validator.fair_turns import FairTurns
from node.roles.validator.judging.errors import CannotJudge, DamagedWeights
from pipeline.engine.control.client import EngineClient
from pipeline.engine.control.operations import REPLAY
from pipeline.engine.control.replay_messages import Replay, Replayed
from pipeline.engine.errors import EngineError

REPLAY_TRIES = Backoff(first=0.5, last=30.0, most=4)
FINAL = {
    "bad_request": "the engine refuses the bundle",
    "model": "the model cannot be used",
}
"""Errors that come again however often one asks."""


@dataclass(frozen=True)
class ReplayTiming:
    """A replay may take `seconds`, in which the model is loaded, too, and longer by what a slow
    machine takes for its tokens. `attempts` says how often a failed one is repeated. Weights in
    memory are believed for `doubt_after` seconds where somebody would be blamed by them."""

    seconds: float = 600.0
    tokens_per_second: float = 500.0
    doubt_after: float = 3600.0
    attempts: Backoff = REPLAY_TRIES


class ReplayEngine:
    """Replays on one device. A replay that fails is tried again, for the engine may have been
    restarted; one that the engine refuses is not."""

    def __init__(
        self,
        client: EngineClient,
        device: Device,
        log: Any,
        timing: ReplayTiming | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self.device = device.torch_name
        self._log = log
        self._timing = timing or ReplayTiming()
        self._turns = EngineTurns()
        self._now = now
        self._verified: tuple[bytes, float] | None = None
        """The model in memory, and when its files were hashed and loaded for sure."""

    def is_believed(self, model_id: bytes) -> bool:
        """Whether the weights in memory were hashed and loaded not long ago."""
        if self._verified is None or self._verified[0] != model_id:
            return False
        return self._now() - self._verified[1] <= self._timing.doubt_after

    async def replay(
        self, request: Replay, sender: str, on_failure: Callable[[], None] = lambda: None
    ) -> Replayed:
        """The engine's measurements for a bundle of `sender`. `on_failure` is called when a first
        try has failed and others may go first. Raises `CannotJudge`."""
        timing = self._timing
        tokens = sum(item.sequence.token_count for item in request.sequences)
        seconds = timing.seconds + tokens / timing.tokens_per_second
        async for _ in tries(timing.attempts):
            try:
                async with self._turns.turn(sender, tokens):
                    replayed = await self._client.request(REPLAY, request, timeout=seconds)
                self._note(request)
                return replayed
            except EngineError as exc:
                self._verified = None  # it may have been restarted
                if exc.code == "damaged":
                    raise DamagedWeights(exc.message) from exc
                if exc.code in FINAL:
                    raise CannotJudge(f"{FINAL[exc.code]}: {exc.message}") from exc
                self._log.warning("replay failed, trying again", reason=exc.message)
                on_failure()
        raise CannotJudge("the engine fails on this bundle")

    def _note(self, request: Replay) -> None:
        if request.verify_again:
            self._verified = (request.model_id, self._now())
        elif self._verified is not None and self._verified[0] != request.model_id:
            self._verified = None  # another model is in memory now


class EngineTurns:
    """A lock whose holders take fair turns."""

    def __init__(self) -> None:
        self._turns = FairTurns()
        self._held = False
        self._waiting: dict[str, deque[tuple[int, trio.Event]]] = {}

    @asynccontextmanager
    async def turn(self, sender: str, tokens: int) -> AsyncIterator[None]:
        """Hold the engine for something of `sender` that costs `tokens`."""
        if self._held:
            await self._wait(sender, tokens)
        else:
            self._held = True
            self._turns.charge(sender, tokens)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, sender: str, tokens: int) -> None:
        mine = (tokens, trio.Event())
        self._waiting.setdefault(sender, deque()).append(mine)
        try:
            await mine[1].wait()
        except trio.Cancelled:
            if mine[1].is_set():
                self._pass_on()  # it was our turn already
            else:
                self._leave(sender, mine)
            raise

    def _pass_on(self) -> None:
        if not self._waiting:
            self._held = False
            return
        chosen = self._turns.choose({sender: own[0][0] for sender, own in self._waiting.items()})
        first = self._waiting[chosen][0]
        self._leave(chosen, first)
        first[1].set()

    def _leave(self, sender: str, mine: tuple[int, trio.Event]) -> None:
        self._waiting[sender].remove(mine)
        if not self._waiting[sender]:
            del self._waiting[sender]
