"""Choosing a slice's arithmetic, once, when a runner takes it over.

Where our own kernels are built and the slice is float32 on the CPU, its layers are fused
(`pipeline.runner.fused`), and what is not a layer of that shape keeps transformers' code with our
products and, where it can be, our attention in it. Everywhere else torch computes, on CPUs through
oneDNN.

The outcome has a name, the kernel class (`pipeline.runner.kernel_class`). It is exact where every
product and all attention are ours; what torch still does then works on one row at a time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import torch
from torch import nn

from pipeline.kernels.exact import Panels
from pipeline.kernels.reference import usable
from pipeline.models.slice import ModelSlice
from pipeline.runner.fused import FusedLayer, RmsNorm, agrees, is_norm, recognised, take_over
from pipeline.runner.kernel_class import EXACT, library_class
from pipeline.runner.packing import can_pack, pack_linears
from pipeline.runner.probe import probe_layers
from pipeline.runner.step import packed_prefill
from pipeline.runner.stores import LayerPlan

_LENGTHS = (7, 1, 4)
"""Sequences of the random rows on which a fused layer proves itself."""


class Kernels(Enum):
    """Whose kernels to use: our own where they apply (else oneDNN's), oneDNN's where they apply, or
    those that transformers picks, on weights as they are."""

    BEST = "best"
    ONEDNN = "onednn"
    TRANSFORMERS = "transformers"


@dataclass(frozen=True)
class Arithmetic:
    """What a slice computes with.

    Attributes:
        kernel_class: its name.
        plans: what each layer caches and how it attends.
        added_bytes: memory that laid out weights take beyond the plain ones (a tied output head's,
            whose plain matrix stays in use as the embedding).
    """

    kernel_class: str
    plans: tuple[LayerPlan, ...]
    added_bytes: int


class ExactLinear(nn.Module):
    """`nn.Linear` by our own product: [..., K] → [..., M]."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._panels = Panels(linear.weight, linear.bias)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """y = x Wᵀ + b; x [..., in_features]."""
        flat = rows.reshape(-1, rows.shape[-1])
        return self._panels.times(flat).view(*rows.shape[:-1], self._panels.outer)


@torch.inference_mode()
def prepare(slice_: ModelSlice, kernels: Kernels = Kernels.BEST) -> Arithmetic:
    """Lay the slice's weights out in place for the kernels that were asked for.

    Raises:
        UnsupportedModel: a layer does not use its cache in a way known here.
    """
    plans = probe_layers(slice_)
    fits = slice_.device.type == "cpu" and slice_.dtype == torch.float32
    if kernels is Kernels.BEST and fits and usable():
        return _prepare_exact(slice_, plans)
    added = 0
    library = "torch"
    if kernels is not Kernels.TRANSFORMERS and can_pack(slice_):
        added, library = pack_linears(slice_), "onednn"
    name = library_class(slice_.device, slice_.dtype, library)
    return Arithmetic(name, tuple(_by_library(plans)), added)


def _by_library(plans: list[LayerPlan]) -> list[LayerPlan]:
    return [replace(plan, window=None) for plan in plans]


def _prepare_exact(slice_: ModelSlice, plans: list[LayerPlan]) -> Arithmetic:
    fused = _fuse(slice_, plans)
    normed = not slice_.is_last or _take_norm(slice_)
    added = slice_.replace_linears(ExactLinear)
    rest = library_class(slice_.device, slice_.dtype, "torch")
    if any(plan.window is None for plan in plans) or any(
        parameter.ndim > 1 for parameter in slice_.stack.parameters()
    ):
        name = f"{rest}-fma"  # some products or some attention are not ours
    elif fused and normed:
        name = f"{EXACT}-{_angles(slice_)}"
    else:
        name = f"{EXACT}-{rest}"
    return Arithmetic(name, tuple(plans), added)


def _fuse(slice_: ModelSlice, plans: list[LayerPlan]) -> bool:
    """Fuse every layer that can be; whether all were."""
    layers = list(slice_.stack)
    chosen = [
        plan.window is not None and recognised(layer)
        for plan, layer in zip(plans, layers, strict=True)
    ]
    if not any(chosen):
        return False
    seen = _transformers_own(slice_, plans)
    context = packed_prefill(_LENGTHS, plans, slice_.first, slice_.device)
    for index, layer in enumerate(layers):
        if not chosen[index]:
            continue
        fused = FusedLayer(layer)
        args, kwargs, expected = seen.pop(index)
        chosen[index] = fused.takes(**kwargs) and agrees(
            fused.forward(*args, **{**kwargs, "ragged": context}), expected
        )
        if chosen[index]:
            take_over(layer, fused)
    return all(chosen)


def _transformers_own(
    slice_: ModelSlice, plans: list[LayerPlan]
) -> dict[int, tuple[Any, dict[str, Any], Any]]:
    """What each layer is given and makes of it, by transformers' code, for random inputs."""
    seen: dict[int, tuple[Any, dict[str, Any], Any]] = {}

    def watch(index: int) -> Any:
        def hook(_module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            seen[index] = (args, kwargs, output)

        return hook

    generator = torch.Generator().manual_seed(1)
    count = sum(_LENGTHS)
    if slice_.is_first:
        inputs = torch.randint(0, slice_.vocab_size, (count,), generator=generator)
    else:
        inputs = torch.randn(count, slice_.hidden_size, generator=generator)
    hooks = [
        layer.register_forward_hook(watch(index), with_kwargs=True)
        for index, layer in enumerate(slice_.stack)
    ]
    context = packed_prefill(_LENGTHS, _by_library(plans), slice_.first, slice_.device)
    try:
        slice_.forward(inputs, context.positions, context)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _take_norm(slice_: ModelSlice) -> bool:
    """Put our own norm in the place of the final one, if it is one that we know."""
    module: Any = slice_.norm
    if not is_norm(module):
        return False
    norm = RmsNorm(module)
    rows = torch.randn(5, slice_.hidden_size, generator=torch.Generator().manual_seed(1))
    if not agrees(norm(rows), module(rows)):
        return False

    def forward(hidden_states: torch.Tensor) -> torch.Tensor:
        return norm(hidden_states[0].contiguous())[None]

    module.forward = forward
    return True


def _angles(slice_: ModelSlice) -> str:
    """A digest of the rotary angles, which torch computes: equal where machines agree on them."""
    rotary: Any = slice_.rotary
    positions = torch.arange(min(slice_.max_positions, 8192), device=slice_.device)[None]
    digest = hashlib.sha256()
    for angles in rotary(torch.zeros(1), positions):
        digest.update(angles.contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]
