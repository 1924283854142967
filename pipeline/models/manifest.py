"""The manifest of a prepared model, and the model identity that proofs and receipts carry.

The identity is a sha256 over what decides the model's output and nothing else:

    sha256(b"prime-node/model/1\\n" + for each file, by name: name + b"\\0" + hex sha256 + b"\\n")

over the config, the generation config, the tokenizer files and the weights with their index. The
manifest's other fields describe the model (sizes for the planner, where it came from) and do not
enter the identity, so two nodes that prepared the same source agree on it.

A manifest may come from a stranger's folder. Everything here is bounded: the JSON's size before it
is read, every count and string by the schema, and file names to one plain component, so that no
name can lead out of the folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.models.errors import InvalidModel, unreadable
from pipeline.models.layout import LayerTable

MANIFEST = "manifest.json"
MAX_MANIFEST = 4 * 2**20
ITEMSIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
_DOMAIN = b"prime-node/model/1\n"
_READ = 2**20

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0, lt=2**50)]
PerLayer = Annotated[tuple[Size, ...], Field(min_length=1, max_length=4096)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Strict):
    """One file of a prepared model; `sha256` is in hex."""

    name: FileName
    size: Size
    sha256: Hex32


class Manifest(_Strict):
    """What a prepared model is. Sizes in bytes; `kv_bytes` for one token in each layer."""

    format: Annotated[int, Field(ge=1, le=1)] = 1
    model_id: Hex32
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")]
    source: Annotated[str, Field(max_length=1024)]
    architecture: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,128}$")]
    dtype: Annotated[str, Field(pattern=r"^(float32|bfloat16|float16)$")]
    layers: Annotated[int, Field(ge=1, le=4096)]
    hidden_size: Annotated[int, Field(ge=1, le=2**20)]
    vocab_size: Annotated[int, Field(ge=1, lt=2**31)]
    max_positions: Annotated[int, Field(ge=1, lt=2**31)]
    layer_bytes: PerLayer
    kv_bytes: PerLayer
    embed_bytes: Size
    head_bytes: Size
    tied: bool
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1, max_length=8192)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.layer_bytes) != self.layers or len(self.kv_bytes) != self.layers:
            raise ValueError("layer_bytes and kv_bytes need one entry for each layer")
        names = [entry.name for entry in self.files]
        if len(set(names)) != len(names) or MANIFEST in names:
            raise ValueError("file names repeat")
        if identity(self.files) != self.model_id:
            raise ValueError("model_id is not the digest of the files listed")
        return self

    @property
    def row_bytes(self) -> int:
        """Bytes of one token's hidden states between two stages."""
        return self.hidden_size * ITEMSIZES[self.dtype]

    def table(self) -> LayerTable:
        """The layer table that a planner works with."""
        return LayerTable(
            hidden_size=self.hidden_size,
            itemsize=ITEMSIZES[self.dtype],
            layer_bytes=self.layer_bytes,
            kv_bytes=self.kv_bytes,
            embed_bytes=self.embed_bytes,
            head_bytes=self.head_bytes,
            tied=self.tied,
        )


def identity(files: Iterable[FileEntry]) -> str:
    """The model identity, in hex, of a set of files (see the module's docstring)."""
    digest = hashlib.sha256(_DOMAIN)
    for entry in sorted(files, key=lambda entry: entry.name):
        digest.update(f"{entry.name}\0{entry.sha256}\n".encode())
    return digest.hexdigest()


def hash_file(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """sha256 of a file in hex, read in blocks of 1 MiB; `on_bytes` gets each block's length."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ):
            digest.update(block)
            if on_bytes is not None:
                on_bytes(len(block))
    return digest.hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read and check a folder's manifest.

    Raises:
        InvalidModel: it is missing, larger than `MAX_MANIFEST`, or not well-formed.
    """
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_MANIFEST + 1)
    except OSError as exc:
        raise unreadable(path, exc) from exc
    if len(raw) > MAX_MANIFEST:
        raise InvalidModel(f"{path} is larger than {MAX_MANIFEST} bytes; prepare the model again")
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise InvalidModel(f"{path}: {where}: {first['msg']}; prepare the model again") from exc
