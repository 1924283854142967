"""The table of what an engine can be asked, and of what it reports on its own.

An `Operation` names a request, the types of its body and of its answer, and the lane that works on
it. Client, service and process all go by this table: the client's `request` has the answer's type
from it, the service registers one handler for each, and the process sends each to its lane.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Generic, TypeVar

from pipeline.engine.control.messages import (
    Bench,
    Benched,
    EdgeDown,
    Empty,
    EngineStatus,
    Evidence,
    Failed,
    Finished,
    JoinRing,
    Listen,
    Listening,
    Load,
    Loaded,
    Message,
    SequenceIds,
    Submit,
    Tokens,
)
from pipeline.engine.control.replay_messages import Replay, Replayed

RequestT = TypeVar("RequestT", bound=Message)
AnswerT = TypeVar("AnswerT", bound=Message)


class Lane(Enum):
    """Where the engine process works on a request.

    INLINE: at once, on the thread that reads requests; for what only touches memory.
    DEVICE: in order, on the one thread that changes the slice.
    AUDIT: in order, on the one thread for what takes long and depends on neither slice nor ring.
    OWN_THREAD: each request on a new thread, because a later one may be what ends its waiting.
    LAST: nowhere; it is answered and the process ends.
    """

    INLINE = auto()
    DEVICE = auto()
    AUDIT = auto()
    OWN_THREAD = auto()
    LAST = auto()


@dataclass(frozen=True)
class Operation(Generic[RequestT, AnswerT]):
    """One thing that an engine can be asked."""

    name: str
    request: type[RequestT]
    answer: type[AnswerT]
    lane: Lane


STATUS = Operation("status", Empty, EngineStatus, Lane.INLINE)
LOAD = Operation("load", Load, Loaded, Lane.DEVICE)
UNLOAD = Operation("unload", Empty, Empty, Lane.DEVICE)
LISTEN = Operation("listen", Listen, Listening, Lane.DEVICE)
JOIN_RING = Operation("ring", JoinRing, Empty, Lane.OWN_THREAD)
SUBMIT = Operation("submit", Submit, Empty, Lane.INLINE)
ABORT = Operation("abort", SequenceIds, Empty, Lane.INLINE)
EVIDENCE = Operation("evidence", SequenceIds, Evidence, Lane.INLINE)
FORGET = Operation("forget", SequenceIds, Empty, Lane.INLINE)
REPLAY = Operation("replay", Replay, Replayed, Lane.AUDIT)
BENCH = Operation("bench", Bench, Benched, Lane.AUDIT)
SHUTDOWN = Operation("shutdown", Empty, Empty, Lane.LAST)

OPERATIONS: dict[str, Operation[Any, Any]] = {
    operation.name: operation
    for operation in (
        STATUS,
        LOAD,
        UNLOAD,
        LISTEN,
        JOIN_RING,
        SUBMIT,
        ABORT,
        EVIDENCE,
        FORGET,
        REPLAY,
        BENCH,
        SHUTDOWN,
    )
}

EVENTS: dict[str, type[Message]] = {
    "tokens": Tokens, "finished": Finished, "failed": Failed, "edge_down": EdgeDown
}  # fmt: skip

ERRORS = frozenset(
    {
        "bad_request",
        "out_of_memory",
        "model",
        "not_loaded",
        "edge",
        "upstream",
        "downstream",
        "unknown_sequence",
        "internal",
    }
)
"""Codes of error answers. An engine that cannot go on answers none of them: it exits."""


class Handlers:
    """What a service does for each operation, but for those of lane LAST."""

    def __init__(self) -> None:
        self._handlers: dict[str, Callable[[Any], Message]] = {}

    def on(
        self, operation: Operation[RequestT, AnswerT], handler: Callable[[RequestT], AnswerT]
    ) -> None:
        """`handler` takes the operation's validated body and returns its answer."""
        self._handlers[operation.name] = handler

    def of(self, operation: Operation[RequestT, AnswerT]) -> Callable[[RequestT], AnswerT]:
        """The handler of an operation. Raises KeyError where there is none."""
        handler: Callable[[RequestT], Any] = self._handlers[operation.name]
        return handler

    def check_complete(self) -> None:
        """Raises LookupError naming the operations that have no handler."""
        wanted = {name for name, each in OPERATIONS.items() if each.lane is not Lane.LAST}
        if missing := wanted - self._handlers.keys():
            raise LookupError(f"no handler for {', '.join(sorted(missing))}")
