"""The models that this validator can judge by, without those whose files are damaged.

One that the engine found damaged is not asked for again for a while: hashing it takes minutes, and
only its operator can mend it. Until then bundles for it are refused, and nobody is judged by it.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.models.errors import InvalidModel
from pipeline.models.prepared import PreparedModel

DAMAGED_SECONDS = 600.0


class Models:
    """Finds models with `find`, which raises `ModelError`; `now` gives monotonic seconds."""

    def __init__(self, find: Callable[[bytes], PreparedModel], now: Callable[[], float]) -> None:
        self._find = find
        self._now = now
        self._damaged: dict[bytes, tuple[str, float]] = {}

    def find(self, model_id: bytes) -> PreparedModel:
        """The prepared model of an identity. Raises `ModelError`."""
        reason, until = self._damaged.get(model_id, ("", 0.0))
        if self._now() < until:
            raise InvalidModel(reason)
        return self._find(model_id)

    def note_damage(self, model_id: bytes, reason: str) -> None:
        """The engine cannot use a model's files."""
        self._damaged[model_id] = (reason, self._now() + DAMAGED_SECONDS)
