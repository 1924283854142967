"""A node view over plain data, and the app it is served by, spoken to as ASGI over httpx."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from node.http import create_app
from node.http.view import (
    GroupInfo,
    JobInfo,
    JobRefused,
    JobRequest,
    JobTaken,
    NodeInfo,
    Rejection,
    Status,
    WorkInfo,
)
from node.metrics import NodeMetrics
from node.prompts import parse_prompt

TOKEN = "7" * 64


@dataclass
class PlainView:
    """A `NodeView` whose answers the test sets."""

    reasons: list[str] = field(default_factory=list)
    units: list[WorkInfo] = field(default_factory=list)
    jobs: dict[str, JobRequest] = field(default_factory=dict)
    refusal: JobRefused | None = None
    whole: bool | None = None

    async def status(self) -> Status:
        return Status(
            peer_id="16Uiu2HAmPeer",
            address="0x" + "ab" * 20,
            version="0.1.0",
            network="test",
            roles=("orchestrator",),
            state="serving",
            started_at=1.0,
        )

    async def health(self) -> tuple[bool, Sequence[str]]:
        return not self.reasons, self.reasons

    async def nodes(self) -> Sequence[NodeInfo]:
        return [NodeInfo(peer_id="16Uiu2HAmPeer", roles=("worker",), location=(1.0, 2.0))]

    async def groups(self) -> Sequence[GroupInfo]:
        return [GroupInfo(group_id="ab", generation=1, state="running", model="smollm2")]

    async def work(self, after: int, limit: int) -> Sequence[WorkInfo]:
        return [unit for unit in self.units if unit.cursor > after][:limit]

    async def rejections(self) -> Sequence[Rejection]:
        return [Rejection(unit_id="ab", at=2.0, reason="null proof", stage=1, peer_id="x")]

    async def submit(self, job: JobRequest, all_or_nothing: bool) -> JobTaken:
        if self.refusal is not None:
            raise self.refusal
        self.whole = all_or_nothing
        job_id = job.key or str(len(self.jobs))
        self.jobs.setdefault(job_id, job)
        return JobTaken(job_id=job_id, accepted=len(job.prompts))

    async def newest_work(self, limit: int) -> tuple[Sequence[WorkInfo], int]:
        return self.units[-limit:], len(self.units)

    async def submit_stream(
        self, lines: AsyncIterable[bytes], key: str, all_or_nothing: bool
    ) -> JobTaken:
        prompts = tuple([parse_prompt(line.decode(), "") async for line in lines if line])
        return await self.submit(JobRequest(prompts=prompts, key=key), all_or_nothing)

    async def cancel(self, job_id: str) -> bool:
        return self.jobs.pop(job_id, None) is not None

    async def job(self, job_id: str, first: int, limit: int) -> JobInfo | None:
        job = self.jobs.get(job_id)
        if job is None:
            return None
        return JobInfo(job_id=job_id, state="queued", prompts=len(job.prompts))

    async def dataset(self, job_id: str) -> AsyncIterator[Sequence[dict[str, Any]]] | None:
        job = self.jobs.get(job_id)
        return None if job is None else self._pages(job)

    async def _pages(self, job: JobRequest) -> AsyncIterator[Sequence[dict[str, Any]]]:
        for prompt in job.prompts:
            yield [{"prompt": prompt.messages[-1].content}]


@pytest.fixture
def view() -> PlainView:
    return PlainView()


@pytest.fixture
def metrics() -> NodeMetrics:
    return NodeMetrics()


@pytest.fixture
async def client(view: PlainView, metrics: NodeMetrics) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(view, token=TOKEN, metrics=metrics, bound_host="127.0.0.1")
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7070") as opened:
        yield opened


@pytest.fixture
def bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN}"}
