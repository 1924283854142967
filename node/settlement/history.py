"""What the chain says was settled in one pool, epoch by epoch, and what that leaves to pay.

Pure. An entry comes from a `RootPosted` event; its published data are filled in when they have been
fetched and rebuild exactly that root. A voided root is taken away, and what a reorganisation took
from the chain is undone, be it a root or its voiding. The next epoch can be made only when every
epoch before it is filled in.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from proofs.audit import Work
from proofs.epoch_data import Epoch
from proofs.leaves import Posted


@dataclass(frozen=True)
class PostedEpoch:
    """A posted root and where it was posted. `claimable_at` is Unix seconds, `epoch` its data."""

    posted: Posted
    claimable_at: int
    block: int
    transaction: str
    epoch: Epoch | None = None

    @property
    def number(self) -> int:
        return self.posted.root.epoch


@dataclass
class PoolHistory:
    """The epochs of one pool from the first to the newest."""

    pool_id: int
    entries: list[PostedEpoch] = field(default_factory=list)
    _steps: list[tuple[int, PostedEpoch | None]] = field(default_factory=list)
    """The block of every root, and (with the entry) of every voiding, in order."""

    @property
    def last(self) -> int:
        """Number of the newest posted epoch, 0 before the first."""
        return len(self.entries)

    @property
    def newest(self) -> PostedEpoch | None:
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
        found: dict[Work, tuple[int, int]] = {}
        for entry in self.entries[:until]:
            for index, work in enumerate(entry.epoch.work if entry.epoch is not None else ()):
                found.setdefault(work, (entry.number, index))
        return found

    def paid_units(self) -> set[bytes]:
        """Job ids that any epoch has paid."""
        return {job for job, _ in self.paid(self.last)}

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
        """Add the data of an epoch; False where they are not the posted root's."""
        entry = self.get(number)
        if entry is None or epoch.root != entry.posted.root:
            return False
        self.entries[number - 1] = replace(entry, epoch=epoch)
        return True

    def void(self, number: int, block: int) -> PostedEpoch | None:
        """Take the newest root away, if it is this one's, as was done in `block`."""
        if not number or number != self.last:
            return None
        self._steps.append((block, self.entries.pop()))
        return self._steps[-1][1]

    def rewind(self, block: int) -> None:
        """Undo what happened after `block`."""
        while self._steps and self._steps[-1][0] > block:
            _, voided = self._steps.pop()
            if voided is None:
                self.entries.pop()
            else:
                self.entries.append(voided)
