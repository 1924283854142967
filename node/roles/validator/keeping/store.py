"""Bundles on disk: `<blobs>/bundles/<content id in hex>.<kind>.bundle`.

The kind (`retention.Kind`) is part of the name, so that a look at the folder tells what may go. A
bundle is written before its sender is told that it was taken, renamed once there is a verdict, and
removed with the journal's events about it when its time is over. The events go first: a file
without events is found again by the next look, events without a file only by the next start.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

import trio

from node.config.files import write_atomically
from node.errors import ResourceError
from node.journal import AsyncJournal, Forget
from node.roles.validator.journal_events import (
    BundleCounted,
    BundleTried,
    ConvictionFound,
    LimitsUsed,
    RowsAsked,
    VerdictSigned,
)
from node.roles.validator.keeping.retention import KeepLimits, Kept, Kind, to_remove
from node.storage.names import BUNDLE, ROWS
from node.storage.report import Pruned
from proofs.errors import ProofError
from proofs.evidence.bundle import UnitBundle

OF_A_BUNDLE = (VerdictSigned, RowsAsked, LimitsUsed, BundleCounted, ConvictionFound)
"""Events that are kept as long as the bundle's file."""
PAGE = 256


class NoRoom(ResourceError):
    """The quota is full of bundles whose verdict is owed."""


def bundles_folder(blobs: Path) -> Path:
    """Where a validator keeps bundles. Not the blob folder itself: an orchestrator on the same node
    has bundles of its own there."""
    return blobs / "bundles"


