"""How long epochs' data stay in the blob folder.

The newest epochs of every pool never go: claims are proven by them, and the next one builds on
them. Of older ones a validator still needs the leaves, to prove that a unit was paid twice; it
keeps them up to the quota, everybody else by age, too. Others keep the same content, so what is
gone can be had again.

The same folder holds profiles of thresholds that a pool names; whatever is no epoch's data stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import trio

from node.journal import AsyncJournal
from node.settlement.events import FACTS
from node.settlement.history import KEPT, PoolHistory
from node.settlement.state import SettlementState
from node.storage.files import remove, stored
from node.storage.names import EPOCH
from node.storage.report import Pruned
from node.storage.retention import FileLimits, files_to_remove
from proofs.errors import ProofError
from proofs.settlement.epoch_data import EpochData

Histories = Callable[[], Iterable[PoolHistory]]


class EpochKeeper:
    """`histories` are those of a running node; None: as the journal has them."""

    writes = False

    def __init__(
        self,
        blobs: Path,
        journal: AsyncJournal,
        limits: FileLimits,
        now: Callable[[], float],
        histories: Histories | None = None,
    ) -> None:
        self._blobs = blobs
        self._journal = journal
        self._limits = limits
        self._now = now
        self._histories = histories

    async def prune(self, *, dry: bool) -> Pruned:
        """Remove old epochs' data, and those beyond the quota."""
        histories = await self._restored() if self._histories is None else self._histories()
        newest, known = set[str](), set[str]()
        for history in histories:
            names = [f"{e.posted.root.data_hash.hex()}{EPOCH}" for e in history.entries]
            known.update(names)
            newest.update(names[-KEPT:])
        files = await trio.to_thread.run_sync(stored, self._blobs, EPOCH)
        chosen = files_to_remove(files, newest, self._limits, self._now())
        gone = [f for f in chosen if f.name in known or await self._is_epoch(f.name)]
        if not dry:
            await trio.to_thread.run_sync(remove, self._blobs, gone)
        freed = sum(file.size for file in gone)
        left = sum(file.size for file in files) - freed
        why = "within retention.epochs"
        if needed := sum(file.name in newest for file in files):
            why += f", {needed} the newest of their pools"
        return Pruned("epochs' data", len(gone), freed, len(files) - len(gone), left, why)

    async def _restored(self) -> Iterable[PoolHistory]:
        state = SettlementState()
        for fact in await self._journal.replay(*FACTS):
            state.apply(fact)
        return state.histories.values()

    async def _is_epoch(self, name: str) -> bool:
        """Whether this is the data of an epoch that was proposed and never posted."""

        def parse() -> bool:
            try:
                EpochData.from_bytes((self._blobs / name).read_bytes())
            except (OSError, ProofError):
                return False
            return True

        return await trio.to_thread.run_sync(parse)
