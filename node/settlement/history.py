"""What the chain says was settled in one pool, epoch by epoch, and what that leaves to pay.

Pure. An entry comes from a `RootPosted` event; its published data are filled in when they have been
fetched and rebuild exactly that root. A voided root is taken away, and what a reorganisation took
from the chain is undone, be it a root or its voiding. The next epoch can be made only when every
epoch before it is filled in.

Only the newest `KEPT` epochs' data stay in memory: no other root can be disputed, or built upon.
Older ones are in the blob folder, and what they paid for is in the journal (`paid.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from proofs.encoding.leaves import PostedRoot
from proofs.encoding.receipts import EpochRoot
from proofs.settlement.epoch_data import Epoch

KEPT = 4
"""Newest epochs of a pool whose data are kept in memory."""


@dataclass(frozen=True)
class PostedEpoch:
    """A posted root and where it was posted. `claimable_at` is Unix seconds. `filled` says that its
    data were here and made exactly this root; `epoch` has them as long as they are in memory."""

    posted: PostedRoot
    claimable_at: int
    block: int
    transaction: str
    epoch: Epoch | None = None
    filled: bool = False

    @property
    def number(self) -> int:
        """The epoch: 1 is the first of a pool."""
        return self.posted.root.epoch


@dataclass
class PoolHistory:
    """The epochs of one pool from the first to the newest. `filled_to` is the newest epoch up to
    which the data of all are here, `taken_back` how many roots were taken away so far."""

    pool_id: int
    entries: list[PostedEpoch] = field(default_factory=list)
    filled_to: int = 0
    taken_back: int = 0
    _steps: list[tuple[int, PostedEpoch | None]] = field(default_factory=list)
    """The block of every root, and (with the entry) of every voiding, in order."""

    def was_voided(self, root: EpochRoot) -> bool:
        """Whether exactly this root was voided; the contract does not take it again."""
        return any(entry is not None and entry.posted.root == root for _, entry in self._steps)

    @property
    def last(self) -> int:
        """Number of the newest posted epoch, 0 before the first."""
        return len(self.entries)

    @property
    def newest(self) -> PostedEpoch | None:
        """The newest posted epoch, None before the first."""
        return self.entries[-1] if self.entries else None

    def get(self, number: int) -> PostedEpoch | None:
        """The entry of an epoch, if it is posted."""
        return self.entries[number - 1] if 1 <= number <= self.last else None

    def missing(self) -> list[PostedEpoch]:
        """Entries whose data were not found yet, or should be in memory and are not."""
        recent = self.last - KEPT
        return [
            entry
            for entry in self.entries[min(self.filled_to, max(recent, 0)) :]
            if not entry.filled or (entry.epoch is None and entry.number > recent)
        ]

    def complete(self, until: int) -> bool:
        """Whether the data of all epochs up to `until` are here, and its own in memory."""
        entry = self.get(until)
        return until <= self.filled_to and (entry is None or entry.epoch is not None)

    def earned(self, until: int) -> dict[str, int]:
        """Cumulative payouts after epoch `until`, wei by account. Raises LookupError for an epoch
        so old that its data are no longer in memory: nothing builds on it."""
        entry = self.get(until)
        if entry is not None and entry.filled and entry.epoch is None:
            raise LookupError(f"the data of epoch {until} of pool {self.pool_id} are not in memory")
        return dict(entry.epoch.earned) if entry is not None and entry.epoch is not None else {}

    def post(self, entry: PostedEpoch) -> bool:
        """Take a posted root in; False when it is known or out of turn."""
        known = self.get(entry.number)
        if known is not None and known.posted == entry.posted:
            return False
        if entry.number != self.last + 1:
            return False
        self.entries.append(entry)
        self._steps.append((entry.block, None))
        old = self.last - KEPT
        if old > 0 and self.entries[old - 1].filled:
            self.entries[old - 1] = replace(self.entries[old - 1], epoch=None)
        return True

    def fits(self, number: int, epoch: Epoch) -> bool:
        """Whether these are the data of that epoch: their trees are the posted root's. What a root
        states beside its trees can be wrong, too; that is for the audit to find."""
        entry = self.get(number)
        return entry is not None and _same_trees(epoch.root, entry.posted.root)

    def fill(self, number: int, epoch: Epoch) -> bool:
        """Add the data of an epoch; False where they do not fit."""
        if not self.fits(number, epoch):
            return False
        kept = epoch if number > self.last - KEPT else None
        self.entries[number - 1] = replace(self.entries[number - 1], epoch=kept, filled=True)
        self._count()
        return True

    def trust(self, number: int) -> None:
        """The data of an epoch were here in an earlier run, and made exactly this root."""
        self.entries[number - 1] = replace(self.entries[number - 1], filled=True)
        self._count()

    def lose(self, number: int) -> None:
        """The data of an epoch are not here after all."""
        self.entries[number - 1] = replace(self.entries[number - 1], epoch=None, filled=False)
        self.filled_to = min(self.filled_to, number - 1)

    def void(self, number: int, block: int) -> PostedEpoch | None:
        """Take the newest root away, if it is this one's, as was done in `block`."""
        if not number or number != self.last:
            return None
        voided = replace(self.entries.pop(), epoch=None, filled=False)
        self.taken_back += 1
        self._steps.append((block, voided))
        self.filled_to = min(self.filled_to, self.last)
        return voided

    def rewind(self, block: int) -> None:
        """Undo what happened after `block`. The data of a root that stands again are looked for
        anew: another root of that number may have been counted as paid meanwhile."""
        while self._steps and self._steps[-1][0] > block:
            _, voided = self._steps.pop()
            if voided is None:
                self.entries.pop()
                self.taken_back += 1
                self.filled_to = min(self.filled_to, self.last)
            else:
                self.entries.append(voided)

    def _count(self) -> None:
        while self.filled_to < self.last and self.entries[self.filled_to].filled:
            self.filled_to += 1


def _same_trees(one: EpochRoot, other: EpochRoot) -> bool:
    return (one.receipts_root, one.payouts_root) == (other.receipts_root, other.payouts_root)