class BundleStore:
    """The bundles of one validator, and the rows that were revealed to it. `owed` gives the ids of
    the bundles whose verdict is owed, `now` Unix seconds."""

    writes = True

    def __init__(
        self,
        blobs: Path,
        journal: AsyncJournal,
        limits: KeepLimits,
        owed: Callable[[], Collection[bytes]],
        now: Callable[[], float],
    ) -> None:
        self._blobs = blobs
        self._folder = bundles_folder(blobs)
        self._journal = journal
        self._owed = owed
        self._now = now
        self._sweeping = trio.Lock()
        self._bytes = 0
        self._count = 0
        self.limits = limits

    @property
    def size(self) -> int:
        """Bytes of all bundles, as of the last look and what was written since."""
        return self._bytes

    async def open(self) -> None:
        """Make the folder, and clear away what no verdict is owed for. Raises `InputError`."""
        await trio.to_thread.run_sync(lambda: self._folder.mkdir(parents=True, exist_ok=True))
        await trio.to_thread.run_sync(_remove_temporary, self._folder, self._blobs)
        await self.sweep()
        await self._forget_orphans()

    async def _forget_orphans(self) -> None:
        """Events whose file a damaged disk, or somebody, took away."""
        files = await trio.to_thread.run_sync(self._files)
        here = {file.digest for file in files if file.kind is not Kind.ROWS}
        for kind in OF_A_BUNDLE:
            gone = [key for key in await self._journal.keys(kind) if key not in here]
            for at in range(0, len(gone), PAGE):
                await self._journal.record(*(Forget(kind, key) for key in gone[at : at + PAGE]))

    async def put(self, bundle_id: bytes, content: bytes) -> None:
        """Write a bundle's bytes. Raises `NoRoom`, and `InputError` if the disk refuses."""
        size, limits = len(content), self.limits
        if self._bytes + size > limits.bundle_bytes or self._count >= limits.bundles:
            await self.sweep(size)
        if self._bytes + size > limits.bundle_bytes or self._count >= limits.bundles:
            raise NoRoom("no room for another bundle", "verdicts are owed for all that are here")
        self._bytes += size
        self._count += 1
        path = self._path(bundle_id, Kind.OPEN)
        await trio.to_thread.run_sync(write_atomically, path, content, 0o600)

    async def get(self, bundle_id: bytes) -> UnitBundle | None:
        """A bundle that was written; None where the disk has lost or damaged it."""
        return await trio.to_thread.run_sync(self._read, bundle_id)

    async def judged(self, bundle_id: bytes, accepted: bool) -> None:
        """There is a verdict: from now on the bundle is kept for a while only."""
        kind = Kind.ACCEPTED if accepted else Kind.REJECTED
        await trio.to_thread.run_sync(self._rename, bundle_id, kind)

    async def drop(self, bundle_id: bytes) -> None:
        """Remove a bundle that there will be no verdict on, or whose file is damaged."""
        await self._journal.record(*(Forget(kind, bundle_id.hex()) for kind in OF_A_BUNDLE))
        freed = await trio.to_thread.run_sync(_unlink, self._path(bundle_id, Kind.OPEN))
        if freed is not None:
            self._bytes -= freed
            self._count -= 1

    async def sweep(self, room: int = 0) -> None:
        """Remove what is too old or too much, until `room` more bytes fit."""
        await self._sweep(room, dry=False)

    async def prune(self, *, dry: bool) -> Pruned:
        """The same, with what it came to; `dry`: without removing anything."""
        files, gone = await self._sweep(0, dry=dry)
        freed = sum(file.size for file in gone)
        left = sum(file.size for file in files) - freed
        owed = len(self._owed())
        why = "within retention.bundles and .rows" + (f", {owed} owed a verdict" if owed else "")
        what = "bundles and rows that were judged"
        return Pruned(what, len(gone), freed, len(files) - len(gone), left, why)

    async def _sweep(self, room: int, *, dry: bool) -> tuple[list[Kept], list[Kept]]:
        """The files that there were, and those that went or would go."""
        async with self._sweeping:
            files = await trio.to_thread.run_sync(self._files)
            owed = {bundle_id.hex() for bundle_id in self._owed()}
            gone = to_remove(files, owed, self.limits, self._now(), room)
            if dry:
                return files, gone
            for file in gone:
                if file.kind is not Kind.ROWS:
                    await self._journal.record(*(Forget(k, file.digest) for k in OF_A_BUNDLE))
                await trio.to_thread.run_sync(_unlink, self._path_of(file))
            left = set(files) - set(gone)
            bundles = [file for file in left if file.kind is not Kind.ROWS]
            self._bytes, self._count = sum(file.size for file in bundles), len(bundles)
            await self._forget_tries()
        return files, gone

    async def _forget_tries(self) -> None:
        """Tries are forgotten by age; they were written in order."""
        until = self._now() - self.limits.unjudged
        while page := await self._journal.page(BundleTried, 0, PAGE):
            old = [event for _, event in page if event.at < until]
            if old:
                await self._journal.record(*(Forget(BundleTried, event.key) for event in old))
            if len(old) < len(page):
                return

    def _files(self) -> list[Kept]:
        files = []
        for folder, suffix in ((self._folder, BUNDLE), (self._blobs, ROWS)):
            with os.scandir(folder) as entries:
                for entry in entries:
                    parts = entry.name.split(".")
                    if not entry.name.endswith(suffix) or not parts[0]:
                        continue
                    kind = Kind.ROWS if suffix == ROWS else _kind(parts)
                    try:
                        stat = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if kind is not None:
                        files.append(Kept(parts[0], kind, stat.st_size, stat.st_mtime))
        return files

    def _read(self, bundle_id: bytes) -> UnitBundle | None:
        for kind in (Kind.OPEN, Kind.ACCEPTED, Kind.REJECTED):
            try:
                return UnitBundle.from_bytes(self._path(bundle_id, kind).read_bytes())
            except FileNotFoundError:
                continue
            except (OSError, ProofError):
                return None
        return None

    def _rename(self, bundle_id: bytes, kind: Kind) -> None:
        try:
            self._path(bundle_id, Kind.OPEN).replace(self._path(bundle_id, kind))
        except FileNotFoundError:
            return  # an earlier run did it

    def _path(self, bundle_id: bytes, kind: Kind) -> Path:
        return self._folder / f"{bundle_id.hex()}.{kind.value}{BUNDLE}"

    def _path_of(self, file: Kept) -> Path:
        if file.kind is Kind.ROWS:
            return self._blobs / f"{file.digest}{ROWS}"
        return self._path(bytes.fromhex(file.digest), file.kind)


def _kind(parts: list[str]) -> Kind | None:
    """What a file of the folder is, by its name; None for what is none of ours."""
    try:
        bytes.fromhex(parts[0])
        return Kind(parts[1])
    except (ValueError, IndexError):
        return None


def _unlink(path: Path) -> int | None:
    """How many bytes were freed; None where the file was gone."""
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return None
    return size


def _remove_temporary(*folders: Path) -> None:
    """What a killed process left half-written."""
    for folder in folders:
        for suffix in (BUNDLE, ROWS):
            for path in folder.glob(f".*{suffix}.*"):
                path.unlink(missing_ok=True)
