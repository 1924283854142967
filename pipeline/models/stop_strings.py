"""Whether a stop string has appeared in the text of an output.

Tokens are pieces of UTF-8, so text can only be read from a growing run of them; the tokenizer's
stream decoder gives what is final and holds back what may still change. A stop string may span
tokens: the last characters of the text so far are kept and searched with each new piece.

Stage 0 follows running sequences with a `StopStringWatch`, and a validator reads finished outputs
with the same one, so both come to the same token.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.models.tokenizer import ChatTokenizer
from proofs.evidence.endings import NO_STOP, StopReading


class StopStringWatch:
    """Follows one sequence's output, of which `generated` is there already. `stopped` says whether
    a stop string was seen."""

    def __init__(
        self, reader: ChatTokenizer, stops: Sequence[str], generated: Sequence[int] = ()
    ) -> None:
        self._stops = stops
        self._stream = reader.stream() if stops else None
        self._keep = max((len(stop) for stop in stops), default=1) - 1
        self._tail = ""
        self.stopped = False
        for token in generated:
            self.push(token)

    def push(self, token: int) -> bool:
        """Take the next output token; returns `stopped`."""
        if self._stream is not None and not self.stopped:
            text = self._tail + self._stream.push(token)
            self.stopped = any(stop in text for stop in self._stops)
            self._tail = text[-self._keep :] if self._keep else ""
        return self.stopped


def read_stop(reader: ChatTokenizer, stops: Sequence[str], output: Sequence[int]) -> StopReading:
    """Where a finished output first held one of these stop strings."""
    if not stops:
        return NO_STOP
    watch = StopStringWatch(reader, stops)
    found = next((count for count, token in enumerate(output, 1) if watch.push(token)), None)
    before = output if found is None else output[: found - 1]
    certain = not _holds(reader, stops, before)
    if found is not None:
        certain = certain and _holds(reader, stops, output[:found])
    return StopReading(found, certain)


def _holds(reader: ChatTokenizer, stops: Sequence[str], output: Sequence[int]) -> bool:
    text = reader.decode(output)
    return any(stop in text for stop in stops)
