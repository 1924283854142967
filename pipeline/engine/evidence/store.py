"""Sealed evidence waits here until its owner has fetched it and says to forget it. No torch."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from pipeline.engine.errors import EngineError
from proofs.evidence.statement import StageEvidence

MAX_STORED = 16384


class EvidenceStore:
    """Sealed evidence until it is forgotten; shared by the ring's thread and the IPC thread.

    Holds the latest `MAX_STORED` sequences, so an owner that never forgets cannot fill the memory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sealed: OrderedDict[bytes, StageEvidence] = OrderedDict()

    def put(self, evidence: StageEvidence) -> None:
        """Keep the evidence of a finished sequence, in the place of any older one of it."""
        with self._lock:
            self._sealed[evidence.sequence_id] = evidence
            self._sealed.move_to_end(evidence.sequence_id)
            if len(self._sealed) > MAX_STORED:
                self._sealed.popitem(last=False)

    def get(self, sequence_ids: Iterable[bytes]) -> tuple[StageEvidence, ...]:
        """Raises `EngineError` (unknown_sequence) naming the first id that has none."""
        with self._lock:
            found = []
            for sequence_id in sequence_ids:
                if sequence_id not in self._sealed:
                    raise EngineError(
                        "unknown_sequence",
                        f"no evidence of sequence {sequence_id.hex()}: it did not finish here",
                    )
                found.append(self._sealed[sequence_id])
            return tuple(found)

    def forget(self, sequence_ids: Iterable[bytes]) -> None:
        """Drop the evidence of these sequences; unknown ids are ignored."""
        with self._lock:
            for sequence_id in sequence_ids:
                self._sealed.pop(sequence_id, None)

    def clear(self) -> None:
        """Drop everything: another slice is loaded, and evidence is about one slice's rows."""
        with self._lock:
            self._sealed.clear()
