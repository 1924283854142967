"""The model store: a folder of prepared models, `<store>/<name>-<first 12 hex of the identity>/`.

`prepare` turns a source into such a folder once. It writes into a temporary folder beside the
target and renames it at the end, so a prepared model is there whole or not at all. A lock file for
each name lets two processes ask for one model at the same time: the second waits and finds the
first one's work. What a killed process left is removed by the next. What is prepared already is
found by the content of its source (`preparing.hashing`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.models.checking import fingerprint, note
from pipeline.models.errors import (
    InvalidModel,
    ModelNotFound,
    StoreUnusable,
    UnsupportedModel,
    unreadable,
)
from pipeline.models.manifest import ITEMSIZES, MANIFEST, FileEntry, Manifest
from pipeline.models.prepared import PreparedModel, Progress, no_progress, open_folder
from pipeline.models.preparing.hashing import SourceHashes, stamp
from pipeline.models.preparing.sources import Source, find_source, hub_origin, names_files

_FOLDER = re.compile(r".+-[0-9a-f]{12}")


def list_models(store: Path) -> list[PreparedModel]:
    """All prepared models of a store in name order, without folders that are not well-formed.
    Raises `InvalidModel` for a store that cannot be read."""
    return [found for found in _opened(store) if isinstance(found, PreparedModel)]


def open_model(store: Path, which: str) -> PreparedModel:
    """Open a prepared model by folder path, name, or identity (12 or more hex digits of it), or by
    what it was prepared from: a folder or file, by its content, or a hub name.

    Raises:
        ModelNotFound: none or several go by that name.
        InvalidModel: there is one and its content is not well-formed, or cannot be read.
    """
    path = Path(os.path.expanduser(which))  # left as it is where there is no home
    if (path / MANIFEST).is_file():
        return open_folder(path)
    folders = _opened(store)
    models = [model for model in folders if isinstance(model, PreparedModel)]
    found = {model.model_id: model for model in reversed(models) if _goes_by(model, which)}
    if not found and names_files(which):
        source = find_source(which)
        origin = _label(source, store, no_progress)
        found = {
            model.model_id: model for model in models if model.manifest.source.startswith(origin)
        }
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        several = ", ".join(sorted(model.path.name for model in found.values()))
        raise ModelNotFound(f"{which!r} could be any of {several}; name one of these")
    for problem in folders:
        if isinstance(problem, _Unusable) and problem.goes_by(which):
            raise problem.reason
    have = ", ".join(model.path.name for model in models) or "none"
    raise ModelNotFound(
        f"no prepared model {which!r} in {store} (prepared: {have}); "
        f"run: prime-node model get {which}"
    )


@dataclass(frozen=True)
class _Unusable:
    folder: Path
    reason: InvalidModel

    def goes_by(self, which: str) -> bool:
        """Whether this would be meant, by what the folder's name says."""
        name, _, digits = self.folder.name.rpartition("-")
        return which in (name, self.folder.name) or which.startswith(digits)


def _opened(store: Path) -> list[PreparedModel | _Unusable]:
    """Every folder of a store that is named as a prepared model is."""
    try:
        folders = sorted(path for path in store.iterdir() if _FOLDER.fullmatch(path.name))
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise unreadable(store, exc) from exc
    found: list[PreparedModel | _Unusable] = []
    for folder in folders:
        try:
            found.append(open_folder(folder))
        except InvalidModel as exc:
            found.append(_Unusable(folder, exc))
    return found


def _goes_by(model: PreparedModel, which: str) -> bool:
    return (
        which in (model.name, model.path.name)
        or (len(which) >= 12 and model.manifest.model_id.startswith(which))
        or model.manifest.source.startswith(f"{hub_origin(which)}:")
    )


def prepare(
    source: str,
    store: Path,
    *,
    dtype: str = "auto",
    without: Collection[str] = (),
    progress: Progress = no_progress,
) -> PreparedModel:
    """Prepare a model, or find it already prepared.

    Args:
        source: see `pipeline.models.preparing.sources`.
        dtype: float32, bfloat16, float16, or auto: what the checkpoint says, float32 for GGUF.
        without: generation settings of the checkpoint that nothing here does, and that it is to be
            served without.
        progress: called as (step, done, total); steps are "source", "tokenizer", "convert" and
            "hash".

    Raises:
        ModelNotFound, SourceUnavailable: there is no such source, or not now.
        StoreUnusable: the store cannot be written.
        UnsupportedModel: the architecture or the checkpoint's format cannot be used.
        InvalidModel: the source's files are damaged, contradict each other or cannot be read.
    """
    if dtype != "auto" and dtype not in ITEMSIZES:
        raise UnsupportedModel(f"dtype {dtype!r}: give auto, {', '.join(ITEMSIZES)}")
    found = find_source(source)
    left_out = "".join(f":without {name}" for name in sorted(set(without)))
    label = f"{_label(found, store, progress)}:{dtype}{left_out}"
    if (known := _known(store, found, label)) is not None:
        return known  # even in a store that is only to be read
    try:
        store.mkdir(parents=True, exist_ok=True)
        with _locked(store / f".{found.name}.lock"):
            if (known := _known(store, found, label)) is not None:
                return known
            for stale in store.glob(f".{found.name}.tmp-*"):
                shutil.rmtree(stale)
            temporary = Path(tempfile.mkdtemp(prefix=f".{found.name}.tmp-", dir=store))
            try:
                # torch and transformers are loaded only when a model is really built.
                from pipeline.models.preparing.building import build_model

                before = [stamp(path) for path in found.files]
                manifest = build_model(found, label, dtype, temporary, progress, frozenset(without))
                if [stamp(path) for path in found.files] != before:
                    raise InvalidModel(f"{found.path} changed while it was read; run it again")
                return _place(temporary, manifest, store)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as exc:
        raise StoreUnusable(
            f"{exc.filename or store}: {exc.strerror or exc}; "
            "give a --model-store that can be written and has room"
        ) from exc


def _known(store: Path, source: Source, label: str) -> PreparedModel | None:
    for model in list_models(store):
        if model.name == source.name and model.manifest.source == label:
            return model
    return None


def _label(source: Source, store: Path, progress: Progress) -> str:
    """Where a source came from and what it holds."""
    root = source.path.parent if source.checkpoint is None else source.path

    def count(done: int, total: int) -> None:
        progress("source", done, total)

    digest = SourceHashes(store).digest(root, source.files, count)
    return f"{source.origin}:{digest}"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _place(folder: Path, manifest: Manifest, store: Path) -> PreparedModel:
    """Give a built folder its name, unless the same model has it already."""
    target = store / f"{manifest.name}-{manifest.model_id[:12]}"
    if target.exists():
        # The same content from another place; the newer label makes the next lookup quick.
        (folder / MANIFEST).replace(target / MANIFEST)
    else:
        folder.chmod(0o755)
        folder.rename(target)
        _note_hashes(target, manifest.files)
    return open_folder(target)


def _note_hashes(folder: Path, files: tuple[FileEntry, ...]) -> None:
    """The files were hashed a moment ago, so that nobody has to do it again at first use."""
    found = {}
    for entry in files:
        with (folder / entry.name).open("rb") as file:
            found[entry.name] = (entry.sha256, fingerprint(file))
    note(folder, found)
