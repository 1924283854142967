"""Writing a prepared model: one pinned dtype, sharded safetensors, and the sizes of its parts.

Tensors arrive as a stream and leave as shards of about `SHARD` bytes, so converting needs memory
for one shard (or one larger tensor). Names on disk are the module names of the architecture in the
installed transformers, so that a slice can ask for its tensors by name. Every tensor that the
architecture needs comes once, and nothing else comes.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from pipeline.models.errors import InvalidModel
from pipeline.models.prepared import INDEX, Progress
from pipeline.models.skeleton import Skeleton

SHARD = 64 * 2**20


@dataclass
class Written:
    """What the writer put on disk: shard of each tensor and its bytes."""

    shard_of: dict[str, str] = field(default_factory=dict)
    bytes_of: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PartSizes:
    """Bytes of a model's parts, as the layer table wants them."""

    layer_bytes: tuple[int, ...]
    embed_bytes: int
    head_bytes: int


def expected_tensors(skeleton: Skeleton) -> dict[str, torch.Tensor]:
    """Name → meta tensor of all weights that a model needs; tied ones under one name only."""
    tied = skeleton.causal.all_tied_weights_keys
    state: Mapping[str, torch.Tensor] = skeleton.causal.state_dict()
    return {name: tensor for name, tensor in state.items() if name not in tied}


def pinned(name: str, tensor: torch.Tensor, dtype: torch.dtype, causal: Any) -> torch.Tensor:
    """Cast to the pinned dtype, but for tensors that the architecture keeps in float32."""
    if not tensor.is_floating_point():
        return tensor
    keep = set(causal._keep_in_fp32_modules_strict or ()) if dtype != torch.float32 else set()
    if dtype == torch.float16:
        keep |= set(causal._keep_in_fp32_modules or ())
    parts = name.split(".")
    wanted = torch.float32 if any(part in keep for part in parts) else dtype
    return tensor.to(wanted)


def write_weights(
    tensors: Iterable[tuple[str, torch.Tensor]],
    skeleton: Skeleton,
    dtype: torch.dtype,
    folder: Path,
    progress: Progress,
) -> Written:
    """Write the stream's tensors as shards and an index into `folder`.

    Raises:
        OSError: the disk is full, or fails.
        InvalidModel: a tensor is missing, unknown, or of another shape than the architecture wants.
    """
    expected, tied = expected_tensors(skeleton), skeleton.causal.all_tied_weights_keys
    total = sum(tensor.numel() for tensor in expected.values()) * dtype.itemsize
    written, held, done = Written(), 0, 0
    shard: dict[str, torch.Tensor] = {}
    for name, tensor in tensors:
        wanted = expected.get(name)
        if name in tied:
            continue  # written once, under the name that it is tied to
        if wanted is None or name in written.bytes_of:
            raise InvalidModel(f"the source holds {name}, which its architecture does not know")
        if tensor.shape != wanted.shape:
            raise InvalidModel(f"{name} is {list(tensor.shape)}, not {list(wanted.shape)}")
        kept = pinned(name, tensor, dtype, skeleton.causal).contiguous()
        if held and held + kept.nbytes > SHARD:
            _flush(shard, folder, written)
            shard, held = {}, 0
        shard[name] = kept
        held += kept.nbytes
        done += kept.nbytes
        written.bytes_of[name] = kept.nbytes
        progress("convert", min(done, total), total)
    if shard:
        _flush(shard, folder, written)
    if missing := sorted(expected.keys() - written.bytes_of.keys()):
        raise InvalidModel(f"the source lacks {len(missing)} tensors, the first is {missing[0]}")
    index = {
        "metadata": {"total_size": sum(written.bytes_of.values())},
        "weight_map": dict(sorted(written.shard_of.items())),
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return written


def _flush(shard: dict[str, torch.Tensor], folder: Path, written: Written) -> None:
    number = len(set(written.shard_of.values())) + 1
    file = f"model-{number:05d}.safetensors"
    try:
        save_file(shard, folder / file, metadata={"format": "pt"})
    except SafetensorError as exc:  # its word for whatever the disk says
        raise OSError(errno.EIO, str(exc), str(folder / file)) from exc
    written.shard_of.update(dict.fromkeys(shard, file))


def part_sizes(skeleton: Skeleton, bytes_of: Mapping[str, int]) -> PartSizes:
    """Sum tensors' bytes by the part of the model that they belong to."""
    stack = f"{skeleton.prefix}.{skeleton.stack}."
    before = tuple(f"{skeleton.prefix}.{name}." for name in skeleton.before)
    layers = [0] * len(skeleton.layers)
    embed = head = 0
    for name, size in bytes_of.items():
        if name.startswith(stack):
            layers[int(name[len(stack) :].split(".", 1)[0])] += size
        elif name.startswith(before):
            embed += size
        else:
            head += size
    for target, source in skeleton.causal.all_tied_weights_keys.items():
        if not target.startswith((stack, *before)) and source.startswith(before):
            head += bytes_of[source]
    return PartSizes(tuple(layers), embed, head)
