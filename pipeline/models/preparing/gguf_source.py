"""Reading a GGUF file as a stream of full-precision tensors under transformers' names.

GGUF stores block-quantised tensors under llama.cpp's names, some with rows reordered (llama's
rotary halves are interleaved) or biased (gemma's norms). transformers carries the name maps and the
inverse of those changes for the architectures it can read; we drive that one tensor at a time, so
no more than one full-precision tensor is in memory. The result is float32: the stored values (block
scale times small integer, plus offset) are in general not exact in bfloat16.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from transformers import AutoConfig, AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)

from pipeline.models.errors import InvalidModel, SourceUnavailable, UnsupportedModel
from proofs.encoding.jsontext import parse_json


def gguf_config(file: Path) -> Any:
    """The transformers configuration that a GGUF file's metadata describes.

    Raises:
        UnsupportedModel: transformers cannot read this architecture from GGUF.
        SourceUnavailable: the file cannot be read.
    """
    try:
        return AutoConfig.from_pretrained(str(file.parent), gguf_file=file.name)
    except (ValueError, KeyError, NotImplementedError) as exc:
        raise UnsupportedModel(f"{file}: {exc}") from exc
    except OSError as exc:
        raise SourceUnavailable(f"{file}: {exc}") from exc


def save_gguf_tokenizer(file: Path, folder: Path) -> None:
    """Convert the tokenizer inside a GGUF file into `folder`/tokenizer.json and friends.

    The conversion rebuilds the merge table in Python and takes some ten seconds.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    except (ValueError, KeyError, NotImplementedError, OSError) as exc:
        raise UnsupportedModel(f"{file}: its tokenizer cannot be converted: {exc}") from exc
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = parse_json(path.read_bytes())
    for volatile in ("name_or_path", "is_local", "local_files_only"):
        settings.pop(volatile, None)
    path.write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def gguf_tensors(file: Path, causal: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (transformers name, float32 tensor) for every weight of `causal` found in `file`.

    Args:
        causal: the model on the meta device, which decides the names.

    Raises:
        InvalidModel: the file is not well-formed GGUF.
        UnsupportedModel: its tensors need a conversion that only works on the whole file, or there
            is one that transformers does not read.
    """
    try:
        reader = GGUFReader(str(file))
        architecture = str(reader.fields["general.architecture"].contents())
    except (OSError, ValueError, KeyError, IndexError) as exc:
        raise InvalidModel(f"{file} is not a GGUF file: {exc}") from exc
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=causal.config.to_dict())
    names = get_gguf_hf_weights_map(causal, processor)
    for stored in reader.tensors:
        whole: dict[str, Any] = {"tensors": {}}
        result = processor.process(
            weights=dequantize(stored.data, stored.tensor_type),
            name=stored.name,
            tensor_key_mapping=names,
            parsed_parameters=whole,
        )
        if whole["tensors"]:
            raise UnsupportedModel(f"{file}: {architecture} experts cannot be read one at a time")
        name = names.get(result.name)
        if name is None:
            if stored.name == "rope_freqs.weight" and bool(np.all(result.weights == 1.0)):
                continue  # factors of the rotary frequencies that change none
            raise UnsupportedModel(
                f"{file}: nothing here reads its tensor {stored.name}; give the checkpoint that "
                "the file was made from"
            )
        yield name, torch.from_numpy(np.array(result.weights, dtype=np.float32, order="C"))
