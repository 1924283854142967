"""Units that engines died of: found by giving each that was there a ring of its own.

An engine process that ends takes its ring with it, and the rebuilt ring gets the same units. One of
them may be the cause: a prompt of a length, or a shape, that a library crashes on, or more memory
than there is. So it is counted which units were being generated whenever an engine ended. Whoever
was there twice is a suspect: it waits until a ring has nothing to do, and runs there alone, one
suspect at a time in the pool, while others go on elsewhere. Once engines have ended in as many
rings as a unit may fail in, the last time with nothing but the suspect there, it is given up, with
the reason. A suspect that is generated is none any more.

The stage whose engine ended is on the account of blame each time, so one that only says so is
planned around before a unit is given up for it, where there are others. In memory only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

TWICE = 2


class Crashes:
    """How often engines ended while a unit was being generated."""

    def __init__(self) -> None:
        self._times: dict[bytes, int] = {}

    def note(self, unit_ids: Collection[bytes], known: Collection[bytes]) -> None:
        """An engine ended while these were there. What is not `known` any more is forgotten."""
        self._times = {unit_id: n for unit_id, n in self._times.items() if unit_id in known}
        for unit_id in unit_ids:
            self._times[unit_id] = self.times(unit_id) + 1

    def times(self, unit_id: bytes) -> int:
        """How often that was so of this unit."""
        return self._times.get(unit_id, 0)

    def suspected(self, unit_id: bytes) -> bool:
        """Whether it must run alone."""
        return self.times(unit_id) >= TWICE

    def suspects(self) -> Iterator[bytes]:
        """All that must."""
        return (unit_id for unit_id, times in self._times.items() if times >= TWICE)

    def cleared(self, unit_id: bytes) -> None:
        """The unit was generated, or given up."""
        self._times.pop(unit_id, None)
