"""What stands before the routes: whom the server answers, and how it says no.

- Host check: a page on the web can make a browser send requests to 127.0.0.1 under its own host
name
  (DNS rebinding). A server bound to loopback therefore answers only to loopback host names.
- Bearer token: routes that take work or show prompts want the data folder's `api-token`.
- Body limit: a request body is counted while it is read, whatever its Content-Length says, under a
  deadline.

Every refusal is JSON: `{"error": {"code": "...", "message": "..."}}`.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from typing import Any

import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chain.endpoint.environment import is_loopback
from node.metrics import OTHER, NodeMetrics

MAX_BODY = 8 * 2**20
BODY_TIMEOUT = 30.0
MAX_LINE = 2**20


class HttpRefusal(Exception):
    """Raised by a route to answer with a typed JSON error."""

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details

    def response(self) -> JSONResponse:
        """The answer; a 401 names the scheme that is asked for."""
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else None
        return error_response(self.status, self.code, self.message, headers, **self.details)


def error_response(
    status: int, code: str, message: str, headers: dict[str, str] | None = None, **details: Any
) -> JSONResponse:
    """The one shape that all errors of the API have; `details` stand beside code and message."""
    body = {"error": {"code": code, "message": message, **details}}
    return JSONResponse(body, status_code=status, headers=headers)


def host_allowed(header: str, bound_host: str) -> bool:
    """Whether a request with this Host header may be answered by a server bound to `bound_host`."""
    if not is_loopback(bound_host):
        return True
    name, _, port = header.rpartition(":")
    host = name if name and port.isdigit() else header
    return is_loopback(host)


def require_token(request: Request, token: str) -> None:
    """Raises `HttpRefusal` (401) unless the request carries `token` as its bearer token."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.encode())
    if scheme.lower() != "bearer" or not same:
        raise HttpRefusal(
            401, "unauthorized", "needs Authorization: Bearer <the node's api-token file>"
        )


async def read_body(request: Request, limit: int = MAX_BODY, *, hint: str = "") -> bytes:
    """The whole body. Raises `HttpRefusal`: 413 over `limit` bytes, with the `hint`, 408 when it
    takes too long."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit():
        raise HttpRefusal(400, "bad_request", "Content-Length is not a number")
    message = f"a body has at most {limit} bytes"
    too_large = HttpRefusal(413, "too_large", message, limit=limit, hint=hint)
    if int(declared) > limit:
        raise too_large
    body = bytearray()
    try:
        with trio.fail_after(BODY_TIMEOUT):
            async for chunk in request.stream():
                if len(body) + len(chunk) > limit:
                    raise too_large
                body += chunk
    except trio.TooSlowError as exc:
        raise HttpRefusal(408, "timeout", f"the body took over {BODY_TIMEOUT:.0f} s") from exc
    except ClientDisconnect as exc:
        raise HttpRefusal(400, "bad_request", "the client went away") from exc
    return bytes(body)


async def read_lines(request: Request, longest: int = MAX_LINE) -> AsyncIterator[bytes]:
    """The lines of a body of any length, without their ends. Raises `HttpRefusal`: 413 for a line
    over `longest` bytes, 408 where nothing comes for long."""
    rest = bytearray()
    chunks = request.stream()
    while True:
        try:
            with trio.fail_after(BODY_TIMEOUT):
                chunk = await anext(chunks, None)
        except trio.TooSlowError as exc:
            message = f"nothing came for {BODY_TIMEOUT:.0f} s"
            raise HttpRefusal(408, "timeout", message) from exc
        except ClientDisconnect as exc:
            raise HttpRefusal(400, "bad_request", "the client went away") from exc
        rest += b"\n" if chunk is None else chunk
        *lines, last = rest.split(b"\n")
        if max(map(len, [*lines, last])) > longest:
            message = f"a line has at most {longest} bytes"
            hint = "one line is one prompt"
            raise HttpRefusal(413, "too_large", message, limit=longest, hint=hint)
        for line in lines:
            yield bytes(line)
        if chunk is None:
            return
        rest = last


class Gate:
    """ASGI middleware: the Host check, and a count of answers by route and status code."""

    def __init__(self, app: ASGIApp, *, bound_host: str, metrics: NodeMetrics) -> None:
        self._app = app
        self._bound_host = bound_host
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                self._metrics.http(getattr(route, "path", OTHER), message["status"])
            await send(message)

        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if host_allowed(host, self._bound_host):
            await self._app(scope, receive, counted)
        else:
            refusal = error_response(403, "wrong_host", "this address answers to localhost only")
            await refusal(scope, receive, counted)
