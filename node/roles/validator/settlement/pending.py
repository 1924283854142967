"""Accepted units that no epoch has paid yet, and when an epoch should be closed over them. Pure.

Units wait until there are `max_units` of them, or none has come for `quiet` seconds, or the oldest
has waited `longest` seconds. All validators of a pool wait alike, so each proposes at its own turn
(`node.roles.validator.settlement.turns`). Units that other validators have not accepted are left
out for a while, so that they do not hold up the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from proofs.encoding.leaves import SignedReceipt
from proofs.settlement.epoch_data import MAX_RECEIPTS


@dataclass(frozen=True)
class EpochRules:
    """When to close an epoch, and over what.

    An epoch holds at most `max_units` units and `max_receipts` receipts; `quiet` and `longest` are
    above. The validators' turns lie `turn` seconds apart, and units that the others do not know are
    left out for `set_aside` seconds.
    """

    max_units: int = 256
    max_receipts: int = MAX_RECEIPTS // 4
    quiet: float = 3.0
    longest: float = 60.0
    turn: float = 4.0
    set_aside: float = 10.0


@dataclass
class PendingPool:
    """A pool's accepted, unpaid units by id. Times are monotonic seconds.

    `aside` says until when a unit is left out; `oldest` and `newest` when the first and the last
    unit came; nothing is proposed before `retry_at`.
    """

    pool_id: int
    units: dict[bytes, tuple[SignedReceipt, ...]] = field(default_factory=dict)
    aside: dict[bytes, float] = field(default_factory=dict)
    oldest: float = 0.0
    newest: float = 0.0
    retry_at: float = 0.0

    def take(self, unit_id: bytes, receipts: tuple[SignedReceipt, ...], now: float) -> None:
        """Add a unit that was accepted at `now`."""
        self.oldest = self.oldest if self.units else now
        self.newest = now
        self.units[unit_id] = receipts

    def paid(self, units: Collection[bytes], now: float) -> None:
        """Drop the units that an epoch paid."""
        before = len(self.units)
        for unit_id in units:
            self.units.pop(unit_id, None)
            self.aside.pop(unit_id, None)
        if len(self.units) != before:
            self.oldest = now

    def put_aside(self, units: Collection[bytes], until: float) -> None:
        """Leave these units out of proposals until then."""
        self.aside |= dict.fromkeys((u for u in units if u in self.units), until)

    def ready(self, now: float) -> list[bytes]:
        """Units that a proposal at `now` may have, oldest first."""
        return [u for u in self.units if self.aside.get(u, 0.0) <= now]

    def due_at(self, now: float, rules: EpochRules) -> float:
        """When an epoch over what is ready falls due; infinity where nothing is."""
        ready = self.ready(now)
        if not ready:
            return min((until for until in self.aside.values()), default=float("inf"))
        if len(ready) >= rules.max_units:
            return max(self.newest, self.retry_at)
        return max(min(self.newest + rules.quiet, self.oldest + rules.longest), self.retry_at)

    def choose(self, now: float, epoch: int, rules: EpochRules) -> list[bytes]:
        """The units of a proposal for `epoch`: ready, payable by then, and not too many."""
        chosen: list[bytes] = []
        receipts = 0
        for unit_id in self.ready(now):
            signed = self.units[unit_id]
            if any(item.receipt.epoch > epoch for item in signed):
                continue
            receipts += len(signed)
            if len(chosen) == rules.max_units or receipts > rules.max_receipts:
                break
            chosen.append(unit_id)
        return chosen


def payable(receipts: Collection[SignedReceipt], owners: Mapping[str, str], creator: str) -> bool:
    """Whether the chain would let these be paid: no stranger worked, and none countersigned."""
    return all(
        item.receipt.worker in owners
        and (item.receipt.counterparty in owners or item.receipt.counterparty == creator)
        for item in receipts
    )
