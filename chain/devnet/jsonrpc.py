"""JSON-RPC 2.0 on the server's side: parse a body, shape answers, name the error codes.

Pure. A body is one request or a batch of at most `MAX_BATCH`; anything else becomes the error
object the specification asks for (https://www.jsonrpc.org/specification). Reverts carry code 3 and
the revert bytes in `data`, as geth and anvil do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from proofs.encoding.jsontext import parse_json

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
SERVER_ERROR = -32000
EXECUTION_REVERTED = 3

MAX_BODY = 1 << 20
MAX_BATCH = 100


class Fault(Exception):
    """A request that is answered with a JSON-RPC error object."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class Backend(Protocol):
    """A chain that answers JSON-RPC methods."""

    @property
    def name(self) -> str:
        """What runs the chain, for people."""

    async def request(self, method: str, params: list[object]) -> object:
        """Answer one method with a JSON value; raises `Fault`."""


@dataclass(frozen=True)
class Request:
    """One well-formed request; `id` is None for a notification."""

    id: str | int | None
    method: str
    params: list[object]


def parse_body(body: bytes) -> tuple[bool, list[object]]:
    """Whether a body is a batch, and its unchecked requests; raises `Fault`."""
    try:
        value = parse_json(body)
    except ValueError as exc:
        raise Fault(PARSE_ERROR, "the body is not JSON") from exc
    if isinstance(value, list):
        if not 0 < len(value) <= MAX_BATCH:
            raise Fault(INVALID_REQUEST, f"a batch holds 1 to {MAX_BATCH} requests")
        return True, value
    return False, [value]


def parse_request(value: object) -> Request:
    """Check one request; raises `Fault`."""
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        raise Fault(INVALID_REQUEST, 'a request is an object with "jsonrpc": "2.0"')
    identifier = value.get("id")
    if identifier is not None and (
        not isinstance(identifier, str | int) or isinstance(identifier, bool)
    ):
        raise Fault(INVALID_REQUEST, "id must be a string or a whole number")
    method = value.get("method")
    if not isinstance(method, str) or len(method) > 64:
        raise Fault(INVALID_REQUEST, "method must be a short string")
    params = value.get("params", [])
    if not isinstance(params, list):
        raise Fault(INVALID_REQUEST, "params must be a list")
    return Request(identifier, method, params)


def answer(identifier: str | int | None, result: object) -> dict[str, object]:
    """A success object."""
    return {"jsonrpc": "2.0", "id": identifier, "result": result}


def failure(identifier: str | int | None, fault: Fault) -> dict[str, object]:
    """An error object."""
    error: dict[str, object] = {"code": fault.code, "message": fault.message}
    if fault.data is not None:
        error["data"] = fault.data
    return {"jsonrpc": "2.0", "id": identifier, "error": error}
