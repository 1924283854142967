"""`submit` and `status` against a node's real HTTP server."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from node.cli.operating.api_client import ApiClient, ApiError
from node.cli.operating.submit import _wait as wait_for_job
from node.config.datadir import DataDir, NodeStatusFile
from node.http import create_app, serve_http
from node.http.view import (
    Completion,
    GroupInfo,
    JobInfo,
    JobRefused,
    JobRequest,
    JobTaken,
    NodeInfo,
    OwnStage,
    PromptProblem,
    Rejection,
    StageInfo,
    Status,
    WorkInfo,
)
from node.metrics import NodeMetrics
from node.prompts import parse_prompt


class OneJobView:
    """A node that finishes one prompt of a job each time it is asked about it."""

    def __init__(self) -> None:
        self.job_request: JobRequest | None = None
        self.asked = 0
        self.fails = False
        self.refusals: tuple[PromptProblem, ...] = ()

    async def status(self) -> Status:
        return Status(
            peer_id="16Uiu2HAmOrchestrator",
            address="0x" + "ab" * 20,
            version="0.1.0",
            network="test",
            roles=("orchestrator",),
            state="serving",
            started_at=1.0,
            peers=4,
            addresses=("/ip4/10.0.0.1/tcp/4001/p2p/16Uiu2HAmOrchestrator",),
            stage=OwnStage(
                group_id="cd" * 32,
                generation=3,
                stage=1,
                first_layer=10,
                last_layer=20,
                layers=30,
                model="smollm2",
                data_port=4002,
                neighbours=("a", "b", "c"),
                tokens_per_second=12.34,
                busy="rows fill the quota",
            ),
            claimed=25 * 10**17,
            work="waiting: pool 7 offered \x1b]52;c;QQ==\x07: it pays 3 wei",
        )

    async def health(self) -> tuple[bool, Sequence[str]]:
        return False, ["no worker has joined"]

    async def nodes(self) -> Sequence[NodeInfo]:
        return [
            NodeInfo(
                peer_id="16Uiu2HAmWorkerOne",
                roles=("worker",),
                vram_bytes=3 << 29,
                addresses=("/ip4/10.0.0.2/tcp/1",),
            )
        ]

    async def groups(self) -> Sequence[GroupInfo]:
        stage = StageInfo(stage=0, peer_id="16Uiu2HAmWorkerOne", first_layer=0, last_layer=30)
        return [
            GroupInfo(
                group_id="ab" * 32, generation=1, state="running", model="smollm2", stages=(stage,)
            )
        ]

    async def work(self, after: int, limit: int) -> Sequence[WorkInfo]:
        units = [WorkInfo(cursor=n, unit_id=f"{n:064x}", state="accepted") for n in range(1, 1201)]
        return [unit for unit in units if unit.cursor > after][:limit]

    async def rejections(self) -> Sequence[Rejection]:
        return [Rejection(unit_id="cd" * 32, at=1.0, reason="null proof", peer_id="16UiuGuilty")]

    async def submit(self, job: JobRequest, all_or_nothing: bool) -> JobTaken:
        if all_or_nothing and self.refusals:
            raise JobRefused("bad_prompt", "prompt 2: too long", 422, 1, self.refusals)
        self.job_request = job
        refused = len(self.refusals)
        accepted = len(job.prompts) - refused
        return JobTaken(job_id="job-1", accepted=accepted, refused=refused, refusals=self.refusals)

    async def newest_work(self, limit: int) -> tuple[Sequence[WorkInfo], int]:
        units = await self.work(0, 1200)
        return units[-limit:], len(units)

    async def submit_stream(
        self, lines: AsyncIterable[bytes], key: str, all_or_nothing: bool
    ) -> JobTaken:
        prompts = tuple([parse_prompt(line.decode(), "") async for line in lines if line])
        return await self.submit(JobRequest(prompts=prompts, key=key), all_or_nothing)

    async def job(self, job_id: str, first: int, limit: int) -> JobInfo | None:
        assert self.job_request is not None
        self.asked += 1
        total = len(self.job_request.prompts)
        done = min(self.asked, total)
        if self.fails:
            reason = "hidden states are not finite"
            failures = (PromptProblem(index=1, id="b", reason=reason),)
            return JobInfo(
                job_id=job_id,
                state="failed",
                prompts=total,
                failed=1,
                error=reason,
                failures=failures,
            )
        results = tuple(
            Completion(index=n, id=f"p{n}", text=f"answer {n}", finish_reason="eos")
            for n in range(done)
        )
        return JobInfo(
            job_id=job_id,
            state="finished" if done == total else "running",
            prompts=total,
            completed=done,
            accepted=done,
            tokens=7 * done,
            results=results,
        )


@asynccontextmanager
async def running_node(folder: Path, view: OneJobView) -> AsyncIterator[DataDir]:
    data = DataDir(folder)
    data.create()
    app = create_app(view, token=data.api_token(), metrics=NodeMetrics(), bound_host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve_http, app, "127.0.0.1", 0)
        data.write_status(NodeStatusFile(os.getpid(), f"http://127.0.0.1:{port}", "16Uiu2"))
        yield data
        nursery.cancel_scope.cancel()


async def in_thread(cli: Any, *arguments: str) -> Any:
    with trio.fail_after(60):
        return await trio.to_thread.run_sync(partial(cli, *arguments))


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "one"}\n{"prompt": "two", "max_tokens": 9}\n')
    return file


async def test_submit_and_wait(cli: Any, tmp_path: Path, prompts: Path) -> None:
    view = OneJobView()
    async with running_node(tmp_path / "n", view) as data:
        folder = ("--data-dir", str(data.path))
        shown = await in_thread(cli, "submit", str(prompts), *folder, "--key", "k", "--wait")
        assert shown.code == 0
        assert "p0: one\nanswer 0" in shown.out
        assert "job job-1: 2 of 2 completed, 2 accepted, 14 tokens" in shown.out
        assert view.job_request is not None
        assert view.job_request.key == "k"
        assert [p.max_tokens for p in view.job_request.prompts] == [None, 9]
        as_json = await in_thread(cli, "submit", str(prompts), *folder, "--wait", "--json")
        assert json.loads(as_json.out)["state"] == "finished"
        quick = await in_thread(cli, "submit", str(prompts), *folder)
        assert quick.out == "job job-1: 2 prompts accepted\n"


def test_waiting_says_once_what_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    waits = "finished work waits for a validator"
    course = [("running", waits), ("running", waits), ("finished", "")]

    class Client:
        def get(self, path: str, **query: int) -> dict[str, Any]:
            state, reason = course.pop(0)
            return {"state": state, "waits": reason, "completed": 2, "prompts": 2}

    assert wait_for_job(Client(), "job-1", patience=0.0)["state"] == "finished"  # type: ignore[arg-type]
    assert capsys.readouterr().err.count(waits) == 1


async def test_a_failed_job_is_a_failed_command(cli: Any, tmp_path: Path, prompts: Path) -> None:
    view = OneJobView()
    view.fails = True
    async with running_node(tmp_path / "n", view) as data:
        shown = await in_thread(cli, "submit", str(prompts), "--data-dir", str(data.path), "--wait")
    assert shown.code == 1
    assert "error: job job-1: 1 of 2 prompts failed: hidden states are not finite" in shown.err
    assert "prompt 2 (b) failed: hidden states are not finite" in shown.out


async def test_prompts_that_cannot_be_run_are_named(
    cli: Any, tmp_path: Path, prompts: Path
) -> None:
    view = OneJobView()
    view.refusals = (PromptProblem(index=1, reason="too long"),)
    async with running_node(tmp_path / "n", view) as data:
        command = ("submit", str(prompts), "--data-dir", str(data.path))
        shown = await in_thread(cli, *command)
        assert shown.code == 0
        assert shown.out == "prompt 2 is refused: too long\njob job-1: 1 prompts accepted\n"
        as_json = json.loads((await in_thread(cli, *command, "--json")).out)
        assert (as_json["accepted"], as_json["refusals"][0]["index"]) == (1, 1)
        view.job_request = None
        whole = await in_thread(cli, *command, "--all-or-nothing")
        assert whole.code == 3
        assert view.job_request is None
        assert "prompt 2 is refused: too long" in whole.out
        assert "prompt 2: too long" in whole.err


async def test_a_body_over_the_limit_is_bad_input_with_a_hint(tmp_path: Path) -> None:
    """Over a real connection, of which the server stops reading half-way."""
    async with running_node(tmp_path / "n", OneJobView()) as data:
        url, token = data.read_status().http_url, data.read_api_token()

        def post() -> None:
            with ApiClient(url, token) as client:
                client.post("/v1/jobs", {"prompts": ["x" * 10_000_000]})

        with trio.fail_after(60), pytest.raises(ApiError, match="at most 8388608 bytes") as caught:
            await trio.to_thread.run_sync(post)
    assert caught.value.exit_code == 3
    assert "JSON Lines" in caught.value.hint


async def test_without_the_token_the_way_to_it_is_said(
    cli: Any, tmp_path: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_node(tmp_path / "n", OneJobView()) as data:
        url = data.read_status().http_url
        shown = await in_thread(cli, "submit", str(prompts), "--url", url)
        assert shown.code == 1
        assert "give --data-dir or set PRIME_NODE_TOKEN" in shown.err
        monkeypatch.setenv("PRIME_NODE_TOKEN", data.read_api_token())
        shown = await in_thread(cli, "submit", str(prompts), "--url", url)
        assert shown.code == 0


async def test_status_shows_all_of_it(cli: Any, tmp_path: Path) -> None:
    async with running_node(tmp_path / "n", OneJobView()) as data:
        shown = await in_thread(cli, "status", "--data-dir", str(data.path))
        assert "joined at /ip4/10.0.0.1/tcp/4001/p2p/16Uiu2HAmOrchestrator\n" in shown.out
        assert shown.code == 0
        for text in (
            "16Uiu2HAmOrchestrator  orchestrator  serving  4 peers",
            "worker waiting: pool 7 offered \\x1b]52;c;QQ==\\x07: it pays 3 wei",
            "not ready: no worker has joined",
            "1.5 GiB",
            "[0–30)",
            "stage 2 of 3: layers [10–20) of 30 of smollm2, 12.3 tokens/s, data port 4002",
            "takes no new work: rows fill the quota",
            "claimed 2.5 PRIME",
            "/ip4/10.0.0.2",
            "spares",
            "work (newest 20 of 1200)",
            "null proof",
        ):
            assert text in shown.out
        as_json = json.loads(
            (await in_thread(cli, "status", "--data-dir", str(data.path), "--json")).out
        )
        assert [unit["cursor"] for unit in as_json["work"]] == list(range(1181, 1201))
        assert as_json["work_total"] == 1200
        assert as_json["nodes"][0]["peer_id"] == "16Uiu2HAmWorkerOne"


def test_a_broken_prompts_file_is_named_with_its_line(cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "fine"}\n\n{"prompt": 5}\n')
    shown = cli("submit", str(file), "--url", "http://127.0.0.1:1")
    assert shown.code == 3
    assert shown.err.startswith(f"error: {file}:3: messages.0.content: ")


def test_no_node_is_one_clear_line(cli: Any, tmp_path: Path, prompts: Path) -> None:
    stopped = cli("status", "--data-dir", str(tmp_path))
    assert stopped.code == 3
    assert "is the node running?" in stopped.err
    nobody = cli("status", "--url", "http://127.0.0.1:1")
    assert nobody.code == 4
    assert "http://127.0.0.1:1 does not answer" in nobody.err
    wrong = cli("status", "--url", "127.0.0.1:7070")
    assert wrong.code == 3
    assert "not a URL" in wrong.err
