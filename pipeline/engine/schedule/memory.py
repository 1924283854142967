"""Who has how many positions of KV cache: the ledger behind admission, growth and preemption.

Positions are handed out in chunks, as a sequence comes to need them, and never more than it may
ever have. The bound that holds is the ring's own: no more than `kv_tokens` are handed out together,
and a sequence that may need more than that alone is refused when it comes.

A sequence is admitted when all its known tokens and the next one fit, and something is left for
those that run (`headroom`); otherwise they would soon have to give way to one another. Who comes
later may be admitted before one that does not fit, but only so often.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.engine.schedule.sequence import Sequence


@dataclass(frozen=True)
class MemoryPolicy:
    """How memory is handed out.

    Attributes:
        chunk: positions by which a sequence's share grows.
        headroom: share of what running sequences will need next that an admission leaves free.
        overtaken: how many later ones may be admitted before one that does not fit.
    """

    chunk: int = 256
    headroom: float = 0.5
    overtaken: int = 16


class Ledger:
    """Positions of one ring. Not thread-safe."""

    def __init__(self, size: int, policy: MemoryPolicy) -> None:
        self.size = size
        self.used = 0
        self._policy = policy

    def share(self, sequence: Sequence) -> int:
        """Positions for the tokens that a sequence has and the next one, in whole chunks."""
        chunk = self._policy.chunk
        wanted = -(-(len(sequence.token_ids) + 1) // chunk) * chunk
        return min(sequence.needs, wanted)

    def admits(self, sequence: Sequence, running: Iterable[Sequence]) -> bool:
        """Whether a sequence may begin beside those that run."""
        coming = sum(min(self._policy.chunk, each.needs - each.capacity) for each in running)
        kept = int(self._policy.headroom * coming)
        return self.used + self.share(sequence) + kept <= self.size

    def overtakes(self, first: Sequence) -> bool:
        """Whether another may be admitted before `first`, which does not fit; counts it."""
        first.overtaken += 1
        return first.overtaken <= self._policy.overtaken

    def give(self, sequence: Sequence) -> bool:
        """Hand out what the sequence needs now; False, and nothing, where it is not there."""
        more = self.share(sequence) - sequence.capacity
        if more > self.size - self.used:
            return False
        self.used += more
        sequence.capacity += more
        return True

    def take_back(self, sequence: Sequence) -> None:
        """A sequence gives back all it has."""
        self.used -= sequence.capacity
        sequence.capacity = 0
