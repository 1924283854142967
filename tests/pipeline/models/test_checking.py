"""What is loaded is what the manifest says, and one flipped bit is named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.models import checking
from pipeline.models.checking import NOTES, checked_file
from pipeline.models.errors import DamagedModel
from pipeline.models.manifest import FileEntry
from pipeline.models.prepared import PreparedModel, open_folder
from pipeline.models.slice import load_slice
from pipeline.models.tokenizer import ChatTokenizer

CONTENT = bytes(range(256)) * 9


class Folder:
    """One file and its entry; `hashed` counts the bytes that were read to hash it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.file = path, path / "weights"
        self.file.write_bytes(CONTENT)
        self.entry = FileEntry(
            name="weights", size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest()
        )
        self.now = 1e9
        self.hashed = 0
        monkeypatch.setattr(checking.time, "time", lambda: self.now)

    def use(self, *, again: bool = False) -> bytes:
        """Open the file as a loader does, and read it."""
        before = self.raw()
        with checked_file(self.path, self.entry, again=again) as file:
            content = file.read()
        self.hashed += again or self.raw() != before
        return content

    def raw(self) -> bytes:
        path = self.path / NOTES
        return path.read_bytes() if path.exists() else b""

    def notes(self) -> dict[str, list[object]]:
        return dict(json.loads(self.raw()))

    def rot(self) -> None:
        """One bit flips, and nothing about the file tells."""
        stat = self.file.stat()
        with self.file.open("r+b") as file:
            file.seek(100)
            file.write(bytes([CONTENT[100] ^ 1]))
        os.utime(self.file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    return Folder(tmp_path, monkeypatch)


def test_a_file_is_hashed_once_and_again_when_it_changed_or_was_replaced(folder: Folder) -> None:
    for _ in range(3):
        assert folder.use() == CONTENT
    assert folder.hashed == 1
    folder.now += 1.0
    os.utime(folder.file, ns=(5, 5))
    folder.use()
    assert folder.hashed == 2
    folder.now += 1.0
    shutil.copy2(folder.file, folder.path / "copy")
    (folder.path / "copy").replace(folder.file)
    folder.use()
    assert folder.hashed == 3


def test_a_silent_flip_is_found_when_one_doubts_and_in_time_anyway(folder: Folder) -> None:
    folder.use()
    folder.rot()
    folder.use()  # by its fingerprint it is the same: this is what doubting is for
    with pytest.raises(DamagedModel, match=r"weights is damaged: .* prime-node model get again"):
        folder.use(again=True)
    with pytest.raises(DamagedModel):  # and the note is gone
        folder.use()
    folder.file.write_bytes(CONTENT)
    folder.use()
    folder.rot()
    folder.now += checking.MAX_AGE + 1.0
    with pytest.raises(DamagedModel):
        folder.use()


def test_notes_that_are_no_notes_are_not_believed(folder: Folder) -> None:
    folder.use()
    good = folder.notes()["weights"]
    for bad in (b"", b"[]", b"{", b"[" * 100_000, b'{"weights": 1}', b'{"weights": [1,2,3,4,5,6]}'):
        (folder.path / NOTES).write_bytes(bad)
        assert folder.use() == CONTENT
        assert folder.notes()["weights"] == good
    from_the_future = {"weights": [good[0], folder.now + 100.0, *good[2:]]}
    (folder.path / NOTES).write_text(json.dumps(from_the_future))
    folder.use()
    assert folder.notes()["weights"] == good


def test_a_folder_that_cannot_be_written_is_hashed_each_time(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(checking.tempfile, "mkstemp", refuse)
    assert folder.use() == CONTENT
    folder.rot()
    with pytest.raises(DamagedModel):
        folder.use()


def test_what_is_read_is_the_file_that_was_hashed(folder: Folder) -> None:
    """Another one in its place is not read, and a change while it is open is noticed."""
    with checked_file(folder.path, folder.entry) as file:
        (folder.path / "evil").write_bytes(bytes(len(CONTENT)))
        (folder.path / "evil").replace(folder.file)
        assert Path(checking.open_path(file, folder.file)).read_bytes() == CONTENT
    with pytest.raises(DamagedModel):
        folder.use()
    folder.file.write_bytes(CONTENT)
    with (
        pytest.raises(DamagedModel),
        checked_file(folder.path, folder.entry),
        folder.file.open("r+b") as writer,
    ):
        writer.write(b"x")


def test_a_model_just_prepared_needs_no_hashing(
    tiny_model: Callable[[str], PreparedModel],
) -> None:
    model = tiny_model("llama")
    assert set(json.loads((model.path / NOTES).read_bytes())) == {
        entry.name for entry in model.manifest.files
    }


def use_all(model: PreparedModel) -> None:
    ChatTokenizer(model)
    load_slice(model, 0, model.manifest.layers)
    model.verify()  # what neither of them reads


def test_one_flipped_bit_in_any_file_is_named(
    tiny_model: Callable[[str], PreparedModel], tmp_path: Path
) -> None:
    original = tiny_model("llama")
    for entry in original.manifest.files:
        folder = tmp_path / entry.name
        shutil.copytree(original.path, folder)
        raw = bytearray((folder / entry.name).read_bytes())
        raw[len(raw) // 2] ^= 1
        (folder / entry.name).write_bytes(raw)
        model = open_folder(folder)
        with pytest.raises(DamagedModel) as caught:
            use_all(model)
        assert caught.value.path == folder / entry.name
        assert "prime-node model get" in str(caught.value)
