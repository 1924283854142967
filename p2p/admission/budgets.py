"""The budgets of a node, one for each resource, and the clock and knowledge that they need.

Everything that a peer can make this node do goes through here: the guards count its streams and the
bytes that it has sent and nobody has read, and meter the CPU time of whatever it causes; requests
take their place and bytes before they are read (`p2p.messages.serving`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from p2p.admission.holdings import Holdings
from p2p.admission.shares import BYTES, CPU, CPU_HALF_LIFE, STREAMS, Asker, Limits
from p2p.admission.sources import UNKNOWN
from p2p.admission.spending import Spending
from p2p.admission.standing import Judge, Standing

FLOOD = 2.0
"""Times the CPU limits at which a peer is not even refused any more, but not read for a while."""


@dataclass(frozen=True)
class BudgetLimits:
    """What peers may use: bytes and streams at once, CPU seconds with a half-life (in seconds)."""

    bytes: Limits = BYTES
    streams: Limits = STREAMS
    cpu: Limits = CPU
    cpu_half_life: float = CPU_HALF_LIFE


class Budgets:
    """The budgets of one node.

    Args:
        judge: how a peer stands.
        source_of: the subnet that a peer is connected from.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        limits: BudgetLimits | None = None,
        *,
        judge: Judge = lambda peer_id: Standing.STRANGER,
        source_of: Callable[[str], str] = lambda peer_id: UNKNOWN,
        clock: Callable[[], float],
    ) -> None:
        limits = limits or BudgetLimits()
        self.bytes = Holdings("bytes in flight", limits.bytes)
        self.streams = Holdings("streams", limits.streams)
        self.cpu = Spending("CPU seconds", limits.cpu, limits.cpu_half_life)
        self._judge = judge
        self._source_of = source_of
        self._clock = clock

    def asker(self, peer_id: str, source: str | None = None) -> Asker:
        """The peer as it stands now; `source` where the caller knows it already."""
        where = self._source_of(peer_id) if source is None else source
        return Asker(peer_id, where, self._judge(peer_id))

    def charge(self, who: Asker, seconds: float) -> None:
        """A peer caused CPU time."""
        self.cpu.charge(who, seconds, self._clock())

    def require_cpu(self, who: Asker) -> None:
        """Raise `BudgetUsedUp` where the peer has caused so much work that it has to wait."""
        self.cpu.require(who, self._clock())

    def pause(self, who: Asker, slack: float = 1.0) -> float:
        """Seconds for which a peer should not be read."""
        return self.cpu.wait(who, self._clock(), slack)
