"""The model store: a folder of prepared models, `<store>/<name>-<first 12 hex of the identity>/`.

`prepare` turns a source into such a folder once. It writes into a temporary folder beside the
target and renames it at the end, so a prepared model is there whole or not at all. A lock file for
each name lets two processes ask for one model at the same time: the second waits and finds the
first one's work. What a killed process left is removed by the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.models.checking import fingerprint, note
from pipeline.models.errors import (
    InvalidModel,
    ModelNotFound,
    SourceUnavailable,
    UnsupportedModel,
)
from pipeline.models.manifest import (
    ITEMSIZES,
    MANIFEST,
    FileEntry,
    Manifest,
    hash_file,
    identity,
)
from pipeline.models.prepared import PreparedModel, Progress, no_progress, open_folder
from pipeline.models.sources import Source, find_source
from proofs.encoding.jsontext import parse_json

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_VOLATILE = ("transformers_version", "_name_or_path", "_model_name_or_path", "torch_dtype")


def list_models(store: Path) -> list[PreparedModel]:
    """All prepared models of a store in name order, without folders that are not well-formed."""
    found = []
    for folder in sorted(store.glob("*-" + "[0-9a-f]" * 12)) if store.is_dir() else ():
        with contextlib.suppress(InvalidModel):
            found.append(open_folder(folder))
    return found


def open_model(store: Path, which: str) -> PreparedModel:
    """Open a prepared model by folder path, name, or identity (12 or more hex digits of it).

    Raises:
        ModelNotFound: none or several go by that name.
        InvalidModel: a folder was named and its content is not well-formed.
    """
    path = Path(os.path.expanduser(which))  # left as it is where there is no home
    if (path / MANIFEST).is_file():
        return open_folder(path)
    models = list_models(store)
    found = [
        model
        for model in models
        if which == model.name
        or which == model.path.name
        or (len(which) >= 12 and model.manifest.model_id.startswith(which))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(model.path.name for model in found)
        raise ModelNotFound(f"{which!r} could be any of {several}; name one of these")
    have = ", ".join(model.path.name for model in models) or "none"
    raise ModelNotFound(
        f"no prepared model {which!r} in {store} (prepared: {have}); "
        f"run: prime-node model get {which}"
    )


def prepare(
    source: str, store: Path, *, dtype: str = "auto", progress: Progress = no_progress
) -> PreparedModel:
    """Prepare a model, or find it already prepared.

    Args:
        source: see `pipeline.models.sources`.
        dtype: float32, bfloat16, float16, or auto: what the checkpoint says, float32 for GGUF.
        progress: called as (step, done, total); steps are "tokenizer", "convert" and "hash".

    Raises:
        ModelNotFound, SourceUnavailable: there is no such source, or not now.
        UnsupportedModel: the architecture or the checkpoint's format cannot be used.
        InvalidModel: the source's files are damaged.
    """
    if dtype != "auto" and dtype not in ITEMSIZES:
        raise UnsupportedModel(f"dtype {dtype!r}: give auto, {', '.join(ITEMSIZES)}")
    found = find_source(source)
    label = f"{found.label}:{dtype}"
    try:
        store.mkdir(parents=True, exist_ok=True)
        with _locked(store / f".{found.name}.lock"):
            for model in list_models(store):
                if model.name == found.name and model.manifest.source == label:
                    return model
            for stale in store.glob(f".{found.name}.tmp-*"):
                shutil.rmtree(stale)
            temporary = Path(tempfile.mkdtemp(prefix=f".{found.name}.tmp-", dir=store))
            try:
                return _build(found, label, dtype, temporary, store, progress)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as exc:
        raise SourceUnavailable(f"{store}: {exc.strerror or exc}") from exc


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(
    source: Source, label: str, dtype: str, folder: Path, store: Path, progress: Progress
) -> PreparedModel:
    # torch and transformers are loaded only when a model is really built.
    from pipeline.models import convert, gguf_source, skeleton, slice

    config = (
        gguf_source.gguf_config(source.path)
        if source.is_gguf
        else skeleton.load_config(source.path)
    )
    if getattr(config, "quantization_config", None) is not None:
        raise UnsupportedModel(
            f"{source.name} is a quantised checkpoint; give its full-precision one"
        )
    if dtype == "auto":
        dtype = "float32" if source.is_gguf else _stored_dtype(config)
    pinned = slice.DTYPES[dtype]
    model = skeleton.build_skeleton(config, pinned)
    kv_bytes = skeleton.kv_bytes_per_token(model, pinned)
    progress("tokenizer", 0, 1)
    _write_texts(source, config, model, dtype, folder)
    progress("tokenizer", 1, 1)
    tensors = (
        gguf_source.gguf_tensors(source.path, model.causal)
        if source.is_gguf
        else convert.checkpoint_tensors(source.path, model, pinned)
    )
    written = convert.write_weights(tensors, model, pinned, folder, progress)
    sizes = convert.part_sizes(model, written.bytes_of)
    files = _entries(folder, progress)
    manifest = Manifest(
        model_id=identity(files),
        name=source.name,
        source=label,
        architecture=type(model.causal).__name__,
        dtype=dtype,
        layers=len(model.layers),
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        max_positions=config.max_position_embeddings,
        layer_bytes=sizes.layer_bytes,
        kv_bytes=kv_bytes,
        embed_bytes=sizes.embed_bytes,
        head_bytes=sizes.head_bytes,
        tied=model.tied,
        files=files,
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
    target = store / f"{source.name}-{manifest.model_id[:12]}"
    if target.exists():
        # The same content from another place; the newer label makes the next lookup quick.
        (folder / MANIFEST).replace(target / MANIFEST)
    else:
        folder.chmod(0o755)
        folder.rename(target)
        _note_hashes(target, files)
    return open_folder(target)


def _note_hashes(folder: Path, files: tuple[FileEntry, ...]) -> None:
    """The files were hashed a moment ago, so that nobody has to do it again at first use."""
    found = {}
    for entry in files:
        with (folder / entry.name).open("rb") as file:
            found[entry.name] = (entry.sha256, fingerprint(file))
    note(folder, found)


def _write_texts(source: Source, config: Any, model: Any, dtype: str, folder: Path) -> None:
    """config.json without what only says who wrote it, generation config, tokenizer files."""
    if source.is_gguf:
        from pipeline.models.gguf_source import save_gguf_tokenizer

        save_gguf_tokenizer(source.path, folder)
        settings = config.to_dict()
    else:
        settings = parse_json((source.path / "config.json").read_bytes())
        if not (source.path / "tokenizer.json").is_file():
            raise UnsupportedModel(f"{source.name} has no tokenizer.json (a fast tokenizer)")
        for name in _TOKENIZER_FILES:
            if (source.path / name).is_file():
                shutil.copyfile(source.path / name, folder / name)
        generation = source.path / "generation_config.json"
        if generation.is_file():
            _write_json(folder / generation.name, parse_json(generation.read_bytes()))
    settings["architectures"] = [type(model.causal).__name__]
    settings["dtype"] = dtype
    _write_json(folder / "config.json", settings)


def _write_json(path: Path, settings: dict[str, Any]) -> None:
    kept = {key: value for key, value in settings.items() if key not in _VOLATILE}
    path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def _stored_dtype(config: Any) -> str:
    name = str(config.dtype).removeprefix("torch.")
    return name if name in ITEMSIZES else "float32"


def _entries(folder: Path, progress: Progress) -> tuple[FileEntry, ...]:
    paths = sorted(folder.iterdir())
    total = sum(path.stat().st_size for path in paths)
    done = 0

    def count(amount: int) -> None:
        nonlocal done
        done += amount
        progress("hash", done, total)

    return tuple(
        FileEntry(name=path.name, size=path.stat().st_size, sha256=hash_file(path, count))
        for path in paths
    )
