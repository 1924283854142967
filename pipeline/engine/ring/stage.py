"""One stage of a ring: turns a batch and its input rows into output rows or tokens.

A `Stage` lives as long as one generation of a ring and belongs to that ring's compute thread. For
each batch it checks the rules (`table`), seals and opens sequences, runs the slice, collects
evidence and, in the last stage, samples. Payload length is checked before the bytes are used.

What it proves, sends on and samples by is its conduct's to say (`pipeline.runner.conduct`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.engine.counters import Counters
from pipeline.engine.errors import EngineError, StageViolation
from pipeline.engine.evidence.collecting import Collector, ReturnedTokens, token_bytes
from pipeline.engine.evidence.rows import RowsStore
from pipeline.engine.evidence.store import EvidenceStore
from pipeline.engine.loading import LoadedModel
from pipeline.engine.ring.table import ItemRows, SequenceTable
from pipeline.engine.schedule.batch import Batch, Close, Grow, Open
from pipeline.runner.conduct import StageConduct
from pipeline.runner.errors import KvExhausted
from pipeline.runner.stage import StepItem
from proofs.evidence.ring_terms import terms_digest
from proofs.sampling.choosing import SamplingError, choose_batch


@dataclass(frozen=True)
class StepOutcome:
    """`payload` (not in the last stage): raw bytes of [N, H]. `tokens`: one for each sample.
    `failed` are sequences that this step could not work on, for `reason`; their rows are zeros, and
    their tokens 0."""

    payload: memoryview | None = None
    tokens: tuple[int, ...] = ()
    failed: tuple[bytes, ...] = ()
    reason: str = ""


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The little-endian bytes of a contiguous CPU tensor, without a copy."""
    return tensor.view(torch.uint8).numpy().reshape(-1).data


