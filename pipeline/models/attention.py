"""The seam between transformers' decoders and our batches of sequences of different lengths.

A batch is *packed*: its tokens lie one after another in a single row, `[1, N, H]`, so no matrix
product ever works on padding. Everything in a decoder but attention treats tokens one by one and
need not know. Attention must know which tokens belong together and where their past is, so we
register an attention implementation with transformers (its documented extension point) that hands
queries, keys and values to the `RaggedContext` of the step; the context came in as the keyword
argument `ragged` of the base model's forward, which transformers passes on to every attention.

Masks go the same way. A model states its attention pattern (causal, sliding window, chunks) as a
function of query and key *positions*. Our mask implementation keeps the function instead of
building one big mask; the context evaluates it for each sequence at its true positions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from pipeline.models.errors import UnsupportedModel

IMPLEMENTATION = "prime_ragged"

Kernel = Callable[..., tuple[torch.Tensor, Any]]
MaskFunction = Callable[..., torch.Tensor]


class LazyMask:
    """A model's attention pattern, evaluated for one sequence (or a group) at a time.

    `for_positions` gives True where a query may look at a key, or None where plain causal
    attention says it all, under the same conditions as transformers, so that one whole prompt
    takes the very same kernel as in an unsliced model. `local_size` is the pattern's window or
    chunk, if it has one.
    """

    def __init__(
        self, function: MaskFunction, local_size: int | None, may_skip: bool, additive: bool
    ) -> None:
        self._function = function
        self.local_size = local_size
        self._may_skip = may_skip
        self.additive = additive
        self._memo: dict[int, torch.Tensor | None] = {}

    def for_positions(
        self, segment: int, queries: torch.Tensor, keys: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor | None:
        """Mask [B, 1, Q, K] for query positions [B, Q] and key positions [B or 1, K].

        `segment` names the piece of the batch: the answer is the same in every layer that shares
        this mask, so it is built once a step.
        """
        if segment not in self._memo:
            self._memo[segment] = self._build(queries, keys, dtype)
        return self._memo[segment]

    def _build(
        self, queries: torch.Tensor, keys: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor | None:
        length, context = queries.shape[-1], keys.shape[-1]
        whole_prompt = length == context and length > 1
        inside = self.local_size is None or context < self.local_size
        if whole_prompt and inside and self._may_skip and not self.additive:
            return None
        allowed = self.allowed(queries, keys)
        if not self.additive:
            return allowed
        return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(
            ~allowed, torch.finfo(dtype).min
        )

    def allowed(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """The pattern itself, bool [B, 1, Q, K], for positions as in `for_positions`."""
        zero = torch.zeros(1, 1, 1, 1, dtype=torch.long, device=queries.device)
        allowed = self._function(zero, zero, queries[:, None, :, None], keys[:, None, None, :])
        return allowed.expand(queries.shape[0], 1, queries.shape[-1], keys.shape[-1])


@dataclass(frozen=True)
class AttentionCall:
    """Attention as one layer asks for it, over all tokens of a step.

    Attributes:
        module: the layer's attention module.
        query: [1, heads, N, d], N the tokens of the packed row.
        key, value: [1, heads', N', d'] as the cache returned them, or as the module made them from
            what it returned.
        mask: which positions a query may look at.
        kernel: computes attention within one sequence, as transformers' attention functions do.
        options: further keyword arguments of the kernel (scaling, dropout, ...).
    """

    module: torch.nn.Module
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: LazyMask
    kernel: Kernel
    options: dict[str, Any]

    def within(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        allowed: torch.Tensor | None,
    ) -> torch.Tensor:
        """Run the kernel on one piece: query [B, heads, Q, d], keys and values [B, heads', K, d'],
        `allowed` as `LazyMask.for_positions` gives it. Returns [B, Q, heads, d'']."""
        out: torch.Tensor = self.kernel(self.module, query, key, value, allowed, **self.options)[0]
        return out


class RaggedContext(Protocol):
    """What a step brings along: the incoming hidden states and the attention over its batch."""

    incoming: torch.Tensor | None

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """Attention of every token over its own sequence: [1, N, heads, d'].

        Raises UnsupportedModel for a layer that does not use its cache as it must.
        """
        ...


def _kernel(module: torch.nn.Module, mask: LazyMask) -> Kernel:
    """The kernel that attends within one sequence: SDPA where the architecture allows it (its masks
    are boolean then), else the eager attention of its own modelling file (additive masks)."""
    if not mask.additive:
        sdpa: Kernel = sdpa_attention_forward
        return sdpa
    eager: Kernel | None = getattr(
        sys.modules[type(module).__module__], "eager_attention_forward", None
    )
    if eager is None:
        raise UnsupportedModel(f"{type(module).__name__} has neither SDPA nor eager attention")
    return eager


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: LazyMask | None,
    *,
    ragged: RaggedContext | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    if ragged is None or attention_mask is None:
        raise UnsupportedModel(
            f"{type(module).__name__} does not pass keyword arguments and masks on to its attention"
        )
    kernel = _kernel(module, attention_mask)
    call = AttentionCall(module, query, key, value, attention_mask, kernel, kwargs)
    return ragged.attend(call), None


def _mask(
    *,
    mask_function: MaskFunction,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    use_vmap: bool = False,
    config: Any = None,
    **_: Any,
) -> LazyMask:
    if use_vmap:
        raise UnsupportedModel("the model's attention mask is not a function of positions alone")
    additive = not getattr(config, "prime_sdpa", True)
    return LazyMask(mask_function, local_size, allow_is_causal_skip, additive)


AttentionInterface.register(IMPLEMENTATION, _attention)
AttentionMaskInterface.register(IMPLEMENTATION, _mask)
