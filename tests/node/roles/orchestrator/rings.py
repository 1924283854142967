"""A pool whose rings break: by accident, and by workers that break them on purpose."""

from __future__ import annotations

import random
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace

from node.roles.orchestrator.coordinator.commands import BuildGroup
from node.roles.orchestrator.coordinator.coordinator import Coordinator
from node.roles.orchestrator.coordinator.events import (
    Event,
    GroupBroken,
    GroupUp,
    PeerAnnounced,
    PeerJoined,
    PeerTokens,
    QueueRead,
    Tick,
)
from node.roles.orchestrator.coordinator.groups import Group, GroupState
from node.roles.orchestrator.coordinator.members import Member
from node.roles.orchestrator.coordinator.pool import Policy
from node.roles.orchestrator.coordinator.units import Unit
from node.roles.orchestrator.workers.edges import edge_suspects
from pipeline.planner import Candidate, CannotPlan, GroupPlan, StagePlan
from tests.node.roles.orchestrator.coordination import sequence

STEP = 5.0
LAYERS = 30


@dataclass
class Rings:
    """Rings of three (two at least) out of `workers` workers, over hours of virtual time.

    Those in `evil` do as `mode` says: "bad frames" makes the next stage report its upstream edge,
    "false alarm" reports its own downstream edge, "either edge" one of its own, each `every`
    seconds after the ring is up; "drip" lets the ring have one token in 119 s. Each ring breaks by
    accident once in `accidents` seconds on average.
    """

    workers: int
    evil: frozenset[int]
    mode: str
    seed: int
    every: float = 61.0
    accidents: float = 4 * 3600.0
    now: float = 0.0
    breaks: list[tuple[float, bool]] = field(default_factory=list)
    """When a ring broke, and whether on purpose."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._up: dict[bytes, float] = {}
        self._dripped: dict[bytes, float] = {}
        policy = Policy(stages=3, formation_wait=10.0, sequences_in_flight=1)
        self.coordinator = Coordinator(
            policy, self._plan, identity=b"rings", draw=random.Random(self.seed).random
        )
        for number in range(self.workers):
            self.feed(PeerAnnounced(self.name(number), 1 << 30, 0.01, None, ""))
            self.feed(PeerJoined(self.name(number), "0x", "0x"))
        if self.mode == "drip":
            endless = [sequence(n) for n in range(self.workers)]
            units = [
                Unit(
                    bytes([n + 1]) * 32,
                    "job",
                    (replace(s, request=s.request.model_copy(update={"max_tokens": 2**19})),),
                )
                for n, s in enumerate(endless)
            ]
            self.feed(QueueRead(tuple(units)))

    @staticmethod
    def name(number: int) -> str:
        return f"w{number:02}"

    @property
    def culprits(self) -> list[Member]:
        return [self.coordinator.pool.members[self.name(n)] for n in sorted(self.evil)]

    @property
    def honest(self) -> list[Member]:
        culprits = {self.name(n) for n in self.evil}
        return [m for m in self.coordinator.pool.members.values() if m.peer_id not in culprits]

    def purposely(self, since: float) -> int:
        """How many rings were broken on purpose since then."""
        return sum(purpose for at, purpose in self.breaks if at >= since)

    def run(self, hours: float) -> None:
        end = self.now + hours * 3600.0
        while self.now < end:
            self.now += STEP
            self.feed(Tick())
            for group in list(self.coordinator.pool.groups.values()):
                if group.state is GroupState.RUNNING:
                    self._live(group)

    def feed(self, event: Event) -> None:
        for command in self.coordinator.handle(event, self.now):
            if isinstance(command, BuildGroup):
                self._up[command.group_id] = self.now
                self.feed(GroupUp(command.group_id, command.generation))

    def _live(self, group: Group) -> None:
        peers, evil = group.peers, {self.name(n) for n in self.evil}
        present = [stage for stage, peer in enumerate(peers) if peer in evil]
        if self._random.random() < STEP / self.accidents:
            return self._break(group, self._random.randrange(len(peers)), "upstream", False)
        if self.mode == "drip":
            return self._tokens(group, slow=bool(present))
        if not present or self.now - self._up[group.group_id] < self.every:
            return None
        stage = self._random.choice(present)
        if self.mode == "bad frames":
            self._break(group, (stage + 1) % len(peers), "upstream", True)
        elif self.mode == "false alarm":
            self._break(group, stage, "downstream", True)
        else:
            self._break(group, stage, self._random.choice(["upstream", "downstream"]), True)
        return None

    def _break(self, group: Group, reporter: int, side: str, purpose: bool) -> None:
        self.breaks.append((self.now, purpose))
        suspects = edge_suspects(group.peers, reporter, side)
        self.feed(GroupBroken(group.group_id, group.generation, side, suspects=suspects))

    def _tokens(self, group: Group, *, slow: bool) -> None:
        last = self._dripped.get(group.group_id, -1e9)
        if self.now - last < (119.0 if slow else STEP):
            return
        self._dripped[group.group_id] = self.now
        for unit in self.coordinator.pool.units.values():
            if (unit.group_id, unit.generation) == (group.group_id, group.generation):
                only = unit.sequences[0]
                self.feed(
                    PeerTokens(
                        group.generation,
                        unit.unit_id,
                        only.sequence_id,
                        len(only.output_ids),
                        (5,),
                    )
                )

    def _plan(self, candidates: Seq[Candidate], previous: GroupPlan | None) -> GroupPlan:
        """Three of the candidates, those of the previous ring first, in any order."""
        if len(candidates) < 2:
            raise CannotPlan("two workers hold the model")
        before = set(previous.peers) if previous else set()
        names = sorted(c.peer_id for c in candidates)
        self._random.shuffle(names)
        names = sorted(names, key=lambda name: name not in before)[:3]
        self._random.shuffle(names)
        cuts = [LAYERS * i // len(names) for i in range(len(names) + 1)]
        stages = zip(names, cuts, cuts[1:], strict=False)
        return GroupPlan(tuple(StagePlan(n, a, b) for n, a, b in stages), micro_batches=2)
