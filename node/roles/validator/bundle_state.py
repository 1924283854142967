"""The life of a bundle at a validator, and who is next, as a pure state machine.

```
TAKEN → PREPARING → PREPARED → JUDGING ─────────────→ JUDGED → DELIVERED
            │                     ├─→ INQUIRING ─────────↑  │
            └─────────────────────┴───────┴──→ SET_ASIDE ←──┘
```
A bundle is TAKEN once it is on disk. While it is PREPARING it may wait for blocks of the chain;
once it is PREPARED it waits for its turn on the engine. One bundle at a time is JUDGING. A stage
that is asked for rows may take minutes, and so may an engine that fails. So a bundle that begins to
ask, or has to be replayed again, is INQUIRING from then on and gives up its turn; it does not get
the turn back, because a verdict follows the last answer.
JUDGED means that a verdict is on disk, and DELIVERED that the sender has it. What cannot be judged,
or is taken by nobody, is SET_ASIDE: nothing is owed for it any more.

`BundleQueue` holds all bundles that are on their way and is changed by events alone. `handle` says
what to do next: prepare a bundle, or judge one. Nothing that one sender does may hold up another.
So the queue bounds how many bundles, bytes and tokens of one sender wait, and how many of its
bundles prepare and inquire at the same time; and the engine's turns are shared out evenly among
senders by the tokens that they have replayed (`fair_turns`). Of one sender's bundles that may go,
the oldest goes first. An event that a bundle's state does not allow raises `IllegalTransition` and
changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from node.roles.validator.fair_turns import QUANTUM, FairTurns


class BundleState(StrEnum):
    """Where a bundle stands."""

    TAKEN = "taken"
    PREPARING = "preparing"
    PREPARED = "prepared"
    JUDGING = "judging"
    INQUIRING = "inquiring"
    JUDGED = "judged"
    DELIVERED = "delivered"
    SET_ASIDE = "set aside"


S = BundleState
TRANSITIONS: dict[BundleState, frozenset[BundleState]] = {
    S.TAKEN: frozenset({S.PREPARING}),
    S.PREPARING: frozenset({S.PREPARED, S.SET_ASIDE}),
    S.PREPARED: frozenset({S.JUDGING}),
    S.JUDGING: frozenset({S.INQUIRING, S.JUDGED, S.SET_ASIDE}),
    S.INQUIRING: frozenset({S.INQUIRING, S.JUDGED, S.SET_ASIDE}),
    S.JUDGED: frozenset({S.DELIVERED, S.SET_ASIDE}),
    S.DELIVERED: frozenset(),
    S.SET_ASIDE: frozenset(),
}
OVER = frozenset({S.DELIVERED, S.SET_ASIDE})
"""Nothing follows; the queue forgets such a bundle."""


class IllegalTransition(RuntimeError):
    """An event that the bundle's state does not allow: a fault in the caller. Nothing changed."""


@dataclass(frozen=True)
class QueueLimits:
    """How much may be on its way: `total` bundles and `total_bytes` of all senders together, the
    others of one.

    `sender_total` counts all of its bundles, `sender_bytes` what they take on disk, `sender_tokens`
    what their replay costs, `sender_preparing` those in memory at once while they wait for blocks,
    `sender_inquiries` those for which a stage is asked for rows. A single bundle replays at most
    `bundle_tokens`, since a replay that runs is not interrupted. `quantum`: `fair_turns`.
    """

    total: int = 1024
    total_bytes: int = 2**30
    sender_total: int = 256
    sender_bytes: int = 2**28
    sender_tokens: int = 2**24
    sender_preparing: int = 4
    sender_inquiries: int = 4
    bundle_tokens: int = 2**20
    quantum: int = QUANTUM


@dataclass(frozen=True)
class QueuedBundle:
    """A journaled bundle. `sender` is the peer id that gets the verdict; `block` is the chain's
    newest block when the bundle came, 0 where that is unknown. It takes `size` bytes on disk and
    its replay at most `tokens`."""

    bundle_id: bytes
    sender: str
    block: int = 0
    size: int = 0
    tokens: int = 1
    state: BundleState = S.TAKEN

    def to(self, state: BundleState) -> QueuedBundle:
        """The bundle one step later. Raises `IllegalTransition`."""
        if state not in TRANSITIONS[self.state]:
            raise IllegalTransition(f"bundle {self.bundle_id.hex()[:12]}: {self.state} → {state}")
        return replace(self, state=state)


@dataclass(frozen=True)
class Taken:
    """A bundle of `sender` was journaled when `block` was the chain's newest (0: unknown). `size`
    in bytes, `tokens` to replay."""

    bundle_id: bytes
    sender: str
    block: int = 0
    size: int = 0
    tokens: int = 1


@dataclass(frozen=True)
class Moved:
    """A bundle has reached `state`: what a command led to, or the next thing after it."""

    bundle_id: bytes
    state: BundleState


Event = Taken | Moved


@dataclass(frozen=True)
class Prepare:
    """Find out how the bundle is to be judged; report PREPARED or SET_ASIDE."""

    bundle: QueuedBundle


