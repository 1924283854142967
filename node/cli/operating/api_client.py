"""A small client of a node's HTTP API, for the commands that ask a running node.

Synchronous on purpose: a command does one thing at a time. Every call has a deadline, an answer has
a size limit, and every failure is a `NodeError` that names the URL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from chain.endpoint.environment import direct_or_proxied
from node.cli.options import data_dir
from node.errors import EXIT_INPUT, EXIT_RESOURCE, InputError, NodeError, UnreachableError
from proofs.encoding.jsontext import parse_json

TIMEOUT = 30.0
MAX_ANSWER = 256 * 2**20
TOKEN_VARIABLE = "PRIME_NODE_TOKEN"


_EXIT_CODES = {400: EXIT_INPUT, 413: EXIT_INPUT, 422: EXIT_INPUT, 507: EXIT_RESOURCE}
"""By HTTP status: what was sent is wrong, or the node's disk takes nothing."""


class ApiError(NodeError):
    """The node answered with an error; `code` is the API's, `details` what it said beside it."""

    def __init__(
        self,
        code: str,
        message: str,
        hint: str = "",
        status: int = 0,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, hint, _EXIT_CODES.get(status))
        self.code = code
        self.details = details or {}


class ApiClient:
    """`url` like http://127.0.0.1:7070; `token` may be empty for what needs none."""

    def __init__(self, url: str, token: str = "", timeout: float = TIMEOUT) -> None:
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # of brackets, or of the port
            good = False
        if not good or not parts.hostname:
            raise InputError(f"--url {url}: not a URL", "like http://127.0.0.1:7070")
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = direct_or_proxied(
            lambda environment: httpx.Client(
                base_url=self.url, headers=headers, timeout=timeout, trust_env=environment
            ),
            parts.hostname,
        )

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()

    def get(self, path: str, **query: int) -> Any:
        """The JSON answer. Raises `UnreachableError` or `ApiError`."""
        return self._call("GET", path, params=query)

    def post(self, path: str, body: Any, **query: int) -> Any:
        """The JSON answer to a JSON `body`; raises as `get`."""
        return self._call("POST", path, json=body, params=query)

    def delete(self, path: str) -> Any:
        """The JSON answer; raises as `get`."""
        return self._call("DELETE", path)

    def post_lines(self, path: str, lines: Iterator[bytes], **query: str) -> Any:
        """The JSON answer to JSON Lines, sent as they come; raises as `get`."""
        headers = {"Content-Type": "application/jsonl"}
        return self._call("POST", path, params=query, content=lines, headers=headers)

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            with self._http.stream(method, path, **arguments) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise ApiError("too_large", f"{self.url}{path}: the answer is too large")
                status = response.status_code
        except httpx.TransportError as exc:
            raise UnreachableError(
                f"{self.url} does not answer: {exc or type(exc).__name__}",
                "is the node running? give its URL: --url",
            ) from exc
        try:
            answer = parse_json(bytes(body))
        except ValueError as exc:
            raise ApiError("not_json", f"{self.url}{path}: HTTP {status}, not JSON") from exc
        if status < 400 or path == "/readyz":
            return answer
        error = answer.get("error") if isinstance(answer, dict) else None
        error = error if isinstance(error, dict) else {}
        hint = str(error.get("hint", ""))
        if status == 401:
            hint = f"give --data-dir or set {TOKEN_VARIABLE}"
        message = str(error.get("message", f"HTTP {status}"))
        code = str(error.get("code", status))
        raise ApiError(code, f"{self.url}: {message}", hint, status, error)


def connect(
    url: str | None, folder: Path | None, *, with_token: bool, timeout: float = TIMEOUT
) -> ApiClient:
    """The client for the node at `url`, or for the running node of a data folder.

    The token is PRIME_NODE_TOKEN, else the data folder's. With a `url` alone there may be none.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not (token.isascii() and token.replace(" ", "x").isprintable()):
        # Said here, since an HTTP library would show it.
        raise InputError(f"{TOKEN_VARIABLE} is no token", "it is the content of the api-token file")
    if with_token and not token and (url is None or folder is not None):
        token = data_dir(folder).read_api_token()
    if url is None:
        url = data_dir(folder).read_status().http_url
    return ApiClient(url, token, timeout)
