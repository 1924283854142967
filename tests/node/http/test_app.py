"""The routes: what they answer, and every way they refuse."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx
import pytest

from node.http.guards import MAX_BODY, host_allowed
from node.http.view import JobRefused, PromptProblem, WorkInfo

if TYPE_CHECKING:
    from conftest import PlainView

JOB = {"prompts": [{"prompt": "Hi", "max_tokens": 3}], "key": "k1"}


async def test_health_is_not_readiness(client: httpx.AsyncClient, view: PlainView) -> None:
    assert (await client.get("/readyz")).status_code == 200
    view.reasons = ["no bootstrap peer answers"]
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "reasons": ["no bootstrap peer answers"]}
    assert (await client.get("/healthz")).status_code == 200


async def test_what_the_node_sees(client: httpx.AsyncClient) -> None:
    status = (await client.get("/v1/status")).json()
    assert (status["state"], status["roles"]) == ("serving", ["orchestrator"])
    assert (await client.get("/v1/nodes")).json()["items"][0]["location"] == [1.0, 2.0]
    assert (await client.get("/v1/groups")).json()["items"][0]["model"] == "smollm2"
    assert (await client.get("/v1/rejections")).json()["items"][0]["stage"] == 1


async def test_work_is_paged_to_its_end(client: httpx.AsyncClient, view: PlainView) -> None:
    view.units = [WorkInfo(cursor=n, unit_id=str(n), state="queued") for n in (2, 3, 5, 7, 11)]
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        page = (await client.get("/v1/work", params={"after": after, "limit": 2})).json()
        seen += [unit["cursor"] for unit in page["items"]]
        after = page["next"]
    assert seen == [2, 3, 5, 7, 11]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "after=-1", "after=²", "after=" + "9" * 30]
)
async def test_paging_is_bounded(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/v1/work?{query}")
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid"


async def test_a_job_is_taken_once(
    client: httpx.AsyncClient, view: PlainView, bearer: dict[str, str]
) -> None:
    for _ in range(2):
        answer = await client.post("/v1/jobs", json=JOB, headers=bearer)
        assert answer.status_code == 202
        taken = {"job_id": "k1", "accepted": 1, "refused": 0, "refusals": []}
        assert answer.json() == taken
        assert answer.headers["location"] == "/v1/jobs/k1"
    assert view.jobs["k1"].prompts[0].messages[0].content == "Hi"
    job = await client.get("/v1/jobs/k1", headers=bearer)
    assert (job.json()["state"], job.json()["prompts"]) == ("queued", 1)
    missing = await client.get("/v1/jobs/none", headers=bearer)
    assert missing.status_code == 404


async def test_a_jobs_dataset_is_json_lines(
    client: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    job = {"prompts": [{"prompt": "eins"}, {"prompt": "zwölf\nzwei"}], "key": "k1"}
    await client.post("/v1/jobs", json=job, headers=bearer)
    answer = await client.get("/v1/jobs/k1/dataset", headers=bearer)
    assert answer.headers["content-type"] == "application/jsonl"
    rows = [json.loads(line) for line in answer.content.splitlines()]
    assert rows == [{"prompt": "eins"}, {"prompt": "zwölf\nzwei"}]
    assert (await client.get("/v1/jobs/none/dataset", headers=bearer)).status_code == 404
    assert (await client.get("/v1/jobs/k1/dataset")).status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic " + "7" * 64},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer é".encode("latin-1")},
    ],
)
async def test_jobs_want_the_token(
    client: httpx.AsyncClient, view: PlainView, header: dict[str, str]
) -> None:
    for answer in (
        await client.post("/v1/jobs", json=JOB, headers=header),
        await client.get("/v1/jobs/k1", headers=header),
    ):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "unauthorized"
    assert not view.jobs


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "not JSON"),
        (b"\xff", 400, "not JSON"),
        (b"[" * 200_000, 400, "not JSON"),
        (b"[]", 422, "body: "),
        (b"{}", 422, "prompts: "),
        (b'{"prompts": []}', 422, "prompts: "),
        (b'{"prompts": [{"prompt": "a"}, {"prompt": "b", "top_p": 2}]}', 422, "prompts.1.top_p"),
        (b'{"prompts": [{"prompt": "a"}], "key": "a b"}', 422, "key: "),
        (b'{"prompts": [{"prompt": "a"}], "extra": 1}', 422, "extra: "),
    ],
)
async def test_a_bad_job_is_explained(
    client: httpx.AsyncClient,
    view: PlainView,
    bearer: dict[str, str],
    body: bytes,
    status: int,
    said: str,
) -> None:
    answer = await client.post("/v1/jobs", content=body, headers=bearer)
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]
    assert not view.jobs


async def test_problems_are_listed_up_to_a_bound(
    client: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    prompts = [{"prompt": "a", "top_k": -1}] * 100
    answer = await client.post("/v1/jobs", json={"prompts": prompts}, headers=bearer)
    problems = answer.json()["error"]["problems"]
    assert len(problems) == 20
    assert problems[3]["path"] == "prompts.3.top_k"


async def test_the_nodes_refusal_reaches_the_client(
    client: httpx.AsyncClient, view: PlainView, bearer: dict[str, str]
) -> None:
    view.refusal = JobRefused("busy", "the queue is full", 503)
    answer = await client.post("/v1/jobs", json=JOB, headers=bearer)
    assert answer.status_code == 503
    assert answer.json() == {"error": {"code": "busy", "message": "the queue is full"}}
    problem = PromptProblem(index=3, id="q", reason="too long")
    view.refusal = JobRefused("bad_prompt", "prompt 4: too long", 422, 1, (problem,))
    answer = await client.post("/v1/jobs", json=JOB, headers=bearer)
    assert answer.status_code == 422
    assert answer.json()["error"] == {
        "code": "bad_prompt",
        "message": "prompt 4: too long",
        "refused": 1,
        "refusals": [{"index": 3, "id": "q", "reason": "too long"}],
    }


async def test_whoever_wants_all_or_nothing_says_so(
    client: httpx.AsyncClient, view: PlainView, bearer: dict[str, str]
) -> None:
    for query, whole in (("", False), ("?all_or_nothing=false", False), ("?all_or_nothing", True)):
        answer = await client.post(f"/v1/jobs{query}", json=JOB, headers=bearer)
        assert (answer.status_code, view.whole) == (202, whole)
    lines = {**bearer, "Content-Type": "application/jsonl"}
    line = b'{"prompt": "a"}'
    url = "/v1/jobs?key=k&all_or_nothing="
    answer = await client.post(f"{url}true", content=line, headers=lines)
    assert (answer.status_code, view.whole) == (202, True)
    assert (await client.post(f"{url}2", content=line, headers=lines)).status_code == 422


async def test_what_other_programs_write_is_taken(
    client: httpx.AsyncClient, view: PlainView, bearer: dict[str, str]
) -> None:
    body = b'\xef\xbb\xbf{"prompts": [{"prompt": "a", "stop": null, "topic": 5}]}\r\n'
    answer = await client.post("/v1/jobs", content=body, headers=bearer)
    assert answer.status_code == 202
    (prompt,) = view.jobs[answer.json()["job_id"]].prompts
    assert (prompt.stop, prompt.metadata) == ((), {"topic": 5})


async def test_a_body_too_large_is_cut_off(
    client: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    declared = {**bearer, "Content-Length": str(MAX_BODY + 1)}
    answer = await client.post("/v1/jobs", content=b"{}", headers=declared)
    assert answer.status_code == 413
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 4 * MAX_BODY:
            sent += 1 << 20
            yield b" " * (1 << 20)

    answer = await client.post("/v1/jobs", content=endless(), headers=bearer)
    assert answer.status_code == 413
    assert answer.json()["error"]["limit"] == MAX_BODY
    assert "JSON Lines" in answer.json()["error"]["hint"]
    assert sent <= MAX_BODY + (2 << 20)


async def test_a_large_job_within_the_limit_is_taken(
    client: httpx.AsyncClient, view: PlainView, bearer: dict[str, str]
) -> None:
    body = json.dumps({"prompts": [{"prompt": "x" * 200_000}] * 30, "key": "big"})
    answer = await client.post("/v1/jobs", content=body, headers=bearer)
    assert answer.status_code == 202
    assert len(view.jobs["big"].prompts) == 30


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nope", 404), ("GET", "/v1/jobs", 405), ("DELETE", "/v1/nodes", 405)],
)
async def test_starlettes_refusals_have_our_shape(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message"}


async def test_a_foreign_host_name_is_refused(
    client: httpx.AsyncClient, view: PlainView, bearer: dict[str, str]
) -> None:
    headers = {**bearer, "Host": "evil.example:7070"}
    answer = await client.post("/v1/jobs", json=JOB, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "wrong_host"
    assert not view.jobs


@pytest.mark.parametrize(
    ("header", "bound", "allowed"),
    [
        ("localhost:7070", "127.0.0.1", True),
        ("LOCALHOST", "127.0.0.1", True),
        ("127.0.0.2:1", "127.0.0.1", True),
        ("[::1]:7070", "::1", True),
        ("[::1]", "localhost", True),
        ("", "127.0.0.1", False),
        ("127.0.0.1.evil.example", "127.0.0.1", False),
        ("localhost.evil.example:7070", "127.0.0.1", False),
        ("0x7f.1:7070", "127.0.0.1", False),
        ("192.168.1.5:7070", "127.0.0.1", False),
        ("anything.example", "0.0.0.0", True),
    ],
)
def test_host_check(header: str, bound: str, allowed: bool) -> None:
    assert host_allowed(header, bound) is allowed