class Stage:
    """Runs batches on a loaded slice. Not thread-safe; `close` frees its sequences' KV cache.

    `ring` is the digest of the generation that it belongs to (`proofs.evidence.ring_terms`).
    `rows` keeps what was received of finished sequences; None, and in stage 0, nothing is kept.
    `conduct` is honest where none is given.
    """

    def __init__(
        self,
        model: LoadedModel,
        store: EvidenceStore,
        counters: Counters,
        ring: bytes,
        rows: RowsStore | None = None,
        conduct: StageConduct | None = None,
    ) -> None:
        self._slice = model.slice
        self._runner = model.runner
        self._store = store
        self._rows = None if self._slice.is_first else rows
        self._counters = counters
        self._ring = ring
        self._conduct = conduct or StageConduct()
        self._table = SequenceTable(model.request.kv_tokens)
        self._collectors: dict[bytes, Collector] = {}
        self._failed: set[bytes] = set()
        layers = f"{model.request.first_layer}-{model.request.last_layer}"
        self._not_finite = f"hidden states after layers {layers} are not finite"

    @torch.inference_mode()
    def run(self, batch: Batch, inputs: Sequence[int] | memoryview) -> StepOutcome:
        """Compute a batch. `inputs`: token ids [N] in stage 0, else raw bytes of [N, H].

        Raises `StageViolation` when the batch or its inputs break the rules.
        """
        started = time.perf_counter()
        placed = self._table.apply(batch)
        for close in batch.closes:
            self._close(close)
        for opened in batch.opens:
            self._open(opened)
        for grown in batch.grows:
            self._grow(grown)
        outcome = StepOutcome() if self._slice.is_last else StepOutcome(payload=memoryview(b""))
        if batch.items:
            outcome = self._compute(batch, inputs, placed)
        self._counters.rows += batch.rows
        self._counters.compute_seconds += time.perf_counter() - started
        return outcome

    def close(self) -> None:
        """Give up what is still open; its evidence is incomplete and dropped."""
        for sequence_id in self._table.sequences():
            self._runner.close(sequence_id)
        self._collectors.clear()
        self._failed.clear()

    def _close(self, close: Close) -> None:
        self._runner.close(close.sequence_id)
        self._failed.discard(close.sequence_id)
        collector = self._collectors.pop(close.sequence_id, None)
        if collector is None or not close.outputs:
            return
        evidence = collector.seal(close.last_token)
        if self._rows is not None and collector.kept is not None:
            # First, so that whoever sees the evidence finds the rows.
            self._rows.keep(evidence.received, collector.kept, close.sequence_id)
        self._store.put(evidence)

    def _open(self, opened: Open) -> None:
        try:
            self._runner.open(opened.sequence_id, opened.capacity)
        except KvExhausted as exc:
            raise EngineError("out_of_memory", str(exc)) from exc
        self._collectors[opened.sequence_id] = Collector(
            opened.sequence_id,
            self._slice.hidden_size,
            terms_digest(self._ring, opened.prompt, opened.sampling, opened.ending),
            returned=ReturnedTokens() if self._slice.is_first else None,
            kept=None if self._rows is None else self._rows.buffer(),
            prove=self._conduct.prove,
            kernel_class=self._runner.kernel_class,
            final=self._slice.is_last,
        )

    def _grow(self, grown: Grow) -> None:
        try:
            self._runner.grow(grown.sequence_id, grown.capacity)
        except KvExhausted as exc:
            raise EngineError("out_of_memory", str(exc)) from exc

    def _compute(
        self, batch: Batch, inputs: Sequence[int] | memoryview, placed: list[ItemRows]
    ) -> StepOutcome:
        tensor, received, width = self._take_in(batch, inputs)
        steps = [StepItem(i.sequence_id, i.start, i.count) for i in batch.items]
        output = self._runner.step(steps, tensor)
        host = output.contiguous().cpu()
        row_bytes = host.shape[1] * host.element_size()
        halves = host.to(torch.bfloat16)
        before = self._failed.copy()
        reason = ""
        if not bool(torch.isfinite(halves).all()):
            self._set_aside(placed, tensor, output, halves)
            host, reason = output.contiguous().cpu(), self._not_finite
            halves = host.to(torch.bfloat16)
        sent_rows, signed_rows = self._conduct.outgoing(host)
        payload, signed = raw_bytes(sent_rows), raw_bytes(signed_rows)
        computed = raw_bytes(host)
        tokens: tuple[int, ...] = ()
        if self._slice.is_last:
            tokens, fault = self._sample(batch, output)
            reason = reason or fault
        drawn = iter(tokens)
        for rows in placed:
            first, last = rows.first, rows.first + rows.count
            sent: memoryview | bytes = signed[first * row_bytes : last * row_bytes]
            if self._slice.is_last:
                sent = token_bytes(rows.proven, next(drawn) if rows.sample else None)
            if rows.sequence_id in self._failed:
                self._collectors.pop(rows.sequence_id, None)
                continue
            self._collectors[rows.sequence_id].add(
                halves[last - rows.proven : last],
                sent,
                received[first * width : last * width],
                rows.sample,
                computed[(last - rows.proven) * row_bytes : last * row_bytes],
            )
        failed = tuple(r.sequence_id for r in placed if r.sequence_id in self._failed - before)
        sent_on = None if self._slice.is_last else payload
        return StepOutcome(sent_on, tokens, failed, reason if failed else "")

    def _set_aside(
        self,
        placed: list[ItemRows],
        tensor: torch.Tensor,
        output: torch.Tensor,
        halves: torch.Tensor,
    ) -> None:
        """Go on without the sequences that have rows which are not finite: zeros take their place.
        Raises `StageViolation` where the rows came in like that, which no honest stage sends."""
        if not self._slice.is_first and not bool(torch.isfinite(tensor).all()):
            raise StageViolation("the hidden states that came in are not finite")
        bad = ~torch.isfinite(halves).all(dim=1)
        for rows in placed:
            end = rows.first + rows.count
            if bool(bad[rows.first : end].any()):
                self._failed.add(rows.sequence_id)
                output[rows.first : end] = 0

    def _take_in(
        self, batch: Batch, inputs: Sequence[int] | memoryview
    ) -> tuple[torch.Tensor, memoryview, int]:
        """The input tensor on the device, its bytes as hashed into `received`, bytes per row."""
        if self._slice.is_first:
            ids = np.asarray(inputs, dtype=np.int64)
            received = memoryview(ids.astype("<u4").tobytes())
            return torch.from_numpy(ids).to(self._slice.device), received, 4
        assert isinstance(inputs, memoryview)
        shape = (batch.rows, self._slice.hidden_size)
        width = shape[1] * self._slice.dtype.itemsize
        if len(inputs) != shape[0] * width:
            raise StageViolation(
                f"payload of {len(inputs)} bytes, {shape[0]} rows take {shape[0] * width}"
            )
        hidden = torch.frombuffer(inputs, dtype=self._slice.dtype).view(shape)
        return hidden.to(self._slice.device), inputs, width

    def _sample(self, batch: Batch, output: torch.Tensor) -> tuple[tuple[int, ...], str]:
        """A token for each sample; and why none can be chosen for some, which have failed then."""
        ends = np.cumsum([item.count for item in batch.items]) - 1
        rows = [int(end) for end, item in zip(ends, batch.items, strict=True) if item.sample]
        if not rows:
            return (), ""
        logits = self._runner.logits(output[rows]).cpu().numpy()
        samplings = [
            self._conduct.sampling(self._table.opened(item.sequence_id).sampling)
            for item in batch.samples
        ]
        positions = [item.start + item.count for item in batch.samples]
        try:
            return tuple(choose_batch(logits, samplings, positions)), ""
        except SamplingError:
            pass  # one of them; the others have their tokens all the same
        tokens, fault = [], ""
        for index, item in enumerate(batch.samples):
            one = slice(index, index + 1)
            try:
                tokens += choose_batch(logits[one], samplings[one], positions[one])
            except SamplingError as exc:
                fault = f"no token can be chosen: {exc}"
                self._failed.add(item.sequence_id)
                tokens.append(0)
        return tuple(tokens), fault
