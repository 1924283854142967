"""Where outputs first held one of their stop strings: the only thing about words that takes the
model's tokenizer.

The tokenizer is the prepared model's own, whose files its identity covers, so it is the one that
stage 0 read with. It is opened for bundles that have stop strings, and the last one is kept.
"""

from __future__ import annotations

import threading

from node.roles.validator.judging.errors import CannotJudge
from pipeline.models.errors import ModelError
from pipeline.models.prepared import PreparedModel
from pipeline.models.stop_strings import read_stop
from pipeline.models.tokenizer import ChatTokenizer
from proofs.evidence.bundle import UnitBundle
from proofs.evidence.endings import StopReading


def has_stops(bundle: UnitBundle) -> bool:
    """Whether any output could have ended by a stop string."""
    return any(sequence.request.stop for sequence in bundle.sequences)


class Texts:
    """Reads outputs; blocking, for worker threads."""

    def __init__(self) -> None:
        self._kept: tuple[bytes, ChatTokenizer] | None = None
        self._opening = threading.Lock()

    def read(self, bundle: UnitBundle, model: PreparedModel) -> tuple[StopReading | None, ...]:
        """One reading a sequence, None for those without stop strings. Raises `CannotJudge`."""
        try:
            reader = self._reader(bundle.model_id, model)
        except ModelError as exc:
            raise CannotJudge(f"the model's tokenizer cannot be used: {exc}") from exc
        return tuple(
            read_stop(reader, sequence.request.stop, sequence.output_ids)
            if sequence.request.stop
            else None
            for sequence in bundle.sequences
        )

    def _reader(self, model_id: bytes, model: PreparedModel) -> ChatTokenizer:
        with self._opening:
            if self._kept is None or self._kept[0] != model_id:
                self._kept = (model_id, ChatTokenizer(model))
            return self._kept[1]
