"""What a source's files hold, as one digest, without reading gigabytes each time.

The digest is over the names and the sha256 of all files. What was hashed is noted in the store,
`.sources.json`, with the file's size, times, inode and device; a file that is the same by all of
these is not read again for `MAX_AGE` seconds. The time of change of an inode cannot be set by
anybody, unlike that of its content, so a copy that keeps its dates is still another file. A clock
that ticks slowly hides a change right after the reading: notes of files that were changed less than
`SETTLED` before are not kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from pipeline.models.errors import InvalidModel, unreadable
from pipeline.models.manifest import hash_file
from proofs.encoding.jsontext import parse_json

NOTES = ".sources.json"
MAX_NOTES = 4 * 2**20
MAX_AGE = 7 * 86_400.0
SETTLED = 2.0
_DOMAIN = b"prime-node/source/1\n"

Stamp = tuple[int, int, int, int, int]
"""A file's size, times of change of content and inode (ns), inode and device."""


def stamp(path: Path) -> Stamp:
    """What changes with a file. Raises `InvalidModel`."""
    try:
        found = path.stat()
    except OSError as exc:
        raise unreadable(path, exc) from exc
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


class SourceHashes:
    """Digests of files, remembered in the folder `store`. `now` gives seconds since 1970."""

    def __init__(self, store: Path, now: Callable[[], float] = time.time) -> None:
        self._path = store / NOTES
        self._now = now
        self.read = 0
        """Bytes that had to be read."""

    def digest(
        self, root: Path, files: Iterable[Path], progress: Callable[[int, int], None]
    ) -> str:
        """sha256 in hex over names (as seen from `root`) and contents; `progress(done, total)`
        counts bytes that are read. Raises `InvalidModel` for a file that cannot be read."""
        notes = self._load()
        stamps = {path: stamp(path) for path in sorted(files)}
        fresh = {path for path, seen in stamps.items() if not self._known(notes, path, seen)}
        total = sum(stamps[path][0] for path in fresh)

        def count(amount: int) -> None:
            self.read += amount
            progress(self.read, total)

        digest = hashlib.sha256(_DOMAIN)
        for path, seen in stamps.items():
            if path in fresh:
                notes[str(path)] = _Note(_hash(path, seen, count), self._now(), seen)
            name = os.path.relpath(path, root)
            digest.update(f"{name}\0{notes[str(path)].sha256}\n".encode())
        if fresh:
            self._save(notes)
        return digest.hexdigest()

    def _known(self, notes: dict[str, _Note], path: Path, seen: Stamp) -> bool:
        found = notes.get(str(path))
        return found is not None and found.stamp == seen and 0 <= self._now() - found.at <= MAX_AGE

    def _load(self) -> dict[str, _Note]:
        try:
            with self._path.open("rb") as file:
                found = parse_json(file.read(MAX_NOTES))
        except (OSError, ValueError):
            return {}
        items = found.items() if isinstance(found, dict) else ()
        return {path: note for path, entry in items if (note := _parse(entry)) is not None}

    def _save(self, notes: dict[str, _Note]) -> None:
        """A store that cannot be written is no error here: files are hashed each time."""
        kept = {
            path: [note.sha256, note.at, *note.stamp]
            for path, note in notes.items()
            if os.path.exists(path) and note.at - max(note.stamp[1:3]) / 1e9 > SETTLED
        }
        content = json.dumps(kept)
        if len(content) > MAX_NOTES:
            return
        with contextlib.suppress(OSError):
            descriptor, temporary = tempfile.mkstemp(prefix=NOTES, dir=self._path.parent)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(content)
            os.replace(temporary, self._path)


class _Note(NamedTuple):
    sha256: str
    at: float
    stamp: Stamp


def _parse(entry: object) -> _Note | None:
    if not isinstance(entry, list) or len(entry) != 7:
        return None
    sha256, at, *numbers = entry
    if not isinstance(sha256, str) or not isinstance(at, int | float):
        return None
    if not all(type(number) is int for number in numbers):
        return None
    size, changed, inode_changed, inode, device = numbers
    return _Note(sha256, float(at), (size, changed, inode_changed, inode, device))


def _hash(path: Path, seen: Stamp, count: Callable[[int], None]) -> str:
    try:
        found = hash_file(path, count)
    except OSError as exc:
        raise unreadable(path, exc) from exc
    if stamp(path) != seen:
        raise InvalidModel(f"{path} changed while it was read; run it again")
    return found
