"""This validator's engine: one replay at a time, retried if it fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trio

from node.config.hardware import Device
from node.retry import Backoff, tries
from node.roles.validator.judging.errors import CannotJudge
from pipeline.engine.control.client import EngineClient
from pipeline.engine.control.operations import REPLAY
from pipeline.engine.control.replay_messages import Replay, Replayed
from pipeline.engine.errors import EngineError

REPLAY_TRIES = Backoff(first=0.5, last=30.0, most=4)


@dataclass(frozen=True)
class ReplayTiming:
    """`seconds` is the time limit of one replay, `attempts` how often a failed one is repeated."""

    seconds: float = 600.0
    attempts: Backoff = REPLAY_TRIES


class ReplayEngine:
    """Replays on one device. A replay that fails is tried again, for the engine may have been
    restarted; one that the engine refuses is not."""

    def __init__(
        self, client: EngineClient, device: Device, log: Any, timing: ReplayTiming | None = None
    ) -> None:
        self._client = client
        self.device = device.torch_name
        self._log = log
        self._timing = timing or ReplayTiming()
        self._busy = trio.Lock()

    async def replay(self, request: Replay) -> Replayed:
        """The engine's measurements. Raises `CannotJudge`."""
        async for _ in tries(self._timing.attempts):
            try:
                async with self._busy:
                    return await self._client.request(REPLAY, request, timeout=self._timing.seconds)
            except EngineError as exc:
                if exc.code == "bad_request":
                    raise CannotJudge(f"the engine refuses the bundle: {exc.message}") from exc
                self._log.warning("replay failed, trying again", reason=exc.message)
        raise CannotJudge("the engine fails on this bundle")
