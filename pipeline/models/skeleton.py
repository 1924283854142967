"""A model without weights, and which of its parts belong to which stage.

transformers builds the architecture on torch's meta device: modules and shapes, no memory. On that
skeleton we find, by form and not by name, the parts that a pipeline cuts at:

    base model = modules before the decoder layers (embedding)   → first stage
                 one ModuleList of `num_hidden_layers` layers    → cut into ranges
                 one module with weights after them (final norm) → last stage
    the causal-LM wrapper around it (output head)                → last stage

`narrow` then makes the base model run only layers [first, last): the decoder's own forward, with
its masks and rotary embeddings, drives whatever layers it is left with. Models that do not have
this form (encoder-decoders, state-space and hybrid models, weights shared between layers) are
refused with the reason. So are rotary embeddings that depend on the longest sequence of a batch:
one user's tokens would change with another's prompt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.cache_utils import Cache

from pipeline.models.architectures import check_architecture
from pipeline.models.attention import IMPLEMENTATION
from pipeline.models.errors import InvalidModel, UnsupportedModel

ATTENTION_TYPES = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
_BATCH_DEPENDENT_ROPE = frozenset({"dynamic", "longrope"})


@dataclass(frozen=True)
class Skeleton:
    """`causal` is the whole wrapper on the meta device, `base` its decoder, `prefix` the decoder's
    name in it; `before`, `stack`, `norm` are names of children of `base`; `layers` all layers."""

    causal: Any
    base: Any
    prefix: str
    before: tuple[str, ...]
    stack: str
    norm: str
    layers: tuple[nn.Module, ...]
    layer_types: tuple[str, ...] | None

    @property
    def tied(self) -> bool:
        """Whether embedding and head share one matrix."""
        return any(name not in self._base_names() for name in self.causal.all_tied_weights_keys)

    def _base_names(self) -> set[str]:
        return {f"{self.prefix}.{name}" for name, _ in self.base.named_parameters()}

    def narrow(self, first: int, last: int) -> None:
        """Leave only layers [first, last) in the base model, and say so in its configuration."""
        setattr(self.base, self.stack, nn.ModuleList(self.layers[first:last]))
        config = self.base.config
        config.num_hidden_layers = last - first
        if self.layer_types is not None:
            config.layer_types = list(self.layer_types[first:last])


def load_config(folder: Path) -> Any:
    """The transformers configuration in a model folder; remote code is never run.

    Raises:
        InvalidModel: there is no readable config.json.
        UnsupportedModel: transformers does not know the architecture.
    """
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (KeyError, ValueError) as exc:
        raise UnsupportedModel(f"{folder}/config.json: {_line(exc)}") from exc
    except (OSError, TypeError, json.JSONDecodeError) as exc:
        raise InvalidModel(f"{folder}/config.json: {_line(exc)}") from exc


def build_skeleton(config: Any, dtype: torch.dtype) -> Skeleton:
    """Build the causal LM of `config` on the meta device and find its parts.

    Raises:
        UnsupportedModel: with the part that is in the way.
    """
    _check_config(config)
    try:
        with torch.device("meta"):
            causal = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise UnsupportedModel(
            f"{config.model_type} is no causal language model: {_line(exc)}"
        ) from exc
    causal.eval().requires_grad_(False)
    prefix = causal.base_model_prefix
    base = getattr(causal, prefix, None)
    if base is None or not causal._supports_attention_backend:
        raise UnsupportedModel(
            f"{config.model_type} does not use transformers' attention interface"
        )
    base.config.prime_sdpa = bool(causal._supports_sdpa)
    base.config._attn_implementation = IMPLEMENTATION
    before, stack, norm = _parts(base, config)
    layer_types = getattr(base.config, "layer_types", None)
    return Skeleton(
        causal=causal,
        base=base,
        prefix=prefix,
        before=before,
        stack=stack,
        norm=norm,
        layers=tuple(getattr(base, stack)),
        layer_types=None if layer_types is None else tuple(layer_types),
    )


def _check_config(config: Any) -> None:
    kind = config.model_type
    check_architecture(kind, "config.json")
    if config.get_text_config() is not config or getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModel(f"{kind} is not a text-only decoder")
    others = set(getattr(config, "layer_types", None) or ()) - ATTENTION_TYPES
    if others:
        raise UnsupportedModel(f"{kind} has layers without a key-value cache: {sorted(others)}")
    if getattr(config, "num_kv_shared_layers", 0) or getattr(config, "kv_sharing_modes", None):
        raise UnsupportedModel(f"{kind} shares key-value caches between layers")
    rope = getattr(config, "rope_parameters", None) or {}
    tables = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    if any(table.get("rope_type") in _BATCH_DEPENDENT_ROPE for table in tables):
        raise UnsupportedModel(
            f"{kind} scales its rotary embedding by the longest sequence of a batch"
        )


def _parts(base: nn.Module, config: Any) -> tuple[tuple[str, ...], str, str]:
    children = list(base.named_children())
    stacks = [
        name
        for name, child in children
        if isinstance(child, nn.ModuleList) and len(child) == config.num_hidden_layers
    ]
    if len(stacks) != 1:
        raise UnsupportedModel(f"{config.model_type} is not one list of decoder layers")
    at = [name for name, _ in children].index(stacks[0])
    weighty = [(name, any(True for _ in child.parameters())) for name, child in children]
    before = tuple(name for name, has in weighty[:at] if has)
    after = [name for name, has in weighty[at + 1 :] if has]
    loose = [name for name, _ in base.named_parameters(recurse=False)]
    if not before or len(after) != 1 or loose:
        raise UnsupportedModel(
            f"{config.model_type} has weights that belong to no stage: {after + loose}"
        )
    return before, stacks[0], after[0]


class _Seen(Exception):
    """Leaves the forward once the cache was reached; never escapes `kv_bytes_per_token`."""


class _ShapeProbe(Cache):
    """A cache that only notes how much a layer would store for its one token."""

    incoming: torch.Tensor | None = None
    stored = 0

    def __init__(self) -> None:
        super().__init__(layers=[])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> Any:
        self.stored = key_states.nbytes + value_states.nbytes
        raise _Seen


def kv_bytes_per_token(skeleton: Skeleton, dtype: torch.dtype) -> tuple[int, ...]:
    """Bytes that each layer caches for a token, seen by running the layers on the meta device.

    Raises:
        UnsupportedModel: a layer keeps no key-value cache, or cannot run without data.
    """
    sizes = []
    hidden = skeleton.base.config.hidden_size
    for index in range(len(skeleton.layers)):
        probe = _ShapeProbe()
        skeleton.narrow(index, index + 1)
        try:
            skeleton.base(
                inputs_embeds=torch.empty(1, 1, hidden, dtype=dtype, device="meta"),
                position_ids=torch.zeros(1, 1, dtype=torch.long, device="meta"),
                past_key_values=probe,
                use_cache=True,
                ragged=probe,
            )
        except _Seen:
            sizes.append(probe.stored)
        except (RuntimeError, NotImplementedError, TypeError, AttributeError) as exc:
            raise UnsupportedModel(f"layer {index} does not run on its own: {_line(exc)}") from exc
        else:
            raise UnsupportedModel(f"layer {index} keeps no key-value cache")
    skeleton.narrow(0, len(skeleton.layers))
    return tuple(sizes)


def _line(exc: BaseException) -> str:
    """The first line of a library's message: what fits in a one-line error."""
    text = str(exc.args[0]) if exc.args else type(exc).__name__
    return text.strip().splitlines()[0][:300] if text.strip() else type(exc).__name__
