"""Decoder layers of the common shape, computed by our own kernels alone.

The shape, whatever the architecture is called: RMS norm, projections to queries, keys and values in
one product, optionally a norm of each head, rotary embedding, attention, output projection; RMS
norm, gate and up projection in one product, SiLU, down projection; each half added to the residual
stream. A layer is recognised by its parts and then has to prove it: on random rows the result must
be the one that transformers' own code gives for it.

A fused layer takes the place of its module's `forward`, so whatever hooks the module or calls it
(slices, replays) goes on as before, and its weight matrices are dropped.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from pipeline.kernels import exact
from pipeline.kernels.exact import Panels

_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")


def _joined(*linears: nn.Linear) -> Panels:
    weight = torch.cat([linear.weight for linear in linears])
    biases = [linear.bias for linear in linears]
    if all(bias is None for bias in biases):
        return Panels(weight)
    zeros = [torch.zeros(linear.out_features) for linear in linears]
    return Panels(
        weight, torch.cat([z if b is None else b for b, z in zip(biases, zeros, strict=True)])
    )


class RmsNorm:
    """An RMS norm module's weight and epsilon; calling it norms rows [N, H]."""

    def __init__(self, module: nn.Module) -> None:
        self.weight = cast(torch.Tensor, module.weight).detach()
        self.eps = float(cast(float, getattr(module, "variance_epsilon", None) or module.eps))

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return exact.rms_norm(rows, self.weight, self.eps)


class FusedLayer:
    """The layer of a decoder module that `recognised` knows."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._index: int = attention.layer_idx
        self._size: int = attention.head_dim
        self._heads = attention.q_proj.out_features // self._size
        self._key_heads = attention.k_proj.out_features // self._size
        self._scale = float(attention.scaling)
        self._before = RmsNorm(layer.input_layernorm)
        self._between = RmsNorm(layer.post_attention_layernorm)
        self._query_norm, self._key_norm = (
            RmsNorm(getattr(attention, name)) if hasattr(attention, name) else None
            for name in ("q_norm", "k_norm")
        )
        self._qkv = _joined(attention.q_proj, attention.k_proj, attention.v_proj)
        self._out = _joined(attention.o_proj)
        self._gate_up = _joined(mlp.gate_proj, mlp.up_proj)
        self._down = _joined(mlp.down_proj)

    def takes(self, position_embeddings: Any = None, **_: Any) -> bool:
        """Whether a layer that is called with these keyword arguments turns whole heads by rotary
        angles; some turn a part of each, or none."""
        return (
            isinstance(position_embeddings, tuple)
            and len(position_embeddings) == 2
            and all(
                isinstance(angles, torch.Tensor) and angles.ndim == 3 and len(angles) == 1
                for angles in position_embeddings
            )
            and all(angles.shape[2] == self._size for angles in position_embeddings)
        )

    def forward(
        self,
        hidden_states: torch.Tensor,
        *_: Any,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        ragged: Any,
        **__: Any,
    ) -> torch.Tensor:
        """[1, N, H] → [1, N, H]; `ragged` is the `Step`, and the rotary angles [1, N, d] are those
        of its positions. Called as transformers calls the layer."""
        rows = hidden_states[0].contiguous()
        cosine, sine = (angles[0].contiguous() for angles in position_embeddings)
        qkv = self._qkv.times(self._before(rows))
        queries, keys, values = torch.split(
            qkv,
            [heads * self._size for heads in (self._heads, self._key_heads, self._key_heads)],
            1,
        )
        attended = ragged.attend_exactly(
            self._index,
            _turned(queries, self._heads, cosine, sine, self._query_norm),
            _turned(keys, self._key_heads, cosine, sine, self._key_norm),
            values.view(len(rows), self._key_heads, self._size),
            self._scale,
        )
        rows = self._out.times(attended.flatten(1), residual=rows)
        gated = exact.silu_mul(self._gate_up.times(self._between(rows)))
        return self._down.times(gated, residual=rows)[None]


def _turned(
    rows: torch.Tensor, heads: int, cosine: torch.Tensor, sine: torch.Tensor, norm: RmsNorm | None
) -> torch.Tensor:
    if norm is None:
        return exact.turn(rows, heads, cosine, sine)
    return exact.turn(rows, heads, cosine, sine, norm.weight, norm.eps)


def recognised(layer: nn.Module) -> bool:
    """Whether a layer has the parts of the shape and no others. What it does with them is not known
    yet: see `agrees`."""
    attention, mlp = getattr(layer, "self_attn", None), getattr(layer, "mlp", None)
    if not isinstance(attention, nn.Module) or not isinstance(mlp, nn.Module):
        return False
    linears = [getattr(attention, name, None) for name in _PROJECTIONS]
    linears += [getattr(mlp, name, None) for name in _MLP]
    norms = [getattr(layer, name, None) for name in ("input_layernorm", "post_attention_layernorm")]
    norms += [getattr(attention, name) for name in ("q_norm", "k_norm") if hasattr(attention, name)]
    size = getattr(attention, "head_dim", 0)
    if not all(type(linear) is nn.Linear for linear in linears) or not all(map(is_norm, norms)):
        return False
    q, k, v, _, gate, up, _ = cast(list[nn.Linear], linears)
    parts = cast(list[nn.Module], [*linears, *norms])
    known = {id(tensor) for part in parts for tensor in part.parameters()}
    return (
        all(id(tensor) in known for tensor in layer.parameters())
        and not list(layer.buffers())
        and isinstance(size, int)
        and 0 < size <= exact.MOST_SIZE
        and size % 2 == 0
        and q.out_features % size == k.out_features % size == 0
        and k.out_features == v.out_features
        and gate.out_features == up.out_features
        and isinstance(getattr(attention, "layer_idx", None), int)
        and isinstance(getattr(attention, "scaling", None), float)
    )


def is_norm(module: Any) -> bool:
    """Whether a module looks like an RMS norm with one weight."""
    if not isinstance(module, nn.Module):
        return False
    eps = getattr(module, "variance_epsilon", None) or getattr(module, "eps", None)
    names = [name for name, _ in module.named_parameters()]
    return names == ["weight"] and isinstance(eps, float) and not list(module.buffers())


def agrees(found: torch.Tensor, expected: Any) -> bool:
    """Whether a result is transformers' own, but for rounding."""
    if not isinstance(expected, torch.Tensor) or expected.shape != found.shape:
        return False
    scale = max(1.0, float(expected.abs().max()))
    return bool(((found - expected).abs() <= 1e-4 * scale).all())


def take_over(layer: Any, fused: FusedLayer) -> None:
    """Put a fused layer in the place of a module's forward and drop the module's matrices."""
    layer.forward = fused.forward
    for part, names in ((layer.self_attn, _PROJECTIONS), (layer.mlp, _MLP)):
        for name in names:
            setattr(part, name, None)
