"""Are a prepared model's files still what its manifest says? What is checked is what is used.

A file is hashed through an open descriptor, and whoever loads it reads through the same one, so
nothing can be put in its place in between; its stat must be the same before and after. Small files
are read whole, and the bytes that were hashed are the bytes that are used.

Reading a hundred gigabytes at each start would take minutes. So what was hashed is noted in the
model's folder, `.checked.json`, with the file's size, time of change, inode and device: a file that
is the same by all of these is not hashed again for `MAX_AGE` seconds. A disk can rot without
changing any of them. That is what `again` is for: whoever has reason to doubt the weights in its
memory has every file hashed anew, whatever the note says.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pipeline.models.errors import DamagedModel, InvalidModel, unreadable
from pipeline.models.manifest import FileEntry
from proofs.encoding.jsontext import parse_json

NOTES = ".checked.json"
MAX_AGE = 7 * 86_400.0
MAX_NOTES = 4 * 2**20
_READ = 2**20

Print = tuple[int, int, int, int]
"""A file's size, time of change (ns), inode and device."""


@contextmanager
def checked_file(
    folder: Path,
    entry: FileEntry,
    *,
    again: bool = False,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[BinaryIO]:
    """The file of `entry`, open for reading at its beginning, with the content of the manifest.

    Raises:
        DamagedModel: its content is another, or changed while it was open.
        InvalidModel: it cannot be read.
    """
    path = folder / entry.name
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    except OSError as exc:
        raise unreadable(path, exc) from exc
    with file:
        before = fingerprint(file)
        if again or not is_noted(folder, entry, before):
            found = _hash(file, path, on_bytes)
            if found != entry.sha256 or fingerprint(file) != before:
                forget(folder, entry.name)
                raise DamagedModel(path)
            note(folder, {entry.name: (entry.sha256, before)})
        elif on_bytes is not None:
            on_bytes(entry.size)
        file.seek(0)
        yield file
        if fingerprint(file) != before:
            forget(folder, entry.name)
            raise DamagedModel(path)


def checked_bytes(folder: Path, entry: FileEntry, most: int) -> bytes:
    """The whole content of a small file. Raises as `checked_file`, and `InvalidModel` for one of
    more than `most` bytes."""
    path = folder / entry.name
    if entry.size > most:
        raise InvalidModel(f"{path} is larger than {most} bytes")
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise unreadable(path, exc) from exc
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        forget(folder, entry.name)
        raise DamagedModel(path)
    return content


def open_path(file: BinaryIO, path: Path) -> str:
    """A path that opens this very file, whatever lies at `path` by now; `path` where the system has
    no such thing."""
    same = f"/proc/self/fd/{file.fileno()}"
    return same if os.path.exists(same) else str(path)


def fingerprint(file: BinaryIO) -> Print:
    """What changes when a file is changed in any ordinary way."""
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


# -- what was checked ----------------------------------------------------------------------------


def is_noted(folder: Path, entry: FileEntry, found: Print) -> bool:
    """Whether the file was hashed not long ago and is the same by its fingerprint."""
    known = _read(folder).get(entry.name)
    if not isinstance(known, list) or len(known) != 6:
        return False
    sha256, at, *stat = known
    age = time.time() - at if isinstance(at, int | float) else -1.0
    return sha256 == entry.sha256 and stat == list(found) and 0.0 <= age <= MAX_AGE


def note(folder: Path, files: dict[str, tuple[str, Print]]) -> None:
    """Remember that these files have these hashes. A folder that cannot be written is no error: its
    files are hashed each time."""
    at = round(time.time(), 3)
    fresh = {name: [sha256, at, *found] for name, (sha256, found) in files.items()}
    _write(folder, _read(folder) | fresh)


def forget(folder: Path, name: str) -> None:
    """The file is in doubt."""
    known = _read(folder)
    if known.pop(name, None) is not None:
        _write(folder, known)


def _hash(file: BinaryIO, path: Path, on_bytes: Callable[[int], None] | None) -> str:
    digest = hashlib.sha256()
    try:
        while block := file.read(_READ):
            digest.update(block)
            if on_bytes is not None:
                on_bytes(len(block))
    except OSError as exc:
        raise unreadable(path, exc) from exc
    return digest.hexdigest()


def _read(folder: Path) -> dict[str, object]:
    try:
        with (folder / NOTES).open("rb") as file:
            raw = file.read(MAX_NOTES + 1)
        found = parse_json(raw) if len(raw) <= MAX_NOTES else None
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(folder: Path, notes: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        descriptor, temporary = tempfile.mkstemp(prefix=NOTES, dir=folder)
        try:
            os.fchmod(descriptor, 0o644)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(notes, file)
            os.replace(temporary, folder / NOTES)
        except OSError:
            os.unlink(temporary)
            raise
