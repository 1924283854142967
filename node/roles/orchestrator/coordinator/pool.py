"""The tables of a pool, which the rules in `intake.py` and `reconcile.py` read and change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from node.roles.orchestrator.coordinator.groups import Group, GroupState
from node.roles.orchestrator.coordinator.members import Member, MemberState
from node.roles.orchestrator.coordinator.units import LIVE, Unit, UnitState
from pipeline.planner import Candidate, CannotPlan, GroupPlan


@dataclass(frozen=True)
class Policy:
    """What the pool owner wants. Seconds and counts.

    `stages` is how many stages a first build waits for, at most `formation_wait` after the first
    worker is healthy; 0 takes what is there. A ring with work that brings no token for
    `stall_timeout` is rebuilt, though its workers answer pings.
    """

    stages: int = 0
    formation_wait: float = 20.0
    sequences_in_flight: int = 32
    verify_timeout: float = 300.0
    stall_timeout: float = 120.0


Planner = Callable[[Sequence[Candidate], GroupPlan | None], GroupPlan]
"""Plan a group over candidates, near the previous plan where there is one. Raises `CannotPlan`."""


MAX_MEMBERS = 2048
DEFAULT_QUORUM = 6_666
"""Share of the validators' stake that decides, in basis points, where no chain says otherwise."""


class Pool:
    """Members, groups, units and validators. Pure data with small questions about it."""

    def __init__(self, policy: Policy, planner: Planner, identity: bytes) -> None:
        self.policy = policy
        self.identity = identity
        self.members: dict[str, Member] = {}
        self.groups: dict[bytes, Group] = {}
        self.units: dict[bytes, Unit] = {}
        self.unit_of: dict[bytes, bytes] = {}
        self.validators: dict[str, int] = {}
        """Stake (wei) behind each validator that is here; without a chain, 1 each."""
        self.weights: dict[str, int] = {}
        """The same, of those too who have left since they were asked."""
        self.all_weight = 0
        self.quorum = DEFAULT_QUORUM
        self.paid: dict[bytes, tuple[int, str]] = {}
        """Which epoch and transaction paid a unit, as the chain says."""
        self.asked: set[str] = set()
        self.unplannable = ""
        self.first_usable: float | None = None
        self.generation = 0
        self._planner = planner

    def restore(self, units: Sequence[Unit], banned: Sequence[str], generation: int) -> None:
        """Start from what the journal holds. `generation` continues the count of builds."""
        for unit in units:
            self.add_unit(unit.resumed())
            self.asked.update(unit.asked)
        for peer_id in banned:
            self.members[peer_id] = Member(peer_id, MemberState.BANNED, reason="banned earlier")
        self.generation = generation

    def add_unit(self, unit: Unit) -> None:
        """Take in a unit, unless it is known."""
        if unit.unit_id not in self.units:
            self.units[unit.unit_id] = unit
            self.unit_of |= dict.fromkeys((s.sequence_id for s in unit.sequences), unit.unit_id)

    def room_for_member(self) -> bool:
        """Whether one more worker fits, after forgetting one that is of no use if need be."""
        if len(self.members) < MAX_MEMBERS:
            return True
        taken = {peer for group in self.groups.values() for peer in group.peers}
        useless = (MemberState.DEAD, MemberState.DISCOVERED)
        for member in self.members.values():
            if member.state in useless and member.peer_id not in taken:
                del self.members[member.peer_id]
                return True
        return False

    @property
    def open_units(self) -> int:
        return sum(unit.state in LIVE for unit in self.units.values())

    @property
    def total_weight(self) -> int:
        """Stake of all validators, here or not."""
        return max(self.all_weight, sum(self.validators.values()))

    @property
    def needed_weight(self) -> int:
        """Stake that must accept a unit, as much as must sign the epoch that pays it."""
        return max(-(-self.total_weight * self.quorum // 10_000), 1)

    def set_bundle(self, unit_id: bytes, bundle_id: bytes) -> None:
        """Remember which bundle a VERIFYING unit was sent as; the claims are in there."""
        self.units[unit_id] = replace(self.units[unit_id], bundle_id=bundle_id, claims={})

    def plan_of(self, unit: Unit) -> GroupPlan | None:
        """The plan of the build that the unit was last given to."""
        group = self.groups.get(unit.group_id)
        return None if group is None else group.plan_at(unit.generation)

    def all_claims(self, unit: Unit) -> bool:
        plan = self.plan_of(unit)
        return plan is not None and set(unit.claims) == set(range(len(plan.stages)))

    def reproven(self, unit: Unit) -> Unit:
        sequences = tuple(s.reopened() for s in unit.sequences)
        return unit.to(UnitState.ASSIGNED, sequences=sequences, claims={}, generation=0)

    def suspect(self, peer_id: str, reason: str, now: float) -> None:
        member = self.members.get(peer_id)
        if member is not None:
            self.members[peer_id] = member.suspected(now, reason)

    def assigned(self, unit_id: bytes, generation: int) -> Unit | None:
        unit = self.units.get(unit_id)
        if unit is None or unit.state is not UnitState.ASSIGNED or unit.generation != generation:
            return None
        return unit

    def current(self, group_id: bytes, generation: int, state: GroupState) -> Group | None:
        group = self.groups.get(group_id)
        if group is None or group.generation != generation or group.state is not state:
            return None
        return group

    def free(self, now: float) -> list[Member]:
        taken = {peer for group in self.groups.values() if group.live for peer in group.peers}
        return [m for m in self.members.values() if m.usable(now) and m.peer_id not in taken]

    def next_generation(self) -> int:
        self.generation += 1
        return self.generation

    def plan(self, members: Sequence[Member], previous: GroupPlan | None) -> GroupPlan | None:
        candidates = [
            Candidate(m.peer_id, m.memory_bytes, m.layer_seconds, m.location, m.region)
            for m in members
        ]
        try:
            plan = self._planner(candidates, previous)
        except CannotPlan as exc:
            self.unplannable = str(exc)
            return None
        self.unplannable = ""
        return plan
