"""`prime-node simulate`: start a network, give it work, let things go wrong, and judge the outcome.

The steps are what a person would do by hand, in order: chain, orchestrator, workers and validator,
submit, wait for verdicts, settlement and claims, read balances, stop everything. What was seen is
written to `report.json`; the exit status says whether all of it held (`checks.py`).
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trio

from node.console.preparing import prepare_with_progress
from node.errors import EXIT_INTERRUPTED, NodeError, UnreachableError
from node.prompts import Prompt, job_body
from node.simulation.cases import write_cases
from node.simulation.checks import Check, run_checks
from node.simulation.ledger import Balances, Ledger, open_ledger
from node.simulation.memory import MemoryWatch
from node.simulation.network import SimulatedNetwork, fresh_output
from node.simulation.options import CRASH, SimulationOptions, load_topology
from node.simulation.process import Child, Children, open_children
from node.simulation.progress import Progress, open_progress
from node.simulation.report import print_report, write_report

POLL_SECONDS = 0.5
SETTLE_SECONDS = 90.0
HTTP_SECONDS = 30.0


@dataclass
class SimulationOutcome:
    """All that a simulation saw; what `report.json` holds and the checks read."""

    options: SimulationOptions
    network: SimulatedNetwork
    seconds: dict[str, float] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    first_group: dict[str, Any] = field(default_factory=dict)
    work: list[dict[str, Any]] = field(default_factory=list)
    rejections: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    before: Balances = field(default_factory=dict)
    after: Balances = field(default_factory=dict)
    stakes_before: Balances = field(default_factory=dict)
    stakes_after: Balances = field(default_factory=dict)
    memory: MemoryWatch = field(default_factory=MemoryWatch)
    failed_children: list[str] = field(default_factory=list)
    interrupted: bool = True
    """Until the run has come to its end."""
    left_running: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    cases: list[Path] = field(default_factory=list)


def simulate(options: SimulationOptions) -> int:
    """Run a simulation; the exit status, 0 only if every check held."""
    options.check()
    prepare_with_progress(options.model, options.model_store)
    outcome = trio.run(_simulate, options, strict_exception_groups=True)
    if outcome.interrupted:
        return EXIT_INTERRUPTED
    outcome.left_running = _still_running(outcome.network)
    outcome.checks = run_checks(outcome)
    outcome.cases = write_cases(outcome.network, options.output)
    write_report(outcome)
    print_report(outcome)
    return 0 if all(check.held for check in outcome.checks) else 1


async def _simulate(options: SimulationOptions) -> SimulationOutcome:
    fresh_output(options.output)
    topology = load_topology(options.topology)
    with open_progress(len(options.prompts)) as progress:
        async with open_children(options.output / "logs") as children:
            network = SimulatedNetwork(options, topology, children)
            outcome = SimulationOutcome(options, network)

            def ended(child: Child) -> None:
                if not child.expected_to_end:
                    outcome.failed_children.append(f"{child.name}: {child.last_words()}")

            children.on_end = ended
            async with trio.open_nursery() as watchers:
                with trio.CancelScope() as interruptible:
                    await watchers.start(_watch_signals, interruptible, children)
                    await _until_done(outcome, progress)
                progress.stage("stopping every process")
                await children.stop_all()
                watchers.cancel_scope.cancel()
    return outcome


async def _until_done(outcome: SimulationOutcome, progress: Progress) -> None:
    options = outcome.options
    with trio.move_on_after(options.timeout) as scope:
        await _run(outcome, progress)
    if scope.cancelled_caught:
        outcome.failed_children.append(f"no end within {options.timeout:g} s")
    outcome.interrupted = False
    if options.keep:
        progress.say("the network keeps running; Ctrl-C stops it")
        await trio.sleep_forever()


async def _watch_signals(
    scope: trio.CancelScope,
    children: Children,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The first Ctrl-C ends the run, and every child is asked to leave; a second one kills them.

    Signals are taken here and not as KeyboardInterrupt, which Python may raise, and lose, in the
    middle of anything, a fork included.
    """
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if scope.cancel_called:
                children.kill_all()
            scope.cancel()


