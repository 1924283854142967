"""What each layer caches and how it attends, learnt by running one token through the slice.

The pool's tensors take whatever shapes the layers hand to their cache, so no architecture is named
anywhere. The same token shows that every layer updates its cache once and attends through us, which
kind of layer it is (see `pipeline.runner.step`), and whether our own kernels can attend for it:
plain scaled dot-product attention over all positions, or a window of them, up to the query's own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from transformers.cache_utils import Cache

from pipeline.kernels import exact
from pipeline.models.attention import AttentionCall, LazyMask
from pipeline.models.errors import UnsupportedModel
from pipeline.models.slice import ModelSlice
from pipeline.runner.stores import LayerKind, LayerPlan

# What transformers' layers tell their attention that changes nothing, or that a mask says already.
_HARMLESS = {"scaling", "sliding_window", "position_ids", "use_cache"}


class _Probe(Cache):
    """A cache that keeps nothing and notes the shapes and kinds of the layers that use it."""

    incoming: torch.Tensor | None = None

    def __init__(self, positions: int) -> None:
        super().__init__(layers=[])
        self.plans: dict[int, LayerPlan] = {}
        self.attended: set[int] = set()
        self._positions = positions
        self._windows: dict[int, int | None] = {}
        self._returned: tuple[torch.Tensor, torch.Tensor] | None = None
        self._last = -1

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if layer_idx in self.plans or key_states.ndim != 4 or value_states.ndim != 4:
            raise UnsupportedModel(f"layer {layer_idx} caches something else than keys and values")
        self.plans[layer_idx] = LayerPlan(
            LayerKind.EXPANDED,
            key_states.shape[1],
            key_states.shape[3],
            value_states.shape[1],
            value_states.shape[3],
            key_states.dtype,
            key_states.device,
        )
        self._last = layer_idx
        self._returned = (key_states, value_states)
        return self._returned

    def attend(self, call: AttentionCall) -> torch.Tensor:
        if self._returned is None:
            raise UnsupportedModel(f"{type(call.module).__name__} attends without a cache")
        keys, values = self._returned
        plan = self.plans[self._last]
        if call.key is keys and call.value is values:
            plan = replace(plan, kind=LayerKind.DIRECT)
            plan = replace(plan, window=self._window(call) if _plain(plan, call) else None)
        self.plans[self._last] = plan
        self.attended.add(self._last)
        at = torch.zeros(1, 1, dtype=torch.long, device=call.query.device)
        allowed = call.mask.for_positions(0, at, at, call.query.dtype)
        return call.within(call.query, call.key, call.value, allowed)

    def _window(self, call: AttentionCall) -> int | None:
        key = id(call.mask)  # layers of one kind share a mask
        if key not in self._windows:
            self._windows[key] = window_of(call.mask, self._positions)
        return self._windows[key]


def _plain(plan: LayerPlan, call: AttentionCall) -> bool:
    """Whether it is scaled dot-product attention of shapes that our kernels take."""
    options = {name for name, value in call.options.items() if value is not None} - _HARMLESS
    dropout = call.options.get("dropout") or 0.0
    return (
        plan.dtype == torch.float32
        and plan.device.type == "cpu"
        and not call.mask.additive
        and not options - {"dropout"}
        and dropout == 0.0
        and plan.key_heads == plan.value_heads
        and call.query.shape[1] % plan.key_heads == 0
        and plan.key_size <= exact.MOST_SIZE
    )


def window_of(mask: LazyMask, positions: int) -> int | None:
    """How many positions a query may look at, its own included and 0 for all up to its own, or
    None where the pattern is another. Tried at the ends and the edges of a window, against all of
    `positions` keys."""
    window = mask.local_size or 0
    edges = {0, 1, 2, window - 1, window, window + 1, 2 * window, 3 * window + 1}
    edges |= {positions // 3, positions // 2, positions - 2, positions - 1}
    queries = torch.tensor([sorted(at for at in edges if 0 <= at < positions)])
    keys = torch.arange(positions)[None]
    allowed = mask.allowed(queries, keys)[0, 0]
    expected = keys <= queries.T
    if window:
        expected = expected & (keys > queries.T - window)
    return window if torch.equal(allowed, expected) else None


@torch.inference_mode()
def probe_layers(slice_: ModelSlice) -> list[LayerPlan]:
    """The plan of each layer of the slice.

    Raises:
        UnsupportedModel: a layer has no key-value cache, or attends without it.
    """
    probe = _Probe(min(slice_.max_positions, 8192))
    if slice_.is_first:
        inputs = torch.zeros(1, dtype=torch.long, device=slice_.device)
    else:
        inputs = torch.zeros(1, slice_.hidden_size, dtype=slice_.dtype, device=slice_.device)
    slice_.forward(inputs, torch.zeros(1, dtype=torch.long, device=slice_.device), probe)
    wanted = set(range(slice_.first, slice_.last))
    if probe.plans.keys() != wanted or probe.attended != wanted:
        raise UnsupportedModel("not every layer keeps and uses a key-value cache")
    return [probe.plans[index] for index in sorted(wanted)]
