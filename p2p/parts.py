"""Background work that a surprise does not end: each part is started again, and says why.

A part is something that should run as long as the network does. When it raises, or just returns,
only this part stops: it is started again after a pause that doubles up to `Restarts.last`, and
begins anew with the first pause once it has run for `Restarts.calm` seconds. What went wrong is
kept, so that a node's status can show it. Cancelling ends parts as it ends any task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
import trio

log = structlog.get_logger(__name__)

MAX_REASON = 200  # characters


@dataclass(frozen=True)
class Restarts:
    """Pauses before a part is started again, in seconds; see the module's docstring."""

    first: float = 1.0
    last: float = 60.0
    calm: float = 300.0


@dataclass(frozen=True, slots=True)
class PartTrouble:
    """What ended a part last: how often it was started again, and whether it runs now."""

    part: str
    reason: str
    restarts: int
    running: bool


class Parts:
    """The parts of one network and what went wrong with them."""

    def __init__(self, restarts: Restarts | None = None) -> None:
        self._restarts = restarts or Restarts()
        self._troubles: dict[str, PartTrouble] = {}

    @property
    def troubles(self) -> tuple[PartTrouble, ...]:
        """Parts that ended at least once, by name; empty as long as all is well."""
        return tuple(self._troubles[name] for name in sorted(self._troubles))

    async def keep(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run `part` until cancelled, again and again."""
        pause = self._restarts.first
        while True:
            started = trio.current_time()
            reason = "it returned"
            try:
                await part()
            except Exception as exc:
                # The boundary between a part and the network: whatever it is, the others go on.
                log.exception("part of the network failed", part=name)
                reason = repr(exc)[:MAX_REASON]
            if trio.current_time() - started >= self._restarts.calm:
                pause = self._restarts.first
            known = self._troubles.get(name)
            times = 1 if known is None else known.restarts + 1
            self._troubles[name] = PartTrouble(name, reason, times, running=False)
            await trio.sleep(pause)
            self._troubles[name] = PartTrouble(name, reason, times, running=True)
            pause = min(2 * pause, self._restarts.last)
