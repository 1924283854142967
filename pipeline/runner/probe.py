"""How much each layer caches, learnt by running one token through the slice.

The pool's tensors take whatever shapes the layers hand to their cache, so no architecture is named
anywhere. The same token shows that every layer updates its cache once and attends through us, and
which kind of layer it is (see `pipeline.runner.step`).
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache

from pipeline.models.attention import AttentionCall
from pipeline.models.errors import UnsupportedModel
from pipeline.models.slice import ModelSlice
from pipeline.runner.step import LayerKind, LayerStore


class _Probe(Cache):
    """A cache that keeps nothing and notes the shapes and kinds of the layers that use it."""

    incoming: torch.Tensor | None = None

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.kinds: dict[int, LayerKind] = {}
        self._last = -1

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if layer_idx in self.seen or key_states.ndim != 4 or value_states.ndim != 4:
            raise UnsupportedModel(f"layer {layer_idx} caches something else than keys and values")
        self.seen[layer_idx] = (key_states, value_states)
        self._last = layer_idx
        return key_states, value_states

    def attend(self, call: AttentionCall) -> torch.Tensor:
        keys, values = self.seen[self._last]
        same = call.key is keys and call.value is values
        self.kinds[self._last] = LayerKind.DIRECT if same else LayerKind.EXPANDED
        at = torch.zeros(1, 1, dtype=torch.long, device=call.query.device)
        allowed = call.mask.for_positions(0, at, at, call.query.dtype)
        return call.within(call.query, call.key, call.value, allowed)


@torch.inference_mode()
def make_stores(slice_: ModelSlice, kv_tokens: int) -> list[LayerStore]:
    """Zeroed KV storage of `kv_tokens` positions for each layer of the slice.

    Raises:
        UnsupportedModel: a layer has no key-value cache, or attends without it.
    """
    probe = _Probe()
    if slice_.is_first:
        inputs = torch.zeros(1, dtype=torch.long, device=slice_.device)
    else:
        inputs = torch.zeros(1, slice_.hidden_size, dtype=slice_.dtype, device=slice_.device)
    slice_.forward(inputs, torch.zeros(1, dtype=torch.long, device=slice_.device), probe)
    wanted = set(range(slice_.first, slice_.last))
    if probe.seen.keys() != wanted or probe.kinds.keys() != wanted:
        raise UnsupportedModel("not every layer keeps and uses a key-value cache")
    stores = []
    for index in sorted(wanted):
        keys, values = (
            torch.zeros(
                kv_tokens, seen.shape[1], seen.shape[3], dtype=seen.dtype, device=seen.device
            )
            for seen in probe.seen[index]
        )
        stores.append(LayerStore(keys, values, probe.kinds[index]))
    return stores
