"""What the chain says was settled in one pool, epoch by epoch, and what that leaves to pay.

Pure. An entry comes from a `RootPosted` event; its published data are filled in when they have been
fetched and rebuild exactly that root. A voided root is taken away, and what a reorganisation took
from the chain is undone, be it a root or its voiding. The next epoch can be made only when every
epoch before it is filled in.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from proofs.encoding.leaves import PostedRoot
from proofs.encoding.receipts import EpochRoot
from proofs.settlement.audit import Work
from proofs.settlement.epoch_data import Epoch


@dataclass(frozen=True)
class PostedEpoch:
    """A posted root and where it was posted. `claimable_at` is Unix seconds, `epoch` its data."""

    posted: PostedRoot
    claimable_at: int
    block: int
    transaction: str
    epoch: Epoch | None = None

    @property
    def number(self) -> int:
        """The epoch: 1 is the first of a pool."""
        return self.posted.root.epoch


@dataclass
class PoolHistory:
    """The epochs of one pool from the first to the newest.

    What was paid is looked up for every unit, so it is indexed as epochs are filled in order, and
    anew where one is taken away.
    """

    pool_id: int
    entries: list[PostedEpoch] = field(default_factory=list)
    _paid: dict[Work, tuple[int, int]] = field(default_factory=dict, repr=False)
    _units: set[bytes] = field(default_factory=set, repr=False)
    _indexed: int = field(default=0, repr=False)
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
        """Entries whose data were not found yet."""
        return [entry for entry in self.entries if entry.epoch is None]

    def complete(self, until: int) -> bool:
        """Whether the data of all epochs up to `until` are here."""
        return all(entry.epoch is not None for entry in self.entries[:until])

    def earned(self, until: int) -> dict[str, int]:
        """Cumulative payouts after epoch `until`, wei by account."""
        entry = self.get(until)
        return dict(entry.epoch.earned) if entry is not None and entry.epoch is not None else {}

    def paid(self, until: int) -> dict[Work, tuple[int, int]]:
        """Which leaf of the epochs up to `until` paid for which work: (epoch, index)."""
        return {work: place for work, place in self._paid.items() if place[0] <= until}

    def has_paid(self, job_id: bytes) -> bool:
        """Whether any epoch has paid the unit."""
        return job_id in self._units

    def post(self, entry: PostedEpoch) -> bool:
        """Take a posted root in; False when it is known or out of turn."""
        known = self.get(entry.number)
        if known is not None and known.posted == entry.posted:
            return False
        if entry.number != self.last + 1:
            return False
        self.entries.append(entry)
        self._steps.append((entry.block, None))
        return True

    def fill(self, number: int, epoch: Epoch) -> bool:
        """Add the data of an epoch; False where their trees are not the posted root's. What a root
        states beside its trees can be wrong, too; that is for the audit to find."""
        entry = self.get(number)
        if entry is None or not _same_trees(epoch.root, entry.posted.root):
            return False
        self.entries[number - 1] = replace(entry, epoch=epoch)
        self._index()
        return True

    def void(self, number: int, block: int) -> PostedEpoch | None:
        """Take the newest root away, if it is this one's, as was done in `block`."""
        if not number or number != self.last:
            return None
        self._steps.append((block, self.entries.pop()))
        self._reindex()
        return self._steps[-1][1]

    def rewind(self, block: int) -> None:
        """Undo what happened after `block`."""
        while self._steps and self._steps[-1][0] > block:
            _, voided = self._steps.pop()
            if voided is None:
                self.entries.pop()
            else:
                self.entries.append(voided)
        self._reindex()

    def _index(self) -> None:
        """Take in epochs that are filled and follow on what is indexed."""
        while (entry := self.get(self._indexed + 1)) is not None and entry.epoch is not None:
            for index, work in enumerate(entry.epoch.work):
                self._paid.setdefault(work, (entry.number, index))
                self._units.add(work[0])
            self._indexed += 1

    def _reindex(self) -> None:
        self._paid, self._units, self._indexed = {}, set(), 0
        self._index()


def _same_trees(one: EpochRoot, other: EpochRoot) -> bool:
    return (one.receipts_root, one.payouts_root) == (other.receipts_root, other.payouts_root)
