"""What a simulation asks of the orchestrator over HTTP.

In order: wait for a group, submit, wait for completions, for settlement and for claims, and collect
the results. HTTP has no event to wait for, so every wait asks again and again. All of them raise
`UnreachableError` where the orchestrator does not answer.
"""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import trio

from node.errors import NodeError, UnreachableError
from node.prompts import Prompt, job_body
from node.simulation.ledger import Ledger
from node.simulation.network import SimulatedNetwork
from node.simulation.options import CRASH, SimulationOptions
from node.simulation.outcome import SimulationOutcome
from node.simulation.progress import Progress

POLL_SECONDS = 0.5
SETTLE_SECONDS = 90.0
HTTP_SECONDS = 30.0


def open_api(network: SimulatedNetwork) -> httpx.AsyncClient:
    """A client of the orchestrator's HTTP API, with its token."""
    data = network.nodes["orchestrator"].data
    return httpx.AsyncClient(
        base_url=data.read_status().http_url,
        headers={"Authorization": f"Bearer {data.read_api_token()}"},
        timeout=HTTP_SECONDS,
        trust_env=False,
    )


async def _get(api: httpx.AsyncClient, path: str) -> Any:
    try:
        answer = await api.get(path)
        answer.raise_for_status()
    except httpx.HTTPError as exc:
        raise UnreachableError(f"orchestrator {path}: {exc or type(exc).__name__}") from exc
    return answer.json()


async def wait_for_group(api: httpx.AsyncClient, outcome: SimulationOutcome) -> None:
    """Wait until a group runs; it becomes `outcome.first_group`.

    Raises `NodeError` where all workers are there and no group can be planned over them.
    """
    orchestrator = outcome.network.running["orchestrator"]
    while True:
        nodes = (await _get(api, "/v1/nodes"))["items"]
        healthy = sum(node["state"] == "healthy" for node in nodes)
        obstacle = orchestrator.latest("no group can be planned")
        if obstacle is not None and healthy == outcome.options.workers:
            raise NodeError(f"no group can be formed: {obstacle['reason']}")
        groups = (await _get(api, "/v1/groups"))["items"]
        running = [group for group in groups if group["state"] == "running"]
        if running:
            outcome.first_group = running[0]
            return
        await trio.sleep(POLL_SECONDS)


def job_prompts(options: SimulationOptions) -> tuple[Prompt, ...]:
    """The prompts with the simulation's defaults filled in."""
    return tuple(
        with_defaults(prompt, options.max_tokens, options.seed) for prompt in options.prompts
    )


def with_defaults(prompt: Prompt, max_tokens: int, seed: int) -> Prompt:
    """The prompt, with `max_tokens` and `seed` where it names none of its own."""
    update: dict[str, Any] = {}
    if prompt.max_tokens is None:
        update["max_tokens"] = max_tokens
    if prompt.seed is None:
        update["seed"] = seed
    return prompt.model_copy(update=update)


async def submit(api: httpx.AsyncClient, outcome: SimulationOutcome) -> str:
    """Submit the prompts as one job; returns its id. Raises `NodeError` when it is refused, be it
    for a single prompt."""
    body = job_body(job_prompts(outcome.options), "simulation")
    answer = await api.post("/v1/jobs", params={"all_or_nothing": "true"}, json=body)
    if answer.status_code >= 400:
        reason = answer.json()["error"]["message"]
        raise NodeError(f"the orchestrator refused the job: {reason}")
    return str(answer.json()["job_id"])


async def wait_for_job(
    api: httpx.AsyncClient,
    outcome: SimulationOutcome,
    job_id: str,
    progress: Progress,
    begun: float,
) -> None:
    """Wait until the job has ended, killing nodes when their faults are due.

    `begun` is `time.monotonic()` when the work began; `outcome.seconds` are counted from it.
    """
    crashes = [fault for fault in outcome.options.faults if fault.kind == CRASH]
    first_token = 0.0
    while True:
        job = await _get(api, f"/v1/jobs/{job_id}")
        now = time.monotonic()
        if job["tokens"] and not first_token:
            first_token = now
            outcome.seconds["first token"] = now - begun
        for fault in [f for f in crashes if first_token and now - first_token >= f.after]:
            crashes.remove(fault)
            await _crash(api, outcome.network, fault.node, progress)
        progress.completed(job["completed"], job["accepted"], job["tokens"])
        if job["completed"] == job["prompts"] and "completed" not in outcome.seconds:
            outcome.seconds["completed"] = now - begun
        if job["completed"] < job["prompts"]:
            outcome.seconds.pop("completed", None)
        if job["state"] in ("finished", "failed"):
            outcome.job = job
            outcome.seconds["accepted"] = now - begun
            return
        await trio.sleep(POLL_SECONDS)


async def _crash(
    api: httpx.AsyncClient, network: SimulatedNetwork, name: str, progress: Progress
) -> None:
    """`kill -9`. A worker stays dead, for the network to get over; others are started again."""
    progress.say(f"kill -9 {name}")
    network.running[name].kill()
    if name in network.options.worker_names:
        return
    progress.say(f"starting {name} again")
    await network.restart(name)
    api.base_url = httpx.URL(network.nodes["orchestrator"].data.read_status().http_url)


async def wait_for_settlement(
    api: httpx.AsyncClient, outcome: SimulationOutcome, job_id: str
) -> None:
    """Wait until every unit of the job is settled or expired, or it takes too long."""
    with trio.move_on_after(SETTLE_SECONDS):
        while True:
            outcome.work = (await _get(api, "/v1/work?limit=500"))["items"]
            mine = [unit for unit in outcome.work if unit["job_id"] == job_id]
            if all(unit["state"] in ("settled", "expired") for unit in mine):
                return
            await trio.sleep(POLL_SECONDS)


async def wait_for_claims(api: httpx.AsyncClient, ledger: Ledger) -> None:
    """Until all that the newest root owes was claimed, or it takes too long."""
    pool_id = int((await _get(api, "/v1/status"))["pool_id"])
    with trio.move_on_after(SETTLE_SECONDS):
        while await ledger.unclaimed(pool_id):  # noqa: ASYNC110 - a chain has no event to wait for
            await trio.sleep(POLL_SECONDS)


async def collect(api: httpx.AsyncClient, outcome: SimulationOutcome, job_id: str) -> None:
    """Take down what the orchestrator shows at the end, and write `dataset.jsonl`."""
    outcome.nodes = (await _get(api, "/v1/nodes"))["items"]
    outcome.groups = (await _get(api, "/v1/groups"))["items"]
    outcome.rejections = (await _get(api, "/v1/rejections"))["items"]
    outcome.job = await _get(api, f"/v1/jobs/{job_id}")
    answer = await api.get(f"/v1/jobs/{job_id}/dataset")
    answer.raise_for_status()
    (outcome.options.output / "dataset.jsonl").write_bytes(answer.content)
    outcome.rows = [json.loads(line) for line in answer.content.splitlines()]
