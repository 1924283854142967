"""The tables of a pool: workers, groups, units and validators.

`PoolTables` belongs to the coordinator alone: its rules (`intake/`, `reconcile.py`) are the only
ones that hold it, and an event is the only way to have them change it. Everybody else gets a
`PoolView` (`view.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from node.roles.orchestrator.coordinator.blame import BlameAccount
from node.roles.orchestrator.coordinator.commands import ForgetUnit
from node.roles.orchestrator.coordinator.crashes import Crashes
from node.roles.orchestrator.coordinator.groups import Group, GroupState
from node.roles.orchestrator.coordinator.lobby.inviting import Inviting
from node.roles.orchestrator.coordinator.lobby.lapses import Lapses
from node.roles.orchestrator.coordinator.lobby.table import MemberTable
from node.roles.orchestrator.coordinator.members import Member, MemberState
from node.roles.orchestrator.coordinator.notes import Notes
from node.roles.orchestrator.coordinator.queue import QueueMark
from node.roles.orchestrator.coordinator.rebuilds import RebuildBudget
from node.roles.orchestrator.coordinator.tables import Tracked, UnitTable
from node.roles.orchestrator.coordinator.unconnected import Unconnected
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from p2p.admission.standing import Standing
from pipeline.planner import Candidate, CannotPlan, GroupPlan


@dataclass(frozen=True)
class Policy:
    """What the pool owner wants. Seconds and counts.

    `stages` is how many stages a first generation waits for, at most `formation_wait` after the
    first worker is healthy; 0 takes what is there. A ring with work that brings no token for
    `stall_timeout`, or less than its floor over such a time, is rebuilt, though its workers answer
    pings: `floor_share` of the tokens a second that its plan promised for one sequence, but no less
    than `floor_rate` and no more than `floor_limit`. A generation that is not up after
    `load_timeout` failed, and so did the claims of a unit that are not there after `claim_timeout`.
    A group that could not be repaired for `repair_timeout` is given up, and so is a unit that could
    not be worked on in `attempts` rings. A group with workers that have neither served nor a stake
    keeps others from a group of their own for `newcomers_load` at most. What units under way have
    is journaled every `note_every`, and no more than that and a tick is lost by a restart. While
    `units_unjudged` are finished and not judged, no group is given more; what groups have by then,
    they finish.
    """

    stages: int = 0
    formation_wait: float = 20.0
    sequences_in_flight: int = 32
    verify_timeout: float = 300.0
    stall_timeout: float = 120.0
    floor_share: float = 0.01
    floor_rate: float = 0.1
    floor_limit: float = 0.5
    load_timeout: float = 600.0
    claim_timeout: float = 300.0
    repair_timeout: float = 900.0
    attempts: int = 3
    newcomers_load: float = 30.0
    note_every: float = 1.5
    units_unjudged: int = 128


@dataclass(frozen=True)
class PoolLimits:
    """How much of this node strangers may take up: `members` in its table, `invites` that wait for
    an answer at the same time, and `idle` workers without a stake that have joined and never
    served. `units_at_work` is how many units may be between their
    assignment and their verdict: no group is given more while validators are behind. At most
    `units_queued` are read from disk before they can be given to anybody, and units are read only
    while all together have fewer than `positions` tokens to come (a token takes about 36 bytes)."""

    members: int = 2048
    invites: int = 512
    idle: int = 256
    units_at_work: int = 1024
    units_queued: int = 256
    positions: int = 2**21


@dataclass(frozen=True)
class Brought:
    """How many tokens a group has brought so far, and when the last one (monotonic seconds)."""

    tokens: int = 0
    at: float = 0.0


Planner = Callable[[Sequence[Candidate], GroupPlan | None], GroupPlan]
"""Plan a group over candidates, near the previous plan where there is one. Raises `CannotPlan`."""


SEPARATED = 8
"""Most workers that one plan leaves out because they failed together with others."""

DEFAULT_QUORUM = 6_666
"""Share of the validators' stake that decides, in basis points, where no chain says otherwise."""


