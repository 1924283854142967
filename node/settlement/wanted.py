"""Which published data are fetched next: few at a time, and no pool before its turn. Pure.

Every posted root is wanted until its data are here or it is gone. Pools take turns, so that one
whose data nobody has, or whose data are many, keeps no other waiting; within a pool, what was asked
for least goes first, then the oldest root. What was asked for in vain rests for longer each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
Key = tuple[int, int, bytes]
"""A pool, the number of an epoch, and the hash of its data."""


@dataclass
class _Item(Generic[T]):
    value: T
    due: float
    tries: int = 0


class Wanted(Generic[T]):
    """`pause(n)` are the seconds of rest after the n-th try in vain; of one pool `per_pool` are
    under way at a time."""

    def __init__(self, pause: Callable[[int], float], per_pool: int) -> None:
        self._pause = pause
        self._per_pool = per_pool
        self._waiting: dict[int, dict[Key, _Item[T]]] = {}
        """By pool; the pool that had its turn last comes last."""
        self._under_way: dict[Key, _Item[T]] = {}

    def __len__(self) -> int:
        return len(self._under_way) + sum(map(len, self._waiting.values()))

    def add(self, key: Key, value: T, now: float) -> bool:
        """Want it; False where it was wanted already."""
        if key in self._under_way or key in self._waiting.get(key[0], ()):
            return False
        self._waiting.setdefault(key[0], {})[key] = _Item(value, now)
        return True

    def take(self, now: float) -> tuple[Key, T] | None:
        """The next one, which is under way from now on; None where none is due."""
        for pool_id, items in self._waiting.items():
            if self._busy(pool_id) >= self._per_pool:
                continue
            due = [key for key, item in items.items() if item.due <= now]
            if due:
                key = min(due, key=lambda key: (items[key].tries, key[1]))
                item = self._under_way[key] = items.pop(key)
                del self._waiting[pool_id]
                if items:
                    self._waiting[pool_id] = items
                return key, item.value
        return None

    def due_at(self) -> float:
        """When the next one falls due that is not held up by others of its pool; infinity where
        there is none."""
        return min(
            (
                item.due
                for pool_id, items in self._waiting.items()
                if self._busy(pool_id) < self._per_pool
                for item in items.values()
            ),
            default=float("inf"),
        )

    def failed(self, key: Key, now: float) -> None:
        """It was asked for in vain."""
        item = self._under_way.pop(key)
        item.tries += 1
        item.due = now + self._pause(item.tries)
        self._waiting.setdefault(key[0], {})[key] = item

    def done(self, key: Key) -> None:
        """It is here, or wanted no more."""
        del self._under_way[key]

    def _busy(self, pool_id: int) -> int:
        return sum(key[0] == pool_id for key in self._under_way)
