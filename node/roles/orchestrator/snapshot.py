"""An orchestrator as others see it: plain values of one moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from node.roles.orchestrator.coordinator.groups import Group, GroupState
from node.roles.orchestrator.coordinator.units import UnitState
from node.roles.orchestrator.coordinator.view import PoolView
from node.roles.orchestrator.ledger.job import Job
from node.roles.orchestrator.ledger.rows import RowState
from node.wire.messages.work import Pong, StageLoaded


@dataclass(frozen=True)
class WorkerSnapshot:
    """A worker of the pool. `state` is its member state's name, `address` its EVM address ("" as
    long as it has not joined), `rss` its engine's resident memory in bytes, 0 where unknown."""

    peer_id: str
    address: str
    state: str
    rss: int


@dataclass(frozen=True)
class StageSnapshot:
    """Layers [first_layer, last_layer) at a worker; sizes in bytes, 0 where unknown."""

    peer_id: str
    first_layer: int
    last_layer: int
    weights_bytes: int
    kv_bytes: int
    rss: int


@dataclass(frozen=True)
class GroupSnapshot:
    """A group as of its newest generation. `running` counts sequences that it is generating;
    `spares` are peer ids of workers that the plan had no layers for."""

    group_id: bytes
    generation: int
    state: str
    stages: tuple[StageSnapshot, ...]
    spares: tuple[str, ...]
    running: int


@dataclass(frozen=True)
class PoolSnapshot:
    """The pool's workers by peer id and its groups. `tokens` counts the output tokens of all
    units."""

    model_name: str
    model_id: bytes
    tokens: int
    tokens_per_second: float
    workers: Mapping[str, WorkerSnapshot]
    groups: tuple[GroupSnapshot, ...]


JobState = Literal["queued", "running", "finished", "failed", "cancelled"]


@dataclass(frozen=True)
class JobSnapshot:
    """How far a job is; counts are of prompts and of output tokens. `refused` prompts were not
    taken, `failed` ones were given up."""

    state: JobState
    prompts: int
    refused: int
    completed: int
    accepted: int
    failed: int
    tokens: int


def job_snapshot(job: Job, pool: PoolView, tokens: int) -> JobSnapshot:
    """A job of so many tokens, by its counts on disk and what the tables have of it."""
    accepted = job.sequences[RowState.ACCEPTED]
    completed = accepted + job.sequences[RowState.VERIFYING]
    started = completed > 0 or job.units[RowState.EXPIRED] > 0
    for unit in pool.units.values():
        if unit.job_id != job.job_id or (unit.state is UnitState.VERIFYING and unit.bundle_id):
            continue
        started = started or unit.state is not UnitState.QUEUED or unit.attempt > 0
        completed += sum(s.finished for s in unit.sequences)
    state: JobState = "running" if started else "queued"
    if job.cancelled:
        state = "cancelled"
    elif job.finished:
        state = "failed" if job.units[RowState.EXPIRED] else "finished"
    failed = job.sequences[RowState.EXPIRED]
    return JobSnapshot(state, job.prompts, job.refused, completed, accepted, failed, tokens)


def worker_snapshots(pool: PoolView, pongs: Mapping[str, Pong]) -> dict[str, WorkerSnapshot]:
    """Every worker that the pool knows. `pongs` are the newest answers to pings, by peer id."""
    memory = {peer_id: pong.rss for peer_id, pong in pongs.items()}
    return {
        peer_id: WorkerSnapshot(peer_id, member.address, member.state.value, memory.get(peer_id, 0))
        for peer_id, member in pool.members.items()
    }


def group_snapshots(
    pool: PoolView, loaded: Mapping[str, StageLoaded], pongs: Mapping[str, Pong]
) -> tuple[GroupSnapshot, ...]:
    """Every group. `loaded` is what workers reported when they loaded their stages, by peer id."""
    running: Counter[bytes] = Counter()
    for unit in pool.units.values():
        if unit.state is UnitState.ASSIGNED:
            running[unit.group_id] += sum(not s.finished for s in unit.sequences)
    return tuple(
        _group(group, running[group.group_id], loaded, pongs) for group in pool.groups.values()
    )


def _group(
    group: Group, running: int, loaded: Mapping[str, StageLoaded], pongs: Mapping[str, Pong]
) -> GroupSnapshot:
    stages = []
    for stage in group.plan.stages:
        report, pong = loaded.get(stage.peer_id), pongs.get(stage.peer_id)
        stages.append(
            StageSnapshot(
                peer_id=stage.peer_id,
                first_layer=stage.first_layer,
                last_layer=stage.last_layer,
                weights_bytes=report.weights_bytes if report else 0,
                kv_bytes=report.kv_bytes if report else 0,
                rss=max(report.rss if report else 0, pong.rss if pong else 0),
            )
        )
    return GroupSnapshot(
        group.group_id,
        group.generation,
        group.state.value,
        tuple(stages),
        group.plan.spares,
        running,
    )


def waits_for(pool: PoolView) -> str:
    """Why units do not go on; "" where they do, or where there are none.

    A validator that is missing is told before a group that is: finished work waits longest.
    """
    states = {unit.state for unit in pool.units.values()}
    if states & {UnitState.PRODUCED, UnitState.VERIFYING}:
        here = sum(pool.validators.values())
        if not pool.validators:
            return (
                "finished work waits for a validator that has the role on chain and stake: none is "
                "connected (prime-node chain grant ADDRESS, prime-node run --role validator)"
            )
        if here < pool.needed_weight:
            return (
                "finished work waits for validators: those connected hold "
                f"{100 * here // max(pool.total_weight, 1)} % of all validators' stake, and "
                f"{100 * pool.needed_weight // max(pool.total_weight, 1)} % must accept it"
            )
    if UnitState.QUEUED in states and (why := _held_back(pool)):
        return why
    running = any(group.state is GroupState.RUNNING for group in pool.groups.values())
    if states & {UnitState.QUEUED, UnitState.ASSIGNED} and not running:
        if pool.unplannable:
            return f"work waits for workers: {pool.unplannable}"
        if not pool.groups:
            return "work waits for workers: none is here that can take it"
    return ""


def _held_back(pool: PoolView) -> str:
    """Why groups are given no new units though there are some and groups run."""
    judging = (UnitState.PRODUCED, UnitState.VERIFYING)
    unjudged = sum(unit.state in judging for unit in pool.units.values())
    if unjudged >= pool.policy.units_unjudged:
        return (
            f"new work waits for validators: {unjudged} units are finished and not judged, of at"
            f" most {pool.policy.units_unjudged} (orchestrator.units_unjudged), and"
            f" {len(pool.validators)} validators are here"
        )
    rings = [group for group in pool.groups.values() if group.state is GroupState.RUNNING]
    busy = {
        peer_id: member.busy
        for group in rings
        for peer_id in group.peers
        if (member := pool.members.get(peer_id)) and member.busy
    }
    if busy and all(any(peer_id in busy for peer_id in group.peers) for group in rings):
        peer_id, why = next(iter(busy.items()))
        return f"new work waits for validators, as worker {peer_id} says: {why}"
    return ""


def fewer_stages(asked: int, stages: int) -> str:
    """A line for a group that was built with fewer stages than were asked for; "" for others."""
    if stages >= asked:
        return ""
    return (
        f"a group of {stages} stages instead of {asked}: the others did not come within "
        "orchestrator.formation_wait"
    )
