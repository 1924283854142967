"""What is used and given back: bytes, streams, calls. Pure.

`Holdings.take` answers with a `Lease`, or raises the limit that is used up. A lease may grow and
shrink; whoever has it closes it, whatever happens (it is a context manager, and closing it twice is
harmless). What a peer uses first is what it keeps for itself (`p2p.admission.shares`), the rest
counts against the subnet and the node.
"""

from __future__ import annotations

from collections import Counter
from types import TracebackType

from p2p.admission.shares import Asker, Limits
from p2p.errors import BudgetUsedUp


class Holdings:
    """One resource of the node.

    Args:
        resource: what it is called in a refusal, in the plural.
    """

    def __init__(self, resource: str, limits: Limits) -> None:
        self.resource = resource
        self.limits = limits
        self._kept: Counter[str] = Counter()
        self._shared: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._node = 0

    @property
    def held(self) -> int:
        """What is in use now; never more than `limits.most`."""
        return self._node + self._kept.total()

    def held_by(self, peer_id: str) -> int:
        """What a peer uses now."""
        return self._kept[peer_id] + self._shared[peer_id]

    def take(self, who: Asker, amount: int = 1) -> Lease:
        """Use `amount` of the resource until the lease is closed. Raises `BudgetUsedUp`."""
        lease = Lease(self, who)
        lease.resize(amount)
        return lease

    def grow(self, lease: Lease, extra: int) -> None:
        """For `Lease` alone. Raises `BudgetUsedUp`, and nothing has changed then."""
        who, own = lease.who, min(extra, self._room(lease.who.peer_id))
        rest = extra - own
        if rest:
            self._require(who, extra, rest)
        _add(self._kept, who.peer_id, own)
        _add(self._shared, who.peer_id, rest)
        if lease.counts_by_source:
            _add(self._sources, who.source, rest)
        self._node += rest
        lease.kept += own
        lease.shared += rest

    def shrink(self, lease: Lease, less: int) -> None:
        """For `Lease` alone: what it has of the shared part goes first."""
        who, rest = lease.who, min(less, lease.shared)
        own = less - rest
        _add(self._kept, who.peer_id, -own)
        _add(self._shared, who.peer_id, -rest)
        if lease.counts_by_source:
            _add(self._sources, who.source, -rest)
        self._node -= rest
        lease.kept -= own
        lease.shared -= rest

    def _room(self, peer_id: str) -> int:
        """What is left of what the peer keeps for itself."""
        if peer_id not in self._kept and len(self._kept) >= self.limits.holders:
            return 0
        return int(self.limits.kept) - self._kept[peer_id]

    def _require(self, who: Asker, extra: int, rest: int) -> None:
        share = self.limits.of(who.standing)
        if self.held_by(who.peer_id) + extra > share.peer:
            raise BudgetUsedUp(self.resource, "your peer id", share.peer)
        if self._sources[who.source] + rest > share.source:
            raise BudgetUsedUp(self.resource, "your subnet", share.source)
        if self._node + rest > share.node:
            raise BudgetUsedUp(self.resource, "this node", share.node)


class Lease:
    """A part of a resource that somebody uses."""

    __slots__ = ("_of", "counts_by_source", "kept", "shared", "who")

    def __init__(self, of: Holdings, who: Asker) -> None:
        self._of = of
        self.who = who
        self.counts_by_source = of.limits.of(who.standing).source != float("inf")
        self.kept = 0
        self.shared = 0

    @property
    def amount(self) -> int:
        """How much it is."""
        return self.kept + self.shared

    def resize(self, amount: int) -> None:
        """Use this much from now on. Raises `BudgetUsedUp` where more is too much; the lease is as
        it was then."""
        if amount > self.amount:
            self._of.grow(self, amount - self.amount)
        elif amount < self.amount:
            self._of.shrink(self, self.amount - amount)

    def renew(self, who: Asker) -> None:
        """The same peer, as it stands now: a lease may last as long as a connection."""
        self.who = who

    def close(self) -> None:
        """Give everything back."""
        self.resize(0)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _add(counter: Counter[str], key: str, amount: int) -> None:
    """Change a count, and keep no entry of 0: there are as many keys as peers ever came."""
    if not amount:
        return
    counter[key] += amount
    if not counter[key]:
        del counter[key]
