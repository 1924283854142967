"""A prepared model on disk, opened: its folder, its manifest, and where each tensor lies.

Opening checks form and sizes, which costs nothing. Whoever uses a file takes it from here, by
`read` or `open`, and so uses what was hashed (`checking`); `PreparedModel.verify` reads every byte.
No torch here, so the control process can open models too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from pipeline.models.checking import checked_bytes, checked_file
from pipeline.models.errors import InvalidModel, unreadable
from pipeline.models.layout import LayerTable
from pipeline.models.manifest import FileEntry, Manifest, read_manifest
from proofs.encoding.jsontext import parse_json

INDEX = "model.safetensors.index.json"
MAX_INDEX = 64 * 2**20
MAX_TEXT = 64 * 2**20
"""Bytes of a file that is read whole: configurations, tokenizers."""

Progress = Callable[[str, int, int], None]


def no_progress(_what: str, _done: int, _total: int) -> None:
    """The progress callback for callers that do not show any."""


@dataclass(frozen=True)
class PreparedModel:
    """A folder whose form agrees with its manifest. One that is `doubted` has every file hashed
    that is used, even if it was hashed not long ago."""

    path: Path
    manifest: Manifest
    doubted: bool = field(default=False, compare=False)

    @property
    def model_id(self) -> bytes:
        """The 32-byte identity that proofs and receipts carry."""
        return bytes.fromhex(self.manifest.model_id)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.manifest.name

    def layer_table(self) -> LayerTable:
        """What each layer takes in memory."""
        return self.manifest.table()

    @cached_property
    def _entries(self) -> dict[str, FileEntry]:
        return {entry.name: entry for entry in self.manifest.files}

    def doubting(self) -> PreparedModel:
        """The same model, whose files are all hashed anew before they are used."""
        return replace(self, doubted=True)

    def has(self, name: str) -> bool:
        """Whether the manifest lists a file."""
        return name in self._entries

    def read(self, name: str, most: int = MAX_TEXT) -> bytes:
        """The content of a file of at most `most` bytes, as the manifest says it is.

        Raises:
            InvalidModel: there is no such file in the manifest, or none on disk.
            DamagedModel: its content is another.
        """
        return checked_bytes(self.path, self._entry(name), most)

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A large file, open at its beginning, with the content that the manifest says; entering
        raises as `read` does, and so does leaving where it changed meanwhile."""
        return checked_file(self.path, self._entry(name), again=self.doubted)

    def _entry(self, name: str) -> FileEntry:
        entry = self._entries.get(name)
        if entry is None:
            raise InvalidModel(f"{self.path}: its manifest lists no {name}; prepare it again")
        return entry

    def verify(self, progress: Progress = no_progress) -> None:
        """Hash every file and compare with the manifest; `progress("verify", done, total)` bytes.

        Raises:
            DamagedModel: naming the first file that differs.
            InvalidModel: naming the first one that cannot be read.
        """
        total = sum(entry.size for entry in self.manifest.files)
        done = 0

        def count(amount: int) -> None:
            nonlocal done
            done += amount
            progress("verify", done, total)

        for entry in self.manifest.files:
            with checked_file(self.path, entry, again=True, on_bytes=count):
                pass


def open_folder(folder: Path) -> PreparedModel:
    """Open a prepared model's folder; checks the manifest and every file's size.

    Raises:
        InvalidModel: with the first thing that is wrong.
    """
    manifest = read_manifest(folder)
    for entry in manifest.files:
        path = folder / entry.name
        try:
            plain = path.is_file() and not path.is_symlink()
            size = path.stat().st_size if plain else 0
        except OSError as exc:
            raise unreadable(path, exc) from exc
        if not plain:
            raise InvalidModel(f"{path} is missing or not a plain file; prepare the model again")
        if size != entry.size:
            raise InvalidModel(
                f"{path} has {size} bytes, not {entry.size}; prepare the model again"
            )
    return PreparedModel(folder, manifest)


def weight_map(model: PreparedModel) -> dict[str, str]:
    """Tensor name → shard file, from the index; only shards that the manifest lists.

    Raises:
        InvalidModel: the index is missing, too large or not well-formed.
    """
    path = model.path / INDEX
    content = model.read(INDEX, MAX_INDEX)
    try:
        tensors = parse_json(content)["weight_map"]
        for name, shard in tensors.items():
            if not isinstance(name, str) or not model.has(shard):
                raise InvalidModel(f"{path}: {name!r} is in no file of this model")
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise InvalidModel(f"{path} is not a safetensors index; prepare the model again") from exc
    return dict(tensors)
