"""A coordinator to be driven by events: its workers, its units, and a clock."""

from __future__ import annotations

import random
from collections.abc import Sequence as Seq

from node.roles.orchestrator.coordinator.commands import (
    BuildGroup,
    Command,
    RecordProgress,
    RecordUnit,
    VerifyUnit,
)
from node.roles.orchestrator.coordinator.coordinator import Coordinator
from node.roles.orchestrator.coordinator.events import (
    BundleMade,
    Event,
    GroupUp,
    PeerAnnounced,
    PeerClaimed,
    PeerFinished,
    PeerJoined,
    PeerValidates,
    PeerVerdict,
)
from node.roles.orchestrator.coordinator.groups import Group
from node.roles.orchestrator.coordinator.pool import Policy, PoolLimits
from node.roles.orchestrator.coordinator.units import Unit, UnitState, WorkSequence
from pipeline.planner import Candidate, CannotPlan, GroupPlan, StagePlan
from proofs.evidence.sequence import FinishReason, SequenceRequest

LAYERS = 30
WORKERS = ("w1", "w2", "w3")


def planner(candidates: Seq[Candidate], previous: GroupPlan | None) -> GroupPlan:
    """Even slices over at most three workers; two are the least that can hold the model."""
    if len(candidates) < 2:
        raise CannotPlan("not enough memory")
    names = sorted(c.peer_id for c in candidates)[:3]
    cuts = [LAYERS * i // len(names) for i in range(len(names) + 1)]
    stages = tuple(StagePlan(n, a, b) for n, a, b in zip(names, cuts, cuts[1:], strict=False))
    return GroupPlan(stages, micro_batches=2)


def sequence(number: int) -> WorkSequence:
    return WorkSequence(
        request=SequenceRequest(
            sequence_id=number.to_bytes(16, "big"),
            prompt_ids=(1, 2, 3),
            max_tokens=8,
            eos_ids=(0,),
        ),
        prompt_id=str(number),
        messages=({"role": "user", "content": "hi"},),
        seed=0,
    )


def unit(number: int, size: int = 2) -> Unit:
    sequences = tuple(sequence(number * 100 + i) for i in range(size))
    return Unit(number.to_bytes(32, "big"), "job", sequences)


def verdicts(commands: Seq[Command]) -> list[bytes]:
    """The units that are journaled as a verdict left them."""
    return [
        c.unit.unit_id
        for c in commands
        if isinstance(c, RecordUnit) and c.unit.state is not UnitState.VERIFYING
    ]


class Pool:
    """A coordinator with a clock and helpers that play the workers' and validators' part."""

    def __init__(
        self, stages: int = 3, limits: PoolLimits | None = None, sequences_in_flight: int = 32
    ) -> None:
        policy = Policy(
            stages=stages,
            formation_wait=10.0,
            sequences_in_flight=sequences_in_flight,
            verify_timeout=60.0,
        )
        self.coordinator = Coordinator(
            policy, planner, identity=b"test", draw=random.Random(0).random, limits=limits
        )
        self.pool = self.coordinator.pool
        self.now = 0.0
        self.commands: list[Command] = []

    def feed(self, event: Event) -> list[Command]:
        """What follows, but for the notes of what units have so far."""
        commands = self.coordinator.handle(event, self.now)
        self.commands += commands
        return [command for command in commands if not isinstance(command, RecordProgress)]

    def join(self, name: str) -> None:
        self.feed(PeerAnnounced(name, 1 << 30, 0.01, None, ""))
        self.feed(PeerJoined(name, "0x" + name, "0xp" + name))

    def up(self, *names: str) -> Group:
        for name in names or WORKERS:
            self.join(name)
        return self.build_done()

    def build_done(self) -> Group:
        build = [c for c in self.commands if isinstance(c, BuildGroup)][-1]
        self.feed(GroupUp(build.group_id, build.generation))
        return self.pool.groups[build.group_id]

    def produce(self, target: Unit) -> None:
        """Stage 0 finishes every open sequence, then every stage gives its claim."""
        self.finish(target)
        self.claim(target)

    def finish(self, target: Unit) -> None:
        """Stage 0 finishes every open sequence."""
        current = self.pool.units[target.unit_id]
        for s in current.sequences:
            self.feed(
                PeerFinished(
                    current.generation,
                    current.unit_id,
                    s.sequence_id,
                    FinishReason.LENGTH,
                    (5,) * 8,
                )
            )

    def claim(self, target: Unit) -> None:
        current = self.pool.units[target.unit_id]
        plan = self.pool.plan_of(current)
        assert plan is not None
        for stage in range(len(plan.stages)):
            self.feed(PeerClaimed(current.unit_id, current.generation, stage, b"claim"))

    def bundle(self, target: Unit) -> bytes:
        """The bundle that VerifyUnit has made, named after unit and attempt."""
        current = self.pool.units[target.unit_id]
        bundle_id = current.unit_id[:31] + bytes([current.attempt])
        self.feed(BundleMade(current.unit_id, bundle_id))
        return bundle_id

    def validators(self, **weights: int) -> None:
        """These validators are here, with their stake; 0 takes one away."""
        for peer_id, weight in weights.items():
            self.feed(PeerValidates(peer_id, weight))

    def verdict(
        self,
        target: Unit,
        accepted: bool = True,
        faulty: str = "",
        judge: str = "v1",
        doubted: str = "",
    ) -> list[Command]:
        bundle_id = self.bundle(target)
        reason = "" if accepted else "boundary is off"
        summary: dict[str, object] = {"validator": judge}
        return self.feed(
            PeerVerdict(
                judge, target.unit_id, bundle_id, accepted, faulty, reason, summary, doubted
            )
        )

    def asked(self, target: Unit) -> list[str]:
        """Validators that were asked about a unit so far, in order, each time."""
        return [
            c.validator
            for c in self.commands
            if isinstance(c, VerifyUnit) and c.unit_id == target.unit_id
        ]

    def state(self, target: Unit) -> UnitState:
        return self.unit(target).state

    def unit(self, target: Unit) -> Unit:
        """The unit as it stands: in the tables, or as it was journaled when it left them."""
        if target.unit_id in self.pool.units:
            return self.pool.units[target.unit_id]
        return [
            c.unit
            for c in self.commands
            if isinstance(c, RecordUnit) and c.unit.unit_id == target.unit_id
        ][-1]