class PoolTables:
    """Members by peer id, groups and units by their ids, and what the chain says of them."""

    def __init__(
        self,
        policy: Policy,
        planner: Planner,
        identity: bytes,
        limits: PoolLimits,
        draw: Callable[[], float],
    ) -> None:
        self.policy = policy
        self.limits = limits
        self.identity = identity
        self.members = MemberTable()
        self.groups: Tracked[bytes, Group] = Tracked()
        self.units = UnitTable()
        self.validators: Tracked[str, int] = Tracked()
        """Stake (wei) behind each validator that is here; without a chain, 1 each."""
        self.weights: Tracked[str, int] = Tracked()
        """The same, of those too who have left since they were asked."""
        self.all_weight = 0
        self.quorum = DEFAULT_QUORUM
        self.queue = QueueMark()
        self.asked: set[str] = set()
        self.unplannable = ""
        self.first_usable: float | None = None
        self.generation = 0
        self.blame = BlameAccount()
        self.unconnected = Unconnected()
        self.rebuilds = RebuildBudget(policy.attempts - 1)
        self.lapses = Lapses()
        self.inviting = Inviting(self.members, self.lapses, limits.invites, limits.idle, draw)
        self.brought: dict[bytes, Brought] = {}
        self.crashes = Crashes()
        self.notes = Notes(policy.note_every)
        self.past: dict[int, tuple[str, ...]] = {}
        """The workers of earlier runs' rings, by generation."""
        self._planner = planner

    def add_unit(self, unit: Unit) -> None:
        """Take in a unit, unless it is known."""
        if unit.unit_id not in self.units:
            self.units[unit.unit_id] = unit

    def forget(self, unit: Unit) -> ForgetUnit:
        """Have the stages that the unit was last given to forget it."""
        plan = self.plan_of(unit)
        peers = self.past.get(unit.generation, ())
        if plan is not None:
            peers = tuple(stage.peer_id for stage in plan.stages)
        ids = tuple(s.sequence_id for s in unit.sequences)
        return ForgetUnit(unit.group_id, unit.generation, peers, ids)

    def tainted(self, unit: Unit) -> bool:
        """Whether tokens of a unit that an earlier run left are by a ring with a convicted worker,
        or by one that nobody remembers."""
        for generation in unit.generations:
            ring = self.past.get(generation)
            members = [self.members.get(peer_id) for peer_id in ring or ()]
            if ring is None or any(m and m.state is MemberState.BANNED for m in members):
                return True
        return False

    def room_for_member(self, level: Standing) -> bool:
        """Whether one more worker of that level fits, after forgetting one of less use if need
        be."""
        most = self.limits.members
        return len(self.members) < most or self.members.room_for(level, most, self.taken())

    def taken(self) -> set[str]:
        """The workers that are in a group."""
        return {peer for group in self.groups.values() for peer in group.peers}

    @property
    def total_weight(self) -> int:
        """Stake of all validators, here or not."""
        return max(self.all_weight, sum(self.validators.values()))

    @property
    def needed_weight(self) -> int:
        """Stake that must accept a unit, as much as must sign the epoch that pays it."""
        return max(-(-self.total_weight * self.quorum // 10_000), 1)

    def weight_of(self, validators: Iterable[str]) -> int:
        """The stake behind these validators, those who have left included."""
        return sum(self.weights.get(peer_id, 0) for peer_id in validators)

    def plan_of(self, unit: Unit) -> GroupPlan | None:
        """The plan of the generation that the unit was last given to."""
        return plan_of(unit, self.groups)

    def all_claims(self, unit: Unit) -> bool:
        """Whether every stage of the unit's generation has given its claim."""
        plan = self.plan_of(unit)
        return plan is not None and set(unit.claims) == set(range(len(plan.stages)))

    def suspect(self, peer_id: str, reason: str, now: float, *, found: bool = False) -> None:
        """Have a worker rest that is suspected, or was `found` to be at fault; "" and strangers
        change nothing."""
        member = self.members.get(peer_id)
        if member is not None:
            self.lapsed(member, now)
            seconds = self.blame.rest(peer_id, now, found=found)
            self.members[peer_id] = member.suspected(now, seconds, reason)

    def incident(
        self, suspects: Iterable[str], reason: str, now: float, weight: float = 1.0
    ) -> None:
        """One of these broke a ring; the one that must have rests, if the account names one."""
        known = [peer_id for peer_id in suspects if peer_id in self.members]
        workers = self.members.count(MemberState.HEALTHY)
        guilty = self.blame.note(known, workers, now, weight)
        self.suspect(guilty, reason, now, found=len(known) > 1)

    def lapsed(self, member: Member, now: float) -> None:
        """A worker came to nothing; that tells of its subnet unless it has served."""
        if not member.served:
            self.lapses.note(member.subnet, now)

    def served(self, peers: Iterable[str]) -> None:
        """Work that these took part in was accepted."""
        for peer_id in peers:
            member = self.members.get(peer_id)
            if member is not None and not member.served:
                self.members[peer_id] = member.worked()
            if member is not None:
                self.lapses.clear(member.subnet)

    def not_paid(self, unit: Unit) -> None:
        """An accepted unit pays the ring that finished it; note what others had done of it."""
        group = self.groups.get(unit.group_id)
        paid = plan_of(unit, self.groups)
        if group is None or paid is None:
            return
        done: Counter[int] = Counter()
        for sequence in unit.sequences:
            done.update(sequence.tokens_by_generation())
        for generation, tokens in done.items():
            plan = group.plan_at(generation)
            for stage in plan.stages if plan else ():
                member = self.members.get(stage.peer_id)
                if member is not None and member.peer_id not in _ring(paid):
                    layers = stage.last_layer - stage.first_layer
                    more = replace(member, unpaid=member.unpaid + layers * tokens)
                    self.members[member.peer_id] = more

    def release(self, peer_id: str, reason: str, now: float) -> bool:
        """Send every group that a lost or banned worker holds up into repair, at once. Whether
        there was one."""
        held = False
        for group in list(self.groups.values()):
            if peer_id in group.peers and group.state in (GroupState.LOADING, GroupState.RUNNING):
                self.groups[group.group_id] = group.lost(reason, now)
                held = True
        return held

    def assigned(self, unit_id: bytes, generation: int) -> Unit | None:
        """The unit, where it is being worked on by that generation."""
        return assigned(self.units.get(unit_id), generation)

    def current(self, group_id: bytes, generation: int, state: GroupState) -> Group | None:
        """The group, where this is its newest generation and it is in that state."""
        group = self.groups.get(group_id)
        if group is None or group.generation != generation or group.state is not state:
            return None
        return group

    def free(self, now: float) -> list[Member]:
        """Workers that could be planned into a group and are in none."""
        taken, healthy = self.taken(), self.members.in_state(MemberState.HEALTHY)
        return [m for m in healthy if m.usable(now) and m.peer_id not in taken]

    def next_generation(self) -> int:
        """One more generation, which counts up."""
        self.generation += 1
        return self.generation

    def plan(
        self, members: Sequence[Member], previous: GroupPlan | None, now: float
    ) -> GroupPlan | None:
        """A group over these workers. Where there is a plan without them, it goes without newcomers
        from where others came to nothing, and without those whom the blame account would have
        apart. Two who did not connect are never neighbours. None where there is no plan;
        `unplannable` then says why."""
        doubted = self._doubted(now)
        ranks = {m.peer_id: self._rank(m, doubted, now) for m in members}
        for worst in sorted(set(ranks.values())):
            trusted = [m for m in members if ranks[m.peer_id] <= worst]
            enough = previous is not None or len(trusted) >= self.policy.stages
            if enough or len(trusted) == len(members):
                plan = self._plan_apart(trusted, previous, now)
                if plan is not None:
                    return plan
        return None

    def stuck(self, group: Group, now: float) -> bool:
        """Whether newcomers, who may only pretend, take long to get the group up: it is no reason
        for others to wait."""
        loading = group.state is GroupState.LOADING and not group.up_at
        waited = now - group.since >= self.policy.newcomers_load
        return loading and waited and any(self._newcomers(group))

    def _newcomers(self, group: Group) -> Iterator[Member]:
        members = (self.members.get(peer_id) for peer_id in group.peers)
        return (m for m in members if m is not None and m.newcomer)

    def _doubted(self, now: float) -> set[str]:
        """Subnets of newcomers who hold up a group."""
        stuck = (group for group in self.groups.values() if self.stuck(group, now))
        return {member.subnet for group in stuck for member in self._newcomers(group)}

    def _rank(self, member: Member, doubted: Collection[str], now: float) -> int:
        """0 for whoever has served or has a stake, else how often newcomers from its subnet came to
        nothing. What a newcomer says it can do is free to say."""
        if not member.newcomer:
            return 0
        return self.lapses.rank(member.subnet, now) + (member.subnet in doubted)

    def _plan_apart(
        self, members: Sequence[Member], previous: GroupPlan | None, now: float
    ) -> GroupPlan | None:
        out = self.blame.apart((m.peer_id for m in members), now)[:SEPARATED]
        for count in dict.fromkeys((len(out), 1, 0)):
            kept = [m for m in members if m.peer_id not in out[:count]]
            plan = self._plan_connected(kept, previous, now, SEPARATED)
            if plan is not None:
                return plan
        return None

    def _plan_connected(
        self, members: Sequence[Member], previous: GroupPlan | None, now: float, more: int
    ) -> GroupPlan | None:
        """A plan in which all neighbours may connect, without at most `more` workers. Of two who
        did not, the later one in the ring stays out, else the other."""
        plan = self._plan(members, previous)
        apart = None if plan is None else self.unconnected.within(_ring(plan), now)
        if apart is None:
            return plan
        for out in reversed(apart) if more else ():
            kept = [m for m in members if m.peer_id != out]
            found = self._plan_connected(kept, previous, now, more - 1)
            if found is not None:
                return found
        self.unplannable = (
            f"{apart[0]} and {apart[1]} do not connect to one another "
            f"({self.unconnected.reason(apart)}), and without one of them there is no plan: add a "
            "worker, or open their data ports to one another"
        )
        return None

    def _plan(self, members: Sequence[Member], previous: GroupPlan | None) -> GroupPlan | None:
        try:
            plan = self._planner(_candidates(members), previous)
        except CannotPlan as exc:
            self.unplannable = str(exc)
            return None
        self.unplannable = ""
        return plan


def _candidates(members: Iterable[Member]) -> list[Candidate]:
    return [
        Candidate(m.peer_id, m.memory_bytes, m.layer_seconds, m.location, m.region) for m in members
    ]


def _ring(plan: GroupPlan) -> tuple[str, ...]:
    return tuple(stage.peer_id for stage in plan.stages)


def plan_of(unit: Unit, groups: Mapping[bytes, Group]) -> GroupPlan | None:
    """The plan of the generation that the unit was last given to."""
    group = groups.get(unit.group_id)
    return None if group is None else group.plan_at(unit.generation)


def assigned(unit: Unit | None, generation: int) -> Unit | None:
    """The unit, where it is being worked on by that generation."""
    if unit is None or unit.state is not UnitState.ASSIGNED or unit.generation != generation:
        return None
    return unit
