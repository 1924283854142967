"""Replaying finished sequences over the whole model: what a validator computes.

One prefill of prompt + output gives, at every stage boundary, the hidden states that an honest
stage must have sent, and from the last the logits from which every output token was drawn. Several
sequences are packed into one pass (they do not see one another); no cache is kept. The layers run
from the same code as in a stage, so what differs is only the batch.

In a dispute one stage's layers run alone, over the rows that the stage received.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from pipeline.models.prepared import PreparedModel, open_folder
from pipeline.models.slice import load_slice
from pipeline.runner.arithmetic import Kernels, prepare
from pipeline.runner.errors import RunnerError
from pipeline.runner.step import Step, packed_prefill

MAX_PACKED = 2048
LOGIT_ROWS = 256


@dataclass(frozen=True)
class SequenceReplay:
    """One sequence's replay; T is its number of output tokens.

    Attributes:
        stages: for each stage [T, H] hidden states at positions P-1 .. P+T-2, in the model's
            dtype: what the stage sent for each output token (the last: after the final norm).
        full: where it was asked for, stage number to [P+T-1, H]: what the stage sent for all
            positions 0 .. P+T-2.
    """

    stages: tuple[torch.Tensor, ...]
    _head: Callable[[torch.Tensor], torch.Tensor]
    full: Mapping[int, torch.Tensor] = field(default_factory=dict)

    @torch.inference_mode()
    def logits(self, block_rows: int = LOGIT_ROWS) -> Iterator[torch.Tensor]:
        """float32 logits in blocks of at most `block_rows` rows, [T, V] in all: row t is the
        distribution that output token t was drawn from. A full block of rows at a time, because
        T x V floats of a long sequence can be gigabytes."""
        for block in torch.split(self.stages[-1], block_rows):
            yield self._head(block)


class WholeModelReplay:
    """The whole model of a folder, loaded once. At most `max_packed` tokens go into one pass.
    Weights are laid
    out for `kernels` (see `pipeline.runner.arithmetic`), and `kernel_class` names the outcome.

    Raises:
        InvalidModel, UnsupportedModel: see `load_slice`.
    """

    def __init__(
        self,
        model: PreparedModel | Path,
        device: str = "cpu",
        kernels: Kernels = Kernels.BEST,
        max_packed: int = MAX_PACKED,
    ) -> None:
        self._max_packed = max_packed
        prepared = model if isinstance(model, PreparedModel) else open_folder(model)
        self._slice = load_slice(prepared, 0, prepared.manifest.layers, device)
        self.weights_bytes = self._slice.weights_bytes
        arithmetic = prepare(self._slice, kernels)
        self.weights_bytes += arithmetic.added_bytes
        self.kernel_class = arithmetic.kernel_class
        self._plans = arithmetic.plans

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return self._slice.layers

    @torch.inference_mode()
    def prefill(
        self,
        sequences: Sequence[tuple[Sequence[int], Sequence[int]]],
        boundaries: Sequence[int],
        full: Mapping[int, Collection[int]] | None = None,
    ) -> list[SequenceReplay]:
        """Replay (prompt ids, output ids) pairs.

        Args:
            boundaries: the layer after which each stage ends, ascending, the last one the model's
                number of layers.
            full: by a sequence's index, the stages (but the last, which sends no rows) whose rows
                are wanted at all positions.

        Raises:
            RunnerError: boundaries or sequences that the model cannot have produced, or rows of
                stages that there are not.
        """
        self._check(sequences, boundaries)
        full = full or {}
        if any(not 0 <= s < len(boundaries) - 1 for stages in full.values() for s in stages):
            raise RunnerError(f"only the first {len(boundaries) - 1} stages send rows")
        results: dict[int, SequenceReplay] = {}
        for batch in _batches(
            [len(prompt) + len(output) - 1 for prompt, output in sequences], self._max_packed
        ):
            wanted = [full.get(index, ()) for index in batch]
            replayed = self._pass([sequences[index] for index in batch], boundaries, wanted)
            results |= zip(batch, replayed, strict=True)
        return [results[index] for index in range(len(sequences))]

    @torch.inference_mode()
    def resume(self, rows: torch.Tensor, first: int, last: int, outputs: int) -> SequenceReplay:
        """Run layers [first, last) over what entered them: rows [N, H] at positions 0 .. N-1 of one
        sequence, on any device.

        Returns:
            A replay of one stage: `stages[0]` are its rows at the last `outputs` positions and
            `full[0]` those at all. After the final norm where `last` is the model's number of
            layers; there are logits then. The rows need not be finite if those given are far out.

        Raises:
            RunnerError: layers, rows or outputs that the model cannot have.
        """
        size, dtype = self._slice.hidden_size, self._slice.dtype
        if not 0 <= first < last <= self._slice.layers:
            raise RunnerError(f"[{first}, {last}) is no range of {self._slice.layers} layers")
        if rows.dim() != 2 or rows.shape[1] != size or rows.dtype != dtype:
            raise RunnerError(f"rows are {rows.dtype} {list(rows.shape)}, not {dtype} [N, {size}]")
        if not 1 <= outputs <= len(rows) <= self._slice.max_positions:
            raise RunnerError(f"{outputs} outputs at {len(rows)} positions cannot be")
        context = self._context([len(rows)], first, last)
        inputs = rows.to(self._slice.device)
        sent = self._slice.forward_part(first, last, inputs, context.positions, context)
        return SequenceReplay((sent[-outputs:],), self._slice.logits, {0: sent})

    def _pass(
        self,
        sequences: Sequence[tuple[Sequence[int], Sequence[int]]],
        boundaries: Sequence[int],
        full: Sequence[Collection[int]],
    ) -> Iterator[SequenceReplay]:
        tokens = [[*prompt, *output][:-1] for prompt, output in sequences]
        ids = torch.tensor([token for one in tokens for token in one], device=self._slice.device)
        context = self._context([len(one) for one in tokens], 0, self.layers)
        captured: dict[int, torch.Tensor] = {}
        whole: list[dict[int, torch.Tensor]] = [{} for _ in sequences]
        wanted = [torch.arange(len(p) - 1, len(p) + len(o) - 1) for p, o in sequences]
        starts = [sum(len(one) for one in tokens[:i]) for i in range(len(tokens))]
        rows = torch.cat([at + s for at, s in zip(wanted, starts, strict=True)])
        hooks: list[RemovableHandle] = []
        for stage, end in enumerate(boundaries[:-1]):
            layer = self._slice.stack[end - 1]
            hooks.append(layer.register_forward_hook(_capture(captured, end, rows)))
            for index, stages in enumerate(full):
                if stage in stages:
                    span = torch.arange(starts[index], starts[index] + len(tokens[index]))
                    hooks.append(layer.register_forward_hook(_capture(whole[index], stage, span)))
        try:
            final = self._slice.forward(ids, context.positions, context)
        finally:
            for hook in hooks:
                hook.remove()
        captured[boundaries[-1]] = final[rows]
        counts = [len(output) for _, output in sequences]
        split = [torch.split(captured[end], counts) for end in boundaries]
        for index in range(len(sequences)):
            stages_rows = tuple(stage[index] for stage in split)
            yield SequenceReplay(stages_rows, self._slice.logits, whole[index])

    def _context(self, lengths: Sequence[int], first: int, last: int) -> Step:
        return packed_prefill(lengths, self._plans[first:last], first, self._slice.device)

    def _check(
        self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]], boundaries: Sequence[int]
    ) -> None:
        ends = list(boundaries)
        rising = all(a < b for a, b in zip([0, *ends], ends, strict=False))
        if not ends or not rising or ends[-1] != self._slice.layers:
            raise RunnerError(
                f"boundaries {ends} do not cut {self._slice.layers} layers into stages"
            )
        for prompt, output in sequences:
            if not prompt or not output:
                raise RunnerError("a replay needs at least one prompt and one output token")
            if len(prompt) + len(output) - 1 > self._slice.max_positions:
                raise RunnerError(f"a sequence exceeds {self._slice.max_positions} positions")
            if not 0 <= min(*prompt, *output) <= max(*prompt, *output) < self._slice.vocab_size:
                raise RunnerError(f"token ids must be within 0 and {self._slice.vocab_size - 1}")


def _capture(
    captured: dict[int, torch.Tensor], key: int, rows: torch.Tensor
) -> Callable[[nn.Module, Any, Any], None]:
    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        captured[key] = hidden[0][rows]

    return hook


def _batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Indices in groups of at most `most` tokens; a longer sequence is a group of its own."""
    batch: list[int] = []
    tokens = 0
    for index, length in enumerate(lengths):
        if batch and tokens + length > most:
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += length
    if batch:
        yield batch
