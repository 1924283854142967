"""One source → one folder with everything a prepared model has, its manifest included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pipeline.models.errors import InvalidModel, UnsupportedModel
from pipeline.models.manifest import ITEMSIZES, MANIFEST, FileEntry, Manifest, hash_file, identity
from pipeline.models.prepared import Progress
from pipeline.models.preparing.checkpoint import Checkpoint, read_json
from pipeline.models.preparing.convert import part_sizes, write_weights
from pipeline.models.preparing.gguf_source import gguf_config, gguf_tensors, save_gguf_tokenizer
from pipeline.models.preparing.sources import Source
from pipeline.models.preparing.texts import write_generation, write_json, write_tokenizer
from pipeline.models.preparing.weights import Weights, checkpoint_weights, stored_dtype
from pipeline.models.skeleton import Skeleton, build_skeleton, kv_bytes_per_token, load_config
from pipeline.models.slice import DTYPES


def build_model(
    source: Source,
    label: str,
    dtype: str,
    folder: Path,
    progress: Progress,
    without: frozenset[str] = frozenset(),
) -> Manifest:
    """Write the prepared model of `source` into the empty `folder`.

    Args:
        label: what the manifest says of where it came from.
        dtype, without: as of `pipeline.models.store.prepare`.

    Raises:
        UnsupportedModel, InvalidModel, SourceUnavailable: as there.
    """
    checkpoint = source.checkpoint
    config = gguf_config(source.path) if checkpoint is None else load_config(source.path)
    if getattr(config, "quantization_config", None) is not None:
        raise UnsupportedModel(
            f"{source.path}/config.json: quantization_config: a quantised checkpoint is not read; "
            "give its full-precision one"
        )
    name = _dtype(config, checkpoint) if dtype == "auto" else dtype
    pinned = DTYPES[name]
    model = build_skeleton(config, pinned)
    changes: dict[str, Any] = {"architectures": [type(model.causal).__name__], "dtype": name}
    if checkpoint is None:
        weights = Weights(frozenset(), gguf_tensors(source.path, model.causal))
        settings = config.to_dict()
    else:
        weights = checkpoint_weights(checkpoint, model, pinned)
        settings = read_json(source.path / "config.json")
    if weights.untied:
        model = _untied(config, model, weights.untied, pinned, source.path)
        changes["tie_word_embeddings"] = False
    kv_bytes = kv_bytes_per_token(model, pinned)
    progress("tokenizer", 0, 1)
    said = {key: value for key, value in settings.items() if key not in without}
    write_json(folder / "config.json", said | changes)
    if checkpoint is None:
        save_gguf_tokenizer(source.path, folder)
    else:
        write_generation(source.path, folder, settings, without)
        write_tokenizer(source.path, folder)
    progress("tokenizer", 1, 1)
    written = write_weights(weights.tensors, model, pinned, folder, progress)
    sizes = part_sizes(model, written.bytes_of)
    for path in folder.iterdir():
        path.chmod(0o644)  # whoever runs the engine may be another user than whoever prepared it
    files = _entries(folder, progress)
    manifest = Manifest(
        model_id=identity(files),
        name=source.name,
        source=label,
        architecture=type(model.causal).__name__,
        dtype=name,
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
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / MANIFEST).chmod(0o644)
    return manifest


def _untied(
    config: Any, model: Skeleton, names: frozenset[str], dtype: torch.dtype, source: Path
) -> Skeleton:
    """The same model with matrices of its own where `names` were tied to others."""
    config.tie_word_embeddings = False
    separate = build_skeleton(config, dtype)
    gone = model.causal.all_tied_weights_keys.keys() - separate.causal.all_tied_weights_keys.keys()
    if gone != names:
        raise InvalidModel(
            f"the checkpoint in {source}: {', '.join(sorted(names))} differ from what config.json "
            "ties them to; set tie_word_embeddings there as the weights are"
        )
    return separate


def _dtype(config: Any, checkpoint: Checkpoint | None) -> str:
    """What transformers loads the checkpoint in: what its configuration says, else what its weights
    are stored in. GGUF is dequantised, so float32."""
    if checkpoint is None:
        return "float32"
    name = str(config.dtype).removeprefix("torch.") if config.dtype else stored_dtype(checkpoint)
    if name not in ITEMSIZES:
        raise UnsupportedModel(
            f"{checkpoint.folder}/config.json: dtype is {name or 'not said'}; "
            f"say --dtype {', '.join(ITEMSIZES)}"
        )
    return name


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
