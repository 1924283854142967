"""A prepared model on disk, opened: its folder, its manifest, and where each tensor lies.

Opening checks form and sizes, which costs nothing; `PreparedModel.verify` reads every byte. No
torch here, so the control process can open models too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.models.errors import InvalidModel
from pipeline.models.layout import LayerTable
from pipeline.models.manifest import Manifest, hash_file, read_manifest

INDEX = "model.safetensors.index.json"
MAX_INDEX = 64 * 2**20

Progress = Callable[[str, int, int], None]


def no_progress(_what: str, _done: int, _total: int) -> None:
    """The progress callback for callers that do not show any."""


@dataclass(frozen=True)
class PreparedModel:
    """A folder whose form agrees with its manifest."""

    path: Path
    manifest: Manifest

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

    def verify(self, progress: Progress = no_progress) -> None:
        """Hash every file and compare with the manifest; `progress("verify", done, total)` bytes.

        Raises:
            InvalidModel: naming the first file that differs.
        """
        total = sum(entry.size for entry in self.manifest.files)
        done = 0

        def count(amount: int) -> None:
            nonlocal done
            done += amount
            progress("verify", done, total)

        for entry in self.manifest.files:
            try:
                found = hash_file(self.path / entry.name, count)
            except OSError as exc:
                raise InvalidModel(f"{self.path / entry.name}: {exc.strerror}") from exc
            if found != entry.sha256:
                raise InvalidModel(
                    f"{self.path / entry.name} differs from the manifest; prepare the model again"
                )


def open_folder(folder: Path) -> PreparedModel:
    """Open a prepared model's folder; checks the manifest and every file's size.

    Raises:
        InvalidModel: with the first thing that is wrong.
    """
    manifest = read_manifest(folder)
    for entry in manifest.files:
        path = folder / entry.name
        if path.is_symlink() or not path.is_file():
            raise InvalidModel(f"{path} is missing or not a plain file; prepare the model again")
        if (size := path.stat().st_size) != entry.size:
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
    listed = {entry.name: entry.size for entry in model.manifest.files}
    if listed.get(INDEX, MAX_INDEX + 1) > MAX_INDEX:
        raise InvalidModel(f"{path} is missing or too large; prepare the model again")
    try:
        tensors = json.loads(path.read_bytes())["weight_map"]
        for name, shard in tensors.items():
            if not isinstance(name, str) or shard not in listed:
                raise InvalidModel(f"{path}: {name!r} is in no file of this model")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise InvalidModel(f"{path} is not a safetensors index; prepare the model again") from exc
    return dict(tensors)
