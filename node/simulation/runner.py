"""`prime-node simulate`: start a network, give it work, let things go wrong, and judge the outcome.

The steps are what a person would do by hand, in order: chain, orchestrator, workers and validator,
submit, wait for verdicts, settlement and claims, read balances, stop everything. What was seen is
written to `report.json`; the exit status says whether all of it held (`checks.py`).
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

import trio

from node.console.preparing import prepare_with_progress
from node.console.signals import ending_signals
from node.errors import EXIT_INTERRUPTED
from node.simulation.cases import write_cases
from node.simulation.checks import run_checks
from node.simulation.ledger import open_ledger
from node.simulation.network import SimulatedNetwork
from node.simulation.options import SimulationOptions, Topology, load_topology
from node.simulation.outcome import SimulationOutcome
from node.simulation.output import own_output
from node.simulation.process import Child, Children, open_children
from node.simulation.progress import Progress, open_progress
from node.simulation.report import print_report, write_report
from node.simulation.steps import (
    collect,
    open_api,
    submit,
    wait_for_claims,
    wait_for_group,
    wait_for_job,
    wait_for_settlement,
)


def simulate(options: SimulationOptions) -> int:
    """Run a simulation; the exit status, 0 only if every check held."""
    options.check()
    topology = load_topology(options.topology)
    with own_output(options.output):
        options = with_model(options)
        outcome = trio.run(_simulate, options, topology, strict_exception_groups=True)
        if outcome.interrupted:
            return EXIT_INTERRUPTED
        outcome.left_running = _still_running(outcome.network)
        outcome.checks = run_checks(outcome)
        outcome.cases = write_cases(outcome.network, options.output)
        write_report(outcome)
        print_report(outcome)
    return 0 if all(check.held for check in outcome.checks) else 1


def with_model(options: SimulationOptions) -> SimulationOptions:
    """The same options with the model prepared and named by its folder, which nodes open: what a
    person typed may be a source (a folder, a hub name), or the name of several models."""
    model = prepare_with_progress(options.model, options.model_store)
    return replace(options, model=str(model.path.absolute()))


async def _simulate(options: SimulationOptions, topology: Topology) -> SimulationOutcome:
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
    with trio.open_signal_receiver(*ending_signals()) as signals:
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
        async with open_api(network) as api, open_ledger(network) as ledger:
            outcome.before = await ledger.balances()
            outcome.stakes_before = await ledger.stakes()
            await wait_for_group(api, outcome)
            seconds["network up"] = time.monotonic() - started
            progress.stage("completing prompts")
            begun = time.monotonic()
            job_id = await submit(api, outcome)
            await wait_for_job(api, outcome, job_id, progress, begun)
            progress.stage("settling and claiming")
            await wait_for_settlement(api, outcome, job_id)
            await wait_for_claims(api, ledger)
            seconds["claimed"] = time.monotonic() - begun
            await collect(api, outcome, job_id)
            outcome.after = await ledger.balances()
            outcome.stakes_after = await ledger.stakes()
        seconds["all"] = time.monotonic() - started
        nursery.cancel_scope.cancel()


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
