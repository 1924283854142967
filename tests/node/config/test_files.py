"""A process that is killed at any step leaves whole files, and the next one goes on."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node.config.datadir import DataDir
from node.config.files import SYSTEM, System, sweep, write_atomically, write_new
from node.config.keystore import KeyFileError, NodeKey, load_key, save_key
from node.errors import ResourceError

KEY = NodeKey(b"k" * 32)


class Killed(BaseException):
    """The process is gone."""


def killed_after(steps: int) -> tuple[System, list[str]]:
    """A system that carries out `steps` operations; every later one finds the process dead."""
    done: list[str] = []

    def mortal(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if len(done) >= steps:
                raise Killed
            done.append(name)
            if name == "write":
                descriptor, data = arguments
                return operation(descriptor, data[: max(1, len(data) // 2)])
            return operation(*arguments)

        return call

    wrapped = {f.name: mortal(f.name, getattr(SYSTEM, f.name)) for f in dataclasses.fields(SYSTEM)}
    return System(**wrapped), done


def every_step(make: Callable[[System], object]) -> list[int]:
    """The numbers of operations after which `make` can be interrupted."""
    system, done = killed_after(1000)
    make(system)
    return list(range(len(done)))


def folder_of(tmp_path: Path, step: int) -> Path:
    folder = tmp_path / f"after-{step}"
    folder.mkdir()
    return folder


def others_may_read(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.is_file() and p.stat().st_mode & 0o077]


def test_a_new_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    steps = every_step(
        lambda system: write_new(folder_of(tmp_path, -1) / "f", b"x" * 99, 0o600, system)
    )
    assert len(steps) >= 12
    for step in steps:
        path = folder_of(tmp_path, step) / "f"
        with pytest.raises(Killed):
            write_new(path, b"x" * 99, system=killed_after(step)[0])
        assert not path.exists() or path.read_bytes() == b"x" * 99
        assert others_may_read(path.parent) == []
        sweep(path.parent)
        assert {p.name for p in path.parent.iterdir()} <= {"f"}
        if not path.exists():
            write_new(path, b"x" * 99)
        with pytest.raises(FileExistsError):
            write_new(path, b"y")
        assert path.read_bytes() == b"x" * 99
        assert [p.name for p in path.parent.iterdir()] == ["f"]


def test_a_replaced_file_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    def replaced(folder: Path, system: System) -> Path:
        path = folder / "f"
        path.write_bytes(b"old")
        write_atomically(path, b"new" * 9, 0o600, system)
        return path

    for step in every_step(lambda system: replaced(folder_of(tmp_path, -1), system)):
        folder = folder_of(tmp_path, step)
        with pytest.raises(Killed):
            replaced(folder, killed_after(step)[0])
        assert (folder / "f").read_bytes() in (b"old", b"new" * 9)
        sweep(folder)
        assert [p.name for p in folder.iterdir()] == ["f"]


def test_a_key_that_was_being_made_is_made_or_is_not_there(tmp_path: Path) -> None:
    for step in every_step(lambda s: save_key(folder_of(tmp_path, -1) / "node.key", KEY, system=s)):
        path = folder_of(tmp_path, step) / "node.key"
        with pytest.raises(Killed):
            save_key(path, KEY, system=killed_after(step)[0])
        if path.exists():
            assert load_key(path) == KEY
        else:
            with pytest.raises(KeyFileError, match="no such key file"):
                load_key(path)
            save_key(path, KEY)
            assert load_key(path) == KEY


def test_a_token_that_was_being_made_is_made_anew(tmp_path: Path) -> None:
    for step in every_step(lambda system: DataDir(folder_of(tmp_path, -1)).api_token(system)):
        data = DataDir(folder_of(tmp_path, step))
        with pytest.raises(Killed):
            data.api_token(killed_after(step)[0])
        with data.lock():
            token = data.api_token()
        assert len(token) == 64
        assert data.read_api_token() == token
        assert others_may_read(data.path) == []
        assert not [p for p in data.path.iterdir() if p.name.startswith(".")]


def test_an_empty_token_is_made_anew_and_an_empty_key_is_said(tmp_path: Path) -> None:
    (tmp_path / "api-token").touch(0o600)
    assert len(DataDir(tmp_path).api_token()) == 64
    for content in (b"", b"\n", b"\0" * 65):
        path = tmp_path / "node.key"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(KeyFileError, match=r"empty.*delete the file"):
            load_key(path)
    path.write_bytes(b"ab" * 20)
    with pytest.raises(KeyFileError, match="not a key file"):
        load_key(path)


def test_a_file_is_private_from_its_first_moment(tmp_path: Path) -> None:
    modes: list[int] = []

    def create(path: Path, mode: int) -> int:
        descriptor = SYSTEM.create(path, mode)
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    system = dataclasses.replace(SYSTEM, create=create)
    old = os.umask(0)
    try:
        save_key(tmp_path / "node.key", KEY, system=system)
        DataDir(tmp_path).api_token(system)
    finally:
        os.umask(old)
    assert modes == [0o600, 0o600]


def test_what_a_running_process_writes_is_not_swept(tmp_path: Path) -> None:
    aside = tmp_path / f".node.key.{os.getppid()}.00000000"
    gone = tmp_path / ".node.key.4194305.00000000"
    other = tmp_path / ".hidden"
    for path in (aside, gone, other):
        path.touch()
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([aside.name, other.name])


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    system = dataclasses.replace(SYSTEM, write=full)
    with pytest.raises(ResourceError, match="No space left"):
        write_atomically(tmp_path / "f", b"x", system=system)
    with pytest.raises(ResourceError, match="No space left"):
        save_key(tmp_path / "k", KEY, system=system)
    with pytest.raises(ResourceError, match="No space left"):
        DataDir(tmp_path).api_token(system)
    assert list(tmp_path.iterdir()) == []
