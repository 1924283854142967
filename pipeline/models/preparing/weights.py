"""The weights of a checkpoint, every tensor accounted for.

A tensor that the architecture needs and the checkpoint lacks would be filled with random numbers,
one of another shape too, and one that the architecture does not know would be left out: all three
are refused by name. Left out without a word is only what transformers itself declares to be without
meaning for an architecture (rotary tables of older layouts, say).

Names are as a rule those of the architecture in the installed transformers; then tensors are
streamed. Where transformers renames or converts any of them (older layouts, experts stored one by
one), its own loader reads the model, whole, and its report says what was missing.

A matrix that the configuration ties to another (the output head to the embedding) may be stored
twice, or under either name. Where both are there and differ they are two, as for transformers 5,
and the prepared model's configuration says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from pipeline.models.errors import InvalidModel, unreadable
from pipeline.models.preparing.checkpoint import Checkpoint
from pipeline.models.skeleton import Skeleton

_SHOWN = 3
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class Weights:
    """All tensors under the architecture's names, each once. `untied`: names of matrices that the
    configuration ties to others and that are matrices of their own here."""

    untied: frozenset[str]
    tensors: Iterator[tuple[str, torch.Tensor]]


@dataclass(frozen=True)
class _Stored:
    file: Path
    shape: tuple[int, ...]


def checkpoint_weights(checkpoint: Checkpoint, skeleton: Skeleton, dtype: torch.dtype) -> Weights:
    """Account for every tensor of a checkpoint, and then read them.

    Raises:
        InvalidModel: tensors are missing, unknown, doubled or of another shape, or a file is
            damaged or cannot be read.
    """
    stored = _stored(checkpoint.weights)
    causal = skeleton.causal
    shapes = {name: tuple(one.shape) for name, one in causal.state_dict().items()}
    if not _own_names(stored, causal, shapes):
        return _loaded(checkpoint.folder, causal, dtype)
    folder, tied = checkpoint.folder, dict(causal.all_tied_weights_keys)
    other = {
        name: f"{name} is {list(one.shape)}, not {list(shapes[name])}"
        for name, one in stored.items()
        if name in shapes and one.shape != shapes[name]
    }
    source = {name: name for name in shapes if name in stored}
    for target, name in tied.items():
        if name not in source and target in stored:
            source[name] = target
    report = SimpleNamespace(
        missing_keys={name for name in shapes if name not in source and name not in tied},
        unexpected_keys=stored.keys() - shapes.keys(),
    )
    lacks = bool(report.missing_keys)
    causal._adjust_missing_and_unexpected_keys(report)
    _refuse(folder, report.missing_keys, report.unexpected_keys, other.values())
    if lacks:  # of what the architecture computes itself
        return _loaded(folder, causal, dtype)
    untied = {
        target
        for target, name in tied.items()
        if source.get(name) == name and target in stored and not _equal(stored, name, target, dtype)
    }
    wanted = {name: at for name, at in source.items() if name not in tied or name in untied}
    return Weights(frozenset(untied), _stream(stored, wanted))


def stored_dtype(checkpoint: Checkpoint) -> str:
    """The dtype of the first tensor of floating-point numbers, as torch calls it; "" without one.
    Raises `InvalidModel`."""
    with _opened(checkpoint.weights[0]) as shard:
        for name in shard.keys():  # noqa: SIM118 - not a mapping
            kind = shard.get_slice(name).get_dtype()
            if kind.startswith(("F", "BF")):
                return _DTYPES.get(kind, str(kind))
    return ""


def _stored(files: Iterable[Path]) -> dict[str, _Stored]:
    found: dict[str, _Stored] = {}
    for file in files:
        with _opened(file) as shard:
            for name in shard.keys():  # noqa: SIM118 - not a mapping
                if name in found:
                    raise InvalidModel(
                        f"{name} is in {found[name].file} and in {file.name}; "
                        "take out the shard that is not of this checkpoint"
                    )
                found[name] = _Stored(file, tuple(shard.get_slice(name).get_shape()))
    return found


def _own_names(stored: Iterable[str], causal: Any, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether transformers would take every stored tensor as it is, under the name that it has."""
    transforms = get_model_conversion_mapping(causal)
    renamings = [one for one in transforms if isinstance(one, WeightRenaming)]
    converters = [one for one in transforms if isinstance(one, WeightConverter)]
    return all(
        rename_source_key(name, renamings, converters, causal.base_model_prefix, shapes)
        == (name, None)
        for name in stored
    )


def _loaded(folder: Path, causal: Any, dtype: torch.dtype) -> Weights:
    try:
        whole, report = AutoModelForCausalLM.from_pretrained(
            folder,
            config=causal.config.__class__.from_dict(causal.config.to_dict()),
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, ValueError, RuntimeError) as exc:
        raise InvalidModel(f"{folder}: {_line(exc)}") from exc
    other = [
        f"{name} is {list(found)}, not {list(wanted)}"
        for name, found, wanted in report["mismatched_keys"]
    ]
    _refuse(folder, report["missing_keys"], report["unexpected_keys"], other)
    tied = whole.all_tied_weights_keys
    untied = frozenset(causal.all_tied_weights_keys.keys() - tied.keys())
    tensors = ((name, one) for name, one in whole.state_dict().items() if name not in tied)
    return Weights(untied, tensors)


def _refuse(
    folder: Path, missing: Iterable[str], unknown: Iterable[str], other: Iterable[str]
) -> None:
    parts = [
        f"{kind} {_names(names)}"
        for kind, names in (
            ("lacks", sorted(missing)),
            ("has other shapes:", sorted(other)),
            ("holds what its architecture does not know:", sorted(unknown)),
        )
        if names
    ]
    if parts:
        raise InvalidModel(
            f"the checkpoint in {folder} {'; it '.join(parts)}; fetch it again, or correct "
            "config.json"
        )


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _equal(stored: Mapping[str, _Stored], one: str, other: str, dtype: torch.dtype) -> bool:
    pair = [tensor.to(dtype) for _, tensor in _stream(stored, {one: one, other: other})]
    return torch.equal(*pair)


def _stream(
    stored: Mapping[str, _Stored], wanted: Mapping[str, str]
) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) for each wanted name, read from the stored name that it maps to."""
    for file in sorted({stored[at].file for at in wanted.values()}):
        with _opened(file) as shard:
            for name, at in wanted.items():
                if stored[at].file == file:
                    try:
                        yield name, shard.get_tensor(at)
                    except SafetensorError as exc:
                        raise InvalidModel(f"{file}: {at}: {exc}; fetch it again") from exc


def _opened(file: Path) -> Any:
    try:
        file.open("rb").close()  # safetensors calls every file that it cannot open missing
        return safe_open(str(file), framework="pt")
    except OSError as exc:
        raise unreadable(file, exc) from exc
    except SafetensorError as exc:
        raise InvalidModel(f"{file} is no safetensors file: {exc}; fetch it again") from exc


def _line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0][:300] if lines else type(exc).__name__
