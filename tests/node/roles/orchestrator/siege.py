"""An orchestrator among identities that only want to be in the way, and honest workers who come.

Time is virtual, and every Sybil does what holds a place for longest.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from node.roles.orchestrator.coordinator.commands import AssignUnit, BuildGroup, InviteWorker
from node.roles.orchestrator.coordinator.coordinator import Coordinator
from node.roles.orchestrator.coordinator.events import (
    Event,
    GroupBroken,
    GroupUp,
    PeerAnnounced,
    PeerDeclined,
    PeerJoined,
    QueueRead,
    Tick,
)
from node.roles.orchestrator.coordinator.pool import Policy
from node.roles.orchestrator.workers.membership import OpenMembership
from node.wire.methods import LOAD
from p2p.admission.standing import Standing
from pipeline.planner import Candidate, CannotPlan, GroupPlan, StagePlan
from tests.node.roles.orchestrator.coordination import unit

STEP = 0.5
HONEST = ("honest-1", "honest-2", "honest-3")


def best_claims(candidates: Seq[Candidate], previous: GroupPlan | None) -> GroupPlan:
    """The two that claim to be fastest: what a planner does that believes them."""
    if len(candidates) < 2:
        raise CannotPlan("not enough memory")
    best = sorted(candidates, key=lambda c: (c.layer_seconds, c.peer_id))[:2]
    return GroupPlan((StagePlan(best[0].peer_id, 0, 15), StagePlan(best[1].peer_id, 15, 30)), 1)


@dataclass
class Siege:
    """`sybils` from so many `subnets`, "" being where those come from who are not connected. They
    let every invite lapse, or refuse it after `refuses` seconds; or, if they `join`, answer pings
    and let every order to load lapse. Later records come every `renews` seconds."""

    sybils: int
    subnets: int
    joins: bool = False
    refuses: float = OpenMembership.patience
    standing: Standing = Standing.STRANGER
    connected: bool = True
    renews: float = 200.0
    seed: int = 0
    now: float = 0.0
    invited: dict[str, float] = field(default_factory=dict)
    working: dict[str, float] = field(default_factory=dict)
    """When each was first invited, and first in a ring that was given work."""

    def __post_init__(self) -> None:
        draw = random.Random(self.seed).random
        self.coordinator = Coordinator(Policy(), best_claims, identity=b"siege", draw=draw)
        self._later: list[tuple[float, int, Event]] = []
        self._count = 0
        self.feed(QueueRead(tuple(unit(n) for n in range(1, 200))))
        self._flood()

    def _flood(self) -> None:
        for number in range(self.sybils):
            self.feed(self._sybil(number))

    def _sybil(self, number: int) -> PeerAnnounced:
        place = number % self.subnets
        subnet = f"198.{place // 256}.{place % 256}.0/24" if self.connected else ""
        return PeerAnnounced(
            f"sybil-{number:04}", 1 << 40, 1e-5, None, "", subnet, standing=self.standing
        )

    def arrive(self) -> None:
        """Honest workers are seen."""
        for name in HONEST:
            self.feed(PeerAnnounced(name, 1 << 30, 0.01, None, "", "192.0.2.0/24"))

    def wait_for(self, done: dict[str, float], seconds: float) -> float:
        """How long it takes, at most `seconds`, until two of the honest, which is what a ring
        takes, are in `done`."""
        came = self.now
        self.run(seconds, lambda: len(set(HONEST) & done.keys()) >= 2)
        return self.now - came if len(set(HONEST) & done.keys()) >= 2 else math.inf

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass; Sybils renew their records."""
        end = self.now + seconds
        renewed = self.now
        while self.now < end and not until():
            self.now += STEP
            while self._later and self._later[0][0] <= self.now:
                self.feed(heapq.heappop(self._later)[2])
            if self.now - renewed >= self.renews:
                renewed = self.now
                self._flood()
            self.feed(Tick())

    def feed(self, event: Event) -> None:
        for command in self.coordinator.handle(event, self.now):
            if isinstance(command, InviteWorker):
                self._invited(command.peer_id)
            elif isinstance(command, BuildGroup):
                self._built(command)
            elif isinstance(command, AssignUnit):
                for peer_id in self.coordinator.pool.groups[command.group_id].peers:
                    self.working.setdefault(peer_id, self.now)

    def _invited(self, peer_id: str) -> None:
        self.invited.setdefault(peer_id, self.now)
        if self.joins or peer_id.startswith("honest"):
            self._after(0.1, PeerJoined(peer_id, "0x", "0x"))
        else:
            self._after(self.refuses, PeerDeclined(peer_id, "no answer", self.refuses))

    def _built(self, command: BuildGroup) -> None:
        liars = [s.peer_id for s in command.plan.stages if s.peer_id.startswith("sybil")]
        if liars:
            broken = GroupBroken(command.group_id, command.generation, "load", suspect=liars[0])
            self._after(LOAD.timeout, broken)
        else:
            self._after(5.0, GroupUp(command.group_id, command.generation))

    def _after(self, seconds: float, event: Event) -> None:
        self._count += 1
        heapq.heappush(self._later, (self.now + seconds, self._count, event))
