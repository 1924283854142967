"""Every stage of a model in one process: generation as a ring does it, without a network.

Sequences share steps as they do under the engine's scheduler: up to `batch` run at once, a free
place is taken by the next one, prompts are fed in pieces beside the decodes of the others, and each
stage's output is the next one's input. What is measured about these rows (honest noise, above all)
therefore holds for the stages of a real ring on the same device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pipeline.models.prepared import PreparedModel
from pipeline.models.slice import ModelSlice, load_slice
from pipeline.runner.arithmetic import Kernels
from pipeline.runner.errors import RunnerError
from pipeline.runner.stage import StageRunner, StepItem
from proofs.evidence.sequence import SequenceRequest
from proofs.sampling.choosing import choose_batch


@dataclass(frozen=True)
class Generated:
    """Request number `index`, finished.

    Attributes:
        stages: for each stage the rows [P+T-1, H] that it sent, at positions 0 .. P+T-2 and in the
            model's dtype (the last stage's: after the final norm).
    """

    index: int
    output_ids: tuple[int, ...]
    stages: tuple[torch.Tensor, ...]


@dataclass
class _Running:
    index: int
    key: bytes
    request: SequenceRequest
    filled: int = 0
    output: list[int] = field(default_factory=list)
    parts: list[list[torch.Tensor]] = field(default_factory=list)

    def pending(self) -> list[int]:
        """Tokens that are not in the cache yet."""
        return [*self.request.prompt_ids, *self.output][self.filled :]


def load_ring(
    model: PreparedModel | Path,
    boundaries: Sequence[int],
    kv_tokens: int,
    device: str = "cpu",
    *,
    alter: Callable[[ModelSlice], None] | None = None,
    kernels: Kernels = Kernels.BEST,
) -> list[StageRunner]:
    """A runner for each stage; `boundaries[s]` is the layer after which stage s ends. `alter`
    changes each slice in place before its runner takes it; `kernels` is that of `StageRunner`.

    Raises:
        ModelError: the model or the boundaries cannot be used.
        ValueError: a stage is not a range of the model's layers.
    """
    runners = []
    for first, last in zip([0, *boundaries], boundaries, strict=False):
        slice_ = load_slice(model, first, last, device)
        if alter is not None:
            alter(slice_)
        runners.append(StageRunner(slice_, kv_tokens, kernels=kernels))
    return runners


class LocalRing:
    """Generates with `stages`, the runners of all layers in order.

    Args:
        batch: most sequences at once.
        max_batch_tokens: most tokens of a step; prompts wait or are cut for it.
    """

    def __init__(
        self, stages: Sequence[StageRunner], batch: int = 32, max_batch_tokens: int = 1024
    ) -> None:
        if not stages or not (stages[0].slice.is_first and stages[-1].slice.is_last):
            raise RunnerError("a ring needs the stages of a whole model")
        if not 1 <= batch <= max_batch_tokens:
            raise RunnerError("a batch has at least one sequence, and a step a token for each")
        self._stages = list(stages)
        self._batch = batch
        self._max_batch_tokens = max_batch_tokens

    def generate(
        self,
        requests: Sequence[SequenceRequest],
        stepped: Callable[[int], None] = lambda _tokens: None,
    ) -> Iterator[Generated]:
        """Generate all, yielding each sequence as it finishes. `stepped` is told after each step
        how many output tokens there are so far.

        Raises:
            KvExhausted: the runners' pools do not hold `batch` sequences of the longest kind.
            RunnerError: a request that the model cannot serve.
            SamplingError: the model's logits or a request's settings are unusable.
        """
        capacity = max((len(r.prompt_ids) + r.max_tokens for r in requests), default=1)
        waiting = list(enumerate(requests))[::-1]
        running: list[_Running] = []
        finished = 0
        try:
            while waiting or running:
                while waiting and len(running) < self._batch:
                    running.append(self._open(*waiting.pop(), capacity))
                ended = self._step(running)
                stepped(finished + sum(len(sequence.output) for sequence in running))
                for sequence in ended:
                    running.remove(sequence)
                    finished += len(sequence.output)
                    self._close(sequence)
                    rows = tuple(torch.cat(parts) for parts in sequence.parts)
                    yield Generated(sequence.index, tuple(sequence.output), rows)
        finally:
            for sequence in running:
                self._close(sequence)

    def forward(self, items: Sequence[StepItem], inputs: torch.Tensor) -> list[torch.Tensor]:
        """One step through all stages: what each of them sends, [N, H]."""
        sent = []
        for stage in self._stages:
            inputs = stage.step(items, inputs)
            sent.append(inputs)
        return sent

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """Final hidden states [N, H] → float32 logits [N, V] to sample from."""
        return self._stages[-1].logits(rows)

    def runners(self) -> list[StageRunner]:
        """Every runner that must hold a running sequence."""
        return self._stages

    def _step(self, running: Sequence[_Running]) -> list[_Running]:
        """One step over everything that runs; returns what finished."""
        room = self._max_batch_tokens
        pieces: list[tuple[_Running, list[int]]] = []
        for sequence in sorted(running, key=lambda one: not one.output):  # decodes first
            piece = sequence.pending()[:room]
            if piece:
                pieces.append((sequence, piece))
                room -= len(piece)
        items = [StepItem(one.key, one.filled, len(piece)) for one, piece in pieces]
        sent = self.forward(items, torch.tensor([token for _, piece in pieces for token in piece]))
        counts = [len(piece) for _, piece in pieces]
        split = [torch.split(rows, counts) for rows in sent]
        ready, last_rows = [], []
        for index, (sequence, piece) in enumerate(pieces):
            for parts, rows in zip(sequence.parts, split, strict=True):
                parts.append(rows[index].clone())
            sequence.filled += len(piece)
            if not sequence.pending():
                ready.append(sequence)
                last_rows.append(split[-1][index][-1])
        return self._sample(ready, last_rows)

    def _sample(self, ready: Sequence[_Running], rows: Sequence[torch.Tensor]) -> list[_Running]:
        if not ready:
            return []
        logits = self.logits(torch.stack(list(rows))).cpu().numpy()
        settings = [one.request.sampling for one in ready]
        tokens = choose_batch(logits, settings, [one.filled for one in ready])
        finished = []
        for sequence, token in zip(ready, tokens, strict=True):
            sequence.output.append(token)
            request = sequence.request
            if token in request.eos_ids or len(sequence.output) >= request.max_tokens:
                finished.append(sequence)
        return finished

    def _open(self, index: int, request: SequenceRequest, capacity: int) -> _Running:
        key = index.to_bytes(16, "big")
        for runner in self.runners():
            runner.open(key, capacity)
        return _Running(index, key, request, parts=[[] for _ in self._stages])

    def _close(self, sequence: _Running) -> None:
        for runner in self.runners():
            runner.close(sequence.key)
