"""Small files that are there whole or not at all, whenever the process ends.

A file is written under another name beside its place, synced, and only then given its name; then
the folder is synced, so that the name survives a power cut too. It is private from the moment that
it exists. What a killed process left under the other name is removed by `sweep`.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from node.errors import ResourceError, system_error

PRIVATE = 0o600
_ASIDE = re.compile(r"^\..+\.(\d+)\.[0-9a-f]{8}$")


def _create(path: Path, mode: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)


def _write(descriptor: int, data: bytes) -> int:
    return os.write(descriptor, data)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class System:
    """The operations that a file is made of; a test ends the process between any two of them."""

    create: Callable[[Path, int], int] = _create
    write: Callable[[int, bytes], int] = _write
    sync: Callable[[int], None] = os.fsync
    close: Callable[[int], None] = os.close
    rename: Callable[[Path, Path], None] = os.replace
    link: Callable[[Path, Path], None] = os.link
    unlink: Callable[[Path], None] = os.unlink
    sync_folder: Callable[[Path], None] = _sync_folder


SYSTEM = System()


def write_atomically(path: Path, data: bytes, mode: int = 0o644, system: System = SYSTEM) -> None:
    """Write `data` in place of whatever `path` holds; its folder is made where it is missing.

    Raises `InputError` or `ResourceError`, naming the file, when the system refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _write_aside(path, data, mode, system)
        try:
            system.rename(aside, path)
        except OSError:
            system.unlink(aside)
            raise
        system.sync_folder(path.parent)
    except OSError as exc:
        raise system_error(path, "cannot write", exc) from exc


def write_new(path: Path, data: bytes, mode: int = PRIVATE, system: System = SYSTEM) -> None:
    """Write a file that is not there yet. Raises FileExistsError where it is, and OSError."""
    aside = _write_aside(path, data, mode, system)
    try:
        system.link(aside, path)  # unlike a rename this never replaces
    finally:
        system.unlink(aside)
    system.sync_folder(path.parent)


def hold(path: Path, taken: str, hint: str) -> int:
    """Lock a file for this process, as long as the descriptor is open; it then holds our pid.

    Raises `ResourceError` that begins with `taken` where another process has it, and OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            raise ResourceError(f"{taken} (pid {holder})", hint) from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def sweep(folder: Path) -> None:
    """Remove what processes that are gone left aside in `folder`."""
    for entry in folder.iterdir():
        match = _ASIDE.match(entry.name)
        if match and not _runs(int(match[1])):
            with suppress(OSError):
                entry.unlink()


def _write_aside(path: Path, data: bytes, mode: int, system: System) -> Path:
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = system.create(aside, mode)
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[system.write(descriptor, bytes(rest)) :]
            system.sync(descriptor)
        finally:
            system.close(descriptor)
    except OSError:
        system.unlink(aside)
        raise
    return aside


def _runs(pid: int) -> bool:
    if pid == os.getpid():
        return False  # nobody else in this process writes while the folder is being opened
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
