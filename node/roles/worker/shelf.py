"""Which models this worker has in its store, as invites ask: cheaply, though anybody may invite."""

from __future__ import annotations

from collections.abc import Callable, Collection

import trio

LOOK = 10.0
"""Seconds between looks at the store for models that were not there."""


class ModelShelf:
    """Ids of the models that `look` saw last, which reads the store in a thread. A model that is
    prepared later is there within `LOOK` seconds of `clock`, however many are asked for in vain."""

    def __init__(self, look: Callable[[], Collection[bytes]], clock: Callable[[], float]) -> None:
        self._look = look
        self._clock = clock
        self._seen: Collection[bytes] = ()
        self._next_look = clock()
        self._looking = trio.Lock()

    async def has(self, model_id: bytes) -> bool:
        """Whether this model is in the store, as far as is known."""
        if model_id in self._seen:
            return True
        async with self._looking:
            now = self._clock()
            if now >= self._next_look:
                self._next_look = now + LOOK
                self._seen = frozenset(await trio.to_thread.run_sync(self._look))
        return model_id in self._seen
