"""The routes of a node's HTTP API.

| route | answer |
|---|---|
| GET /healthz | 200 while the process can answer |
| GET /readyz | 200, or 503 with the reasons why not |
| GET /metrics | Prometheus text |
| GET /v1/status | this node |
| GET /v1/nodes, /v1/groups, /v1/rejections | `{"items": [...]}` |
| GET /v1/work?after=&limit= | `{"items": [...], "next": cursor or null}` |
| GET /v1/work?last= | the newest units, and `"total"` |
| POST /v1/jobs | `{"prompts": [...], "key": "..."}` → 202 with the job's id; bearer token |
| POST /v1/jobs?key= | the same of prompts as JSON Lines (application/jsonl), of any number |
| POST /v1/jobs?all_or_nothing=true | the same, refused as a whole where one prompt cannot be run |
| GET /v1/jobs/{job_id}?first=&limit= | the job and a page of its completions; bearer token |
| DELETE /v1/jobs/{job_id} | begin nothing more of the job; bearer token |
| GET /v1/jobs/{job_id}/dataset | the accepted completions as JSON Lines; bearer token |
| POST /v1/prune?dry_run= | what went from the disk (0) or would go (1); bearer token |

Shapes are in `node.http.view`. Errors are `{"error": {"code", "message", ...}}`: 400 not JSON, 401
no token, 403 wrong host, 404, 405, 408, 413 body too large, 422 values out of bounds (with
`problems`), and what `submit` refuses with. A `hint` says what to do about it.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Any

import trio
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from node.http.guards import Gate, HttpRefusal, error_response, read_body, read_lines, require_token
from node.http.view import MAX_PAGE, JobRefused, JobRequest, NodeView
from node.metrics import NodeMetrics
from proofs.encoding.jsontext import parse_json

MAX_PROBLEMS = 20
MAX_CURSOR = 2**63 - 1
LINES = ("application/jsonl", "application/x-ndjson")
LINES_HINT = "send the prompts as JSON Lines, which may have any length: application/jsonl, ?key="
KEY = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def create_app(view: NodeView, *, token: str, metrics: NodeMetrics, bound_host: str) -> Starlette:
    """The ASGI application of one node. `token` guards jobs; `bound_host` is where it is served."""
    api = _Api(view, token, metrics)
    routes = [
        Route("/healthz", api.healthz),
        Route("/readyz", api.readyz),
        Route("/metrics", api.metrics),
        Route("/v1/status", api.status),
        Route("/v1/nodes", api.nodes),
        Route("/v1/groups", api.groups),
        Route("/v1/work", api.work),
        Route("/v1/rejections", api.rejections),
        Route("/v1/jobs", api.submit, methods=["POST"]),
        Route("/v1/jobs/{job_id}", api.job),
        Route("/v1/jobs/{job_id}", api.cancel, methods=["DELETE"]),
        Route("/v1/jobs/{job_id}/dataset", api.dataset),
        Route("/v1/prune", api.prune, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Gate, bound_host=bound_host, metrics=metrics)],
        exception_handlers={HttpRefusal: _refused, HTTPException: _http_error},
    )


async def _refused(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HttpRefusal)
    return exc.response()


async def _http_error(_request: Request, exc: Exception) -> Response:
    """Starlette's own refusals (no such route, wrong method) in our shape."""
    assert isinstance(exc, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(exc.status_code, "bad_request")
    return error_response(exc.status_code, code, exc.detail, dict(exc.headers or {}))


class _Api:
    def __init__(self, view: NodeView, token: str, metrics: NodeMetrics) -> None:
        self._view = view
        self._token = token
        self._metrics = metrics

    async def healthz(self, _request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def readyz(self, _request: Request) -> Response:
        ready, reasons = await self._view.health()
        body = {"ready": ready, "reasons": list(reasons)}
        return JSONResponse(body, status_code=200 if ready else 503)

    async def metrics(self, _request: Request) -> Response:
        return Response(self._metrics.exposition(), media_type="text/plain; version=0.0.4")

    async def status(self, _request: Request) -> Response:
        return JSONResponse((await self._view.status()).model_dump(mode="json"))

    async def nodes(self, _request: Request) -> Response:
        return _items(await self._view.nodes())

    async def groups(self, _request: Request) -> Response:
        return _items(await self._view.groups())

    async def rejections(self, _request: Request) -> Response:
        return _items(await self._view.rejections())

    async def work(self, request: Request) -> Response:
        if "last" in request.query_params:
            last = _number(request, "last", 1, MAX_PAGE, default=100)
            newest, total = await self._view.newest_work(last)
            items = [unit.model_dump(mode="json") for unit in newest]
            return JSONResponse({"items": items, "next": None, "total": total})
        after = _number(request, "after", 0, MAX_CURSOR, default=0)
        limit = _number(request, "limit", 1, MAX_PAGE, default=100)
        units = list(await self._view.work(after, limit))[:limit]
        full = len(units) == limit
        return JSONResponse(
            {
                "items": [unit.model_dump(mode="json") for unit in units],
                "next": units[-1].cursor if full else None,
            }
        )

    async def submit(self, request: Request) -> Response:
        require_token(request, self._token)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        whole = _flag(request, "all_or_nothing")
        try:
            if kind in LINES:
                key = job_key(request.query_params.get("key", ""))
                taken = await self._view.submit_stream(read_lines(request), key, whole)
            else:
                body = await read_body(request, hint=LINES_HINT)
                job = await trio.to_thread.run_sync(parse_job, body)
                taken = await self._view.submit(job, whole)
        except JobRefused as exc:
            refused = [problem.model_dump() for problem in exc.refusals]
            details = {"refused": exc.refused, "refusals": refused} if refused else {}
            raise HttpRefusal(exc.status, exc.code, exc.message, **details) from exc
        location = {"Location": f"/v1/jobs/{taken.job_id}"}
        return JSONResponse(taken.model_dump(mode="json"), status_code=202, headers=location)

    async def job(self, request: Request) -> Response:
        require_token(request, self._token)
        first = _number(request, "first", 0, MAX_CURSOR, default=0)
        limit = _number(request, "limit", 0, MAX_PAGE, default=MAX_PAGE)
        job = await self._view.job(request.path_params["job_id"], first, limit)
        if job is None:
            raise HttpRefusal(404, "not_found", "no such job")
        return JSONResponse(job.model_dump(mode="json"))

    async def cancel(self, request: Request) -> Response:
        require_token(request, self._token)
        job_id = request.path_params["job_id"]
        if not await self._view.cancel(job_id):
            raise HttpRefusal(404, "not_found", "no such job")
        return JSONResponse({"job_id": job_id, "state": "cancelled"})

    async def prune(self, request: Request) -> Response:
        """Remove what may go, or with `dry_run=1` say what that is."""
        require_token(request, self._token)
        dry = bool(_number(request, "dry_run", 0, 1, default=1))
        return _items(await self._view.prune(dry=dry))

    async def dataset(self, request: Request) -> Response:
        """The job's accepted completions as JSON Lines, sent as they are read."""
        require_token(request, self._token)
        pages = await self._view.dataset(request.path_params["job_id"])
        if pages is None:
            raise HttpRefusal(404, "not_found", "no such job")
        return StreamingResponse(_as_lines(pages), media_type="application/jsonl")


async def _as_lines(pages: AsyncIterable[Sequence[dict[str, Any]]]) -> AsyncIterator[bytes]:
    async for rows in pages:
        yield b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def job_key(key: str) -> str:
    """The key of a job that is sent as lines, whose id cannot follow from what is yet to come.
    Raises `HttpRefusal` (422)."""
    if not KEY.fullmatch(key):
        raise HttpRefusal(422, "invalid", "prompts as lines need ?key=, of A-Z a-z 0-9 . _ : -")
    return key


def parse_job(body: bytes) -> JobRequest:
    """Check the body of POST /v1/jobs. Raises `HttpRefusal` (400 or 422)."""
    try:
        data = parse_json(body.removeprefix(codecs.BOM_UTF8))
    except ValueError as exc:
        raise HttpRefusal(400, "not_json", f"the body is not JSON: {exc}") from exc
    try:
        return JobRequest.model_validate(data)
    except ValidationError as exc:
        problems = [
            {"path": ".".join(str(part) for part in error["loc"]), "message": error["msg"]}
            for error in exc.errors(include_url=False, include_context=False, include_input=False)
        ][:MAX_PROBLEMS]
        first = problems[0]
        raise HttpRefusal(
            422, "invalid", f"{first['path'] or 'body'}: {first['message']}", problems=problems
        ) from exc


def _items(items: Sequence[BaseModel]) -> Response:
    return JSONResponse({"items": [item.model_dump(mode="json") for item in items]})


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in ("true", "false", "1", "0", ""):
        raise HttpRefusal(422, "invalid", f"{name} is true or false")
    return text in ("true", "1", "")


def _number(request: Request, name: str, low: int, high: int, *, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and low <= int(text) <= high):
        raise HttpRefusal(422, "invalid", f"{name} is a whole number from {low} to {high}")
    return int(text)
