"""Whether a stop string has appeared in the text of a running sequence.

Tokens are pieces of UTF-8, so text can only be read from a growing run of them; the tokenizer's
stream decoder gives what is final and holds back what may still change. A stop string may span
tokens: the last characters of the text so far are kept and searched with each new piece.
"""

from __future__ import annotations

from pipeline.engine.control.messages import SequenceSpec
from pipeline.models.tokenizer import ChatTokenizer


class StopStringWatch:
    """Follows one sequence's output. `stopped` says whether a stop string was seen."""

    def __init__(self, reader: ChatTokenizer, spec: SequenceSpec) -> None:
        self._stops = spec.request.stop
        self._stream = reader.stream() if self._stops else None
        self._keep = max((len(stop) for stop in self._stops), default=1) - 1
        self._tail = ""
        self.stopped = False
        for token in spec.generated:
            self.push(token)

    def push(self, token: int) -> bool:
        """Take the next output token; returns `stopped`."""
        if self._stream is not None and not self.stopped:
            text = self._tail + self._stream.push(token)
            self.stopped = any(stop in text for stop in self._stops)
            self._tail = text[-self._keep :] if self._keep else ""
        return self.stopped
