"""Framing and typing of the socket between control process and engine.

A frame is a 4-byte big-endian length and one MessagePack map. This module turns bytes into
checked values and back; it owns no socket, so the engine's threads and the control process's trio
tasks share it. A length over `MAX_FRAME` is refused before any memory is set aside for it, and a
body is handed on only once it validated as the model that `messages` names for it.

MessagePack arrays decode as tuples and models validate strictly, so no value is ever coerced.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, TypeVar

import msgpack
from pydantic import ValidationError

from pipeline.engine.control.messages import MAX_FRAME, Message
from pipeline.engine.control.operations import (
    ERRORS,
    EVENTS,
    OPERATIONS,
    AnswerT,
    Operation,
    RequestT,
)
from pipeline.engine.errors import EngineError, IpcViolation

MessageT = TypeVar("MessageT", bound=Message)

_LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class Request:
    """A request as the engine sees it. `id` is chosen by the control process."""

    id: int
    operation: Operation[Any, Any]
    body: Message


@dataclass(frozen=True)
class Answer:
    """An answer whose body is not typed yet: only the asker knows the operation."""

    id: int
    body: object


@dataclass(frozen=True)
class Failure:
    """An error answer."""

    id: int
    error: EngineError


@dataclass(frozen=True)
class Event:
    """Something that the engine reports on its own; `name` is one of `operations.EVENTS`."""

    name: str
    body: Message


class FrameSplitter:
    """Cuts a byte stream into MessagePack maps.

    >>> splitter = FrameSplitter()
    >>> splitter.feed(pack({"id": 1}))
    [{'id': 1}]
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, object]]:
        """Take received bytes; return the maps completed by them. Raises `IpcViolation`."""
        self._buffer += data
        maps: list[dict[str, object]] = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME:
                raise IpcViolation(f"frame of {length} bytes is over the limit of {MAX_FRAME}")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            maps.append(_unpack(bytes(memoryview(self._buffer)[_LENGTH.size : end])))
            del self._buffer[:end]
        return maps


def _unpack(frame: bytes) -> dict[str, object]:
    try:
        value = msgpack.unpackb(frame, use_list=False, raw=False)
    except (ValueError, msgpack.UnpackException, RecursionError) as exc:
        raise IpcViolation(f"frame is not MessagePack: {exc}") from exc
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise IpcViolation("frame is not a map with text keys")
    return value


def pack(value: dict[str, object]) -> bytes:
    """One frame, length included. Raises `IpcViolation` when it would be over `MAX_FRAME`."""
    body: bytes = msgpack.packb(value)
    if len(body) > MAX_FRAME:
        raise IpcViolation(f"frame of {len(body)} bytes is over the limit of {MAX_FRAME}")
    return _LENGTH.pack(len(body)) + body


def validate(model: type[MessageT], body: object, what: str) -> MessageT:
    """Check a body against its model. Raises `IpcViolation` naming the first wrong field."""
    try:
        return model.model_validate(body)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise IpcViolation(f"{what}: {where}: {first['msg']}") from exc


def pack_request(request_id: int, operation: Operation[RequestT, AnswerT], body: RequestT) -> bytes:
    """A request's frame. Raises `IpcViolation` when it would be too long."""
    return pack({"id": request_id, "op": operation.name, "body": body.model_dump()})


def pack_answer(request_id: int, body: Message) -> bytes:
    """An answer's frame. Raises `IpcViolation` when it would be too long."""
    return pack({"id": request_id, "ok": body.model_dump()})


def pack_failure(request_id: int, error: EngineError) -> bytes:
    """An error answer. Codes outside `operations.ERRORS` are reported as `internal`."""
    code = error.code if error.code in ERRORS else "internal"
    return pack({"id": request_id, "error": {"code": code, "message": error.message[:4096]}})


def pack_event(name: str, body: Message) -> bytes:
    """An event's frame; `name` is one of `operations.EVENTS`."""
    return pack({"event": name, "body": body.model_dump()})


def parse_request_id(frame: dict[str, object]) -> int:
    """The id of a request map. Raises `IpcViolation`: without an id nothing can be answered."""
    request_id = frame.get("id")
    if not isinstance(request_id, int) or not 0 <= request_id < 2**63:
        raise IpcViolation("request has no valid id")
    return request_id


def parse_request(frame: dict[str, object]) -> Request:
    """Check a request map. Raises `IpcViolation`, which the engine sends back as `bad_request`."""
    request_id = parse_request_id(frame)
    name = frame.get("op")
    if not isinstance(name, str) or name not in OPERATIONS:
        raise IpcViolation(f"unknown operation {str(name)[:40]!r}")
    operation = OPERATIONS[name]
    return Request(request_id, operation, validate(operation.request, frame.get("body"), name))


def parse_reply(frame: dict[str, object]) -> Answer | Failure | Event:
    """Check what an engine sent. Raises `IpcViolation`; the client then restarts the engine."""
    if "event" in frame:
        name = frame["event"]
        if not isinstance(name, str) or name not in EVENTS:
            raise IpcViolation(f"unknown event {str(name)[:40]!r}")
        return Event(name, validate(EVENTS[name], frame.get("body"), name))
    request_id = parse_request_id(frame)
    if "ok" in frame:
        return Answer(request_id, frame["ok"])
    error = frame.get("error")
    if not isinstance(error, dict):
        raise IpcViolation("answer has neither a result nor an error")
    code, message = error.get("code"), error.get("message")
    if code not in ERRORS or not isinstance(message, str):
        raise IpcViolation("error answer has no valid code and message")
    return Failure(request_id, EngineError(code, message[:4096]))
