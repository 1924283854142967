"""Which requests, events and error codes there are between control process and engine."""

from __future__ import annotations

from pipeline.engine.control.messages import (
    Bench,
    Benched,
    EdgeDown,
    Empty,
    EngineStatus,
    Evidence,
    Failed,
    Finished,
    Listen,
    Listening,
    Load,
    Loaded,
    Message,
    Ring,
    SequenceIds,
    Submit,
    Tokens,
)
from pipeline.engine.control.replay_messages import Replay, Replayed

REQUESTS: dict[str, tuple[type[Message], type[Message]]] = {
    "status": (Empty, EngineStatus),
    "load": (Load, Loaded),
    "unload": (Empty, Empty),
    "listen": (Listen, Listening),
    "ring": (Ring, Empty),
    "submit": (Submit, Empty),
    "abort": (SequenceIds, Empty),
    "evidence": (SequenceIds, Evidence),
    "forget": (SequenceIds, Empty),
    "replay": (Replay, Replayed),
    "bench": (Bench, Benched),
    "shutdown": (Empty, Empty),
}
EVENTS: dict[str, type[Message]] = {
    "tokens": Tokens, "finished": Finished, "failed": Failed, "edge_down": EdgeDown
}  # fmt: skip

# Codes of error answers. An engine that cannot go on answers none of them: it exits.
ERRORS = frozenset(
    {"bad_request", "out_of_memory", "model", "not_loaded", "edge", "unknown_sequence", "internal"}
)