@dataclass(frozen=True)
class Judge:
    """Reach a verdict; report INQUIRING whenever others may go first, then JUDGED or
    SET_ASIDE. After JUDGED deliver it; report DELIVERED or SET_ASIDE."""

    bundle: QueuedBundle


Command = Prepare | Judge

_COMMANDED = frozenset({S.PREPARING, S.JUDGING})
"""The queue alone decides who gets there; no event says so."""


class BundleQueue:
    """All bundles on their way, oldest first.

    There are few senders and there may be many bundles. So it is counted how many bundles of each
    sender are in each state, and the bundles are only gone through where one of them may go on.
    """

    def __init__(self, limits: QueueLimits | None = None) -> None:
        self._limits = limits or QueueLimits()
        self._bundles: dict[bytes, QueuedBundle] = {}
        self._counts: Counter[tuple[str, BundleState]] = Counter()
        self._held: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._turns = FairTurns(self._limits.quantum)

    def __len__(self) -> int:
        return len(self._bundles)

    def __contains__(self, bundle_id: bytes) -> bool:
        return bundle_id in self._bundles

    @property
    def bundles(self) -> Collection[QueuedBundle]:
        """The bundles as they stand now, oldest first."""
        return tuple(self._bundles.values())

    @property
    def size(self) -> int:
        """Bytes of all bundles."""
        return self._bytes.total()

    def has_room(self, sender: str, size: int = 0, tokens: int = 0) -> bool:
        """Whether another bundle of this sender may be taken, of `size` bytes and `tokens` to
        replay."""
        limits = self._limits
        return (
            len(self) < limits.total
            and self.size + size <= limits.total_bytes
            and self._held[sender] < limits.sender_total
            and self._bytes[sender] + size <= limits.sender_bytes
            and self._tokens[sender] + tokens <= limits.sender_tokens
        )

    def charge(self, sender: str, tokens: int) -> None:
        """A sender's bundle took more of the engine than its tokens: its next turn comes later."""
        self._turns.charge(sender, tokens)

    def handle(self, event: Event) -> list[Command]:
        """Take an event in; what is to be done now. Raises `IllegalTransition`."""
        match event:
            case Taken(bundle_id=bundle_id, sender=sender):
                if bundle_id in self._bundles:
                    raise IllegalTransition(f"bundle {bundle_id.hex()[:12]} was taken already")
                self._enter(QueuedBundle(bundle_id, sender, event.block, event.size, event.tokens))
            case Moved(bundle_id=bundle_id, state=state):
                known = self._bundles.get(bundle_id)
                if known is None or state in _COMMANDED:
                    raise IllegalTransition(f"bundle {bundle_id.hex()[:12]}: {state} by itself")
                self._enter(known.to(state))
        return [*self._prepare(), *self._judge()]

    def _prepare(self) -> list[Command]:
        """Begin with whatever its sender has not too many of under way."""
        limit, counts = self._limits.sender_preparing, self._counts
        waiting = [sender for sender, state in counts if state is S.TAKEN]
        room = {sender: limit - counts[sender, S.PREPARING] for sender in waiting}
        if not any(left > 0 for left in room.values()):
            return []
        commands: list[Command] = []
        for bundle in self._bundles.values():
            if bundle.state is S.TAKEN and room[bundle.sender] > 0:
                room[bundle.sender] -= 1
                commands.append(Prepare(self._enter(bundle.to(S.PREPARING))))
        return commands

    def _judge(self) -> list[Command]:
        """Give the turn to the oldest bundle of whose turn it is; senders with too many inquiries
        under way are left out."""
        limit, counts = self._limits.sender_inquiries, self._counts
        if any(state is S.JUDGING for _, state in counts):
            return []
        prepared = [sender for sender, state in counts if state is S.PREPARED]
        ready = {sender for sender in prepared if counts[sender, S.INQUIRING] < limit}
        if not ready:
            return []
        oldest: dict[str, QueuedBundle] = {}
        for bundle in self._bundles.values():
            if bundle.state is S.PREPARED and bundle.sender in ready:
                oldest.setdefault(bundle.sender, bundle)
                if len(oldest) == len(ready):
                    break
        chosen = self._turns.choose({sender: b.tokens for sender, b in oldest.items()})
        return [Judge(self._enter(oldest[chosen].to(S.JUDGING)))]

    def _enter(self, bundle: QueuedBundle) -> QueuedBundle:
        """Keep a bundle as it now stands, in its old place; forget it once it is over."""
        before = self._bundles.get(bundle.bundle_id)
        if before is not None:
            self._counts[before.sender, before.state] -= 1
        else:
            self._hold(bundle, 1)
        if bundle.state in OVER:
            del self._bundles[bundle.bundle_id]
            self._hold(bundle, -1)
        else:
            self._bundles[bundle.bundle_id] = bundle
            self._counts[bundle.sender, bundle.state] += 1
        self._counts = +self._counts  # without what is none
        return bundle

    def _hold(self, bundle: QueuedBundle, sign: int) -> None:
        for counter, amount in (
            (self._held, 1),
            (self._bytes, bundle.size),
            (self._tokens, bundle.tokens),
        ):
            counter[bundle.sender] += sign * amount
            if not counter[bundle.sender]:
                del counter[bundle.sender]
