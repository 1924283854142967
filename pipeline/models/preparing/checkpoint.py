"""Which files of a Hugging Face folder are the checkpoint: what transformers would open, no more.

The weights are in `model.safetensors`, or else in the shards that `model.safetensors.index.json`
names. Whatever else lies in the folder (the same weights in another format, an adapter, a leftover
of an earlier save) is neither mixed in nor silently taken instead. Pickled weights are refused:
reading them can run anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.models.architectures import check_architecture
from pipeline.models.errors import InvalidModel, UnsupportedModel, unreadable
from proofs.encoding.jsontext import parse_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_INDEX = 64 * 2**20
MAX_TEXT = 64 * 2**20
_TEXTS = (".json", ".jinja", ".txt", ".model")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


@dataclass(frozen=True)
class Checkpoint:
    """A folder, the files with its weights, and those that transformers may read beside them."""

    folder: Path
    weights: tuple[Path, ...]
    texts: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (*self.texts, *self.weights)


def find_checkpoint(folder: Path) -> Checkpoint:
    """The files of the checkpoint in a folder.

    Raises:
        InvalidModel: there is none, or a file is missing or cannot be read.
        UnsupportedModel: it is of a kind that is not read.
    """
    try:
        found = sorted(path for path in folder.iterdir() if path.is_file())
        templates = folder / "additional_chat_templates"
        extra = sorted(templates.glob("*.jinja")) if templates.is_dir() else []
    except OSError as exc:
        raise unreadable(folder, exc) from exc
    names = {path.name for path in found}
    if "adapter_config.json" in names:
        raise UnsupportedModel(
            f"{folder}/adapter_config.json: this is an adapter; merge it into its base model "
            "(merge_and_unload, then save_pretrained) and give that folder"
        )
    if "config.json" not in names:
        raise InvalidModel(f"{folder} has no config.json: not a Hugging Face model folder")
    settings = read_json(folder / "config.json")
    check_architecture(settings.get("model_type"), f"{folder}/config.json")
    if named := settings.get("transformers_weights"):
        raise UnsupportedModel(
            f"{folder}/config.json: transformers_weights names {named!r}; "
            f"rename the weights to {WEIGHTS} and take the field out"
        )
    texts = [path for path in found if path.suffix in _TEXTS]
    return Checkpoint(folder, _weights(folder, found), (*texts, *extra))


def read_json(path: Path, most: int = MAX_TEXT) -> dict[str, Any]:
    """A JSON object from a file of at most `most` bytes. Raises `InvalidModel`."""
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except OSError as exc:
        raise unreadable(path, exc) from exc
    if len(raw) > most:
        raise InvalidModel(f"{path} is larger than {most} bytes")
    try:
        found = parse_json(raw)
    except ValueError as exc:
        raise InvalidModel(f"{path} cannot be read as JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise InvalidModel(f"{path} is not a JSON object")
    return found


def _weights(folder: Path, found: list[Path]) -> tuple[Path, ...]:
    names = {path.name for path in found}
    if WEIGHTS in names:
        return (folder / WEIGHTS,)
    if INDEX in names:
        return _shards(folder, names)
    if pickled := sorted(name for name in names if name.endswith(_PICKLED)):
        raise UnsupportedModel(
            f"{folder}/{pickled[0]}: only safetensors are read, since pickled weights can run "
            "anything; load the model with transformers and save_pretrained it"
        )
    if gguf := sorted(name for name in names if name.endswith(".gguf")):
        raise InvalidModel(f"{folder} has no {WEIGHTS}; give the file: {folder / gguf[0]}")
    raise InvalidModel(
        f"{folder} has neither {WEIGHTS} nor {INDEX}; other names and formats are not read"
    )


def _shards(folder: Path, names: set[str]) -> tuple[Path, ...]:
    index = folder / INDEX
    tensors = read_json(index, MAX_INDEX).get("weight_map")
    if not isinstance(tensors, dict) or not tensors:
        raise InvalidModel(f"{index}: weight_map is not a map of tensors; fetch the file again")
    shards = sorted({str(shard) for shard in tensors.values()})
    if missing := [shard for shard in shards if shard not in names]:
        raise InvalidModel(
            f"{folder} lacks {len(missing)} of {len(shards)} shards that {INDEX} names, "
            f"the first is {missing[0]}; fetch it"
        )
    return tuple(folder / shard for shard in shards)