async def _run(outcome: SimulationOutcome, progress: Progress) -> None:
    network, seconds = outcome.network, outcome.seconds
    started = time.monotonic()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_memory, outcome)
        progress.stage("chain and contracts")
        await network.start_chain()
        seconds["chain"] = time.monotonic() - started
        progress.stage("orchestrator")
        await network.start_orchestrator()
        progress.stage(f"{outcome.options.workers} workers, validator")
        await network.start_others()
        progress.stage("forming a group")
        async with _api(network) as api, open_ledger(network) as ledger:
            outcome.before = await ledger.balances()
            outcome.stakes_before = await ledger.stakes()
            await _wait_for_group(api, outcome)
            seconds["network up"] = time.monotonic() - started
            progress.stage("completing prompts")
            begun = time.monotonic()
            job_id = await _submit(api, outcome)
            await _wait_for_job(api, outcome, job_id, progress, begun)
            progress.stage("settling and claiming")
            await _wait_for_settlement(api, outcome, job_id)
            await _wait_for_claims(api, ledger)
            seconds["claimed"] = time.monotonic() - begun
            await _collect(api, outcome, job_id)
            outcome.after = await ledger.balances()
            outcome.stakes_after = await ledger.stakes()
        seconds["all"] = time.monotonic() - started
        nursery.cancel_scope.cancel()


def _api(network: SimulatedNetwork) -> httpx.AsyncClient:
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


async def _wait_for_group(api: httpx.AsyncClient, outcome: SimulationOutcome) -> None:
    """HTTP has no event to wait for, so this and the waits below ask again and again.

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


async def _submit(api: httpx.AsyncClient, outcome: SimulationOutcome) -> str:
    body = job_body(job_prompts(outcome.options), "simulation")
    answer = await api.post("/v1/jobs", json=body)
    if answer.status_code >= 400:
        raise NodeError(f"the orchestrator refused the job: {answer.text[:300]}")
    return str(answer.json()["job_id"])


async def _wait_for_job(
    api: httpx.AsyncClient,
    outcome: SimulationOutcome,
    job_id: str,
    progress: Progress,
    begun: float,
) -> None:
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


async def _wait_for_settlement(
    api: httpx.AsyncClient, outcome: SimulationOutcome, job_id: str
) -> None:
    with trio.move_on_after(SETTLE_SECONDS):
        while True:
            outcome.work = (await _get(api, "/v1/work?limit=500"))["items"]
            mine = [unit for unit in outcome.work if unit["job_id"] == job_id]
            if all(unit["state"] in ("settled", "expired") for unit in mine):
                return
            await trio.sleep(POLL_SECONDS)


async def _wait_for_claims(api: httpx.AsyncClient, ledger: Ledger) -> None:
    """Until all that the newest root owes was claimed, or it takes too long."""
    pool_id = int((await _get(api, "/v1/status"))["pool_id"])
    with trio.move_on_after(SETTLE_SECONDS):
        while await ledger.unclaimed(pool_id):  # noqa: ASYNC110 - a chain has no event to wait for
            await trio.sleep(POLL_SECONDS)


async def _collect(api: httpx.AsyncClient, outcome: SimulationOutcome, job_id: str) -> None:
    outcome.nodes = (await _get(api, "/v1/nodes"))["items"]
    outcome.groups = (await _get(api, "/v1/groups"))["items"]
    outcome.rejections = (await _get(api, "/v1/rejections"))["items"]
    outcome.job = await _get(api, f"/v1/jobs/{job_id}")
    answer = await api.get(f"/v1/jobs/{job_id}/dataset")
    answer.raise_for_status()
    (outcome.options.output / "dataset.jsonl").write_bytes(answer.content)
    outcome.rows = [json.loads(line) for line in answer.content.splitlines()]


async def _watch_memory(outcome: SimulationOutcome) -> None:
    while True:
        pids = outcome.network.pids
        await trio.to_thread.run_sync(outcome.memory.sample, pids)
        await trio.sleep(1.0)


def _still_running(network: SimulatedNetwork) -> list[str]:
    """Nodes and engines that still run out of this simulation's folder: there may be none."""
    import psutil

    folder = f"{network.options.output}{os.sep}"
    left = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        if folder in words and ("-m node" in words or "-m pipeline.engine" in words):
            left.append(words[:200])
    return left
