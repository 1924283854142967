"""A worker and its orchestrator: silence frees memory and is told once; pings are answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from node.config.hardware import Device
from node.roles.assembly import Roles
from node.roles.worker.service import Worker, WorkerOptions, build_worker
from node.roles.worker.timing import WorkerTiming
from node.settlement.follower import NothingSettled
from node.wire.blobs import BlobStore
from node.wire.messages.fields import StageRef
from node.wire.messages.work import Invite, LoadStage, Ping, StagePeer
from node.wire.peer_addresses import address_of_peer
from p2p.errors import Refused
from p2p.identity import peer_id_of
from tests.adversarial.harness import DataPorts, named_model, stored_models
from tests.adversarial.standins import LAYERS, MODEL, Engine, Ring
from tests.node.roles.chains import open_context

BOSS = peer_id_of(b"b" * 32)
INVITE = Invite(pool_id=0, model_id=MODEL, model_name="tiny", deadline=0, signature=b"")
PATIENCE = WorkerTiming().abandoned


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Worker, Engine]]:
    """A worker that is in the pool of `BOSS`."""
    async with open_context(folder) as context, trio.open_nursery() as nursery:
        nothing = SimpleNamespace(serve=lambda *a, **k: None)
        object.__setattr__(context, "network", nothing)
        engine = Engine(Ring())
        options = WorkerOptions(
            find_model=named_model, list_models=stored_models, data_plane=DataPorts()
        )
        follower = NothingSettled(BlobStore(context), context.wall)
        worker = build_worker(
            context,
            None,
            engine,  # type: ignore[arg-type]
            Device("cpu", "test", 1 << 30),
            follower,
            options,
        )
        await nursery.start(worker.run)
        await worker.membership.ready.wait()
        await worker.membership.on_invite(BOSS, INVITE)
        yield worker, engine
        nursery.cancel_scope.cancel()


def order(worker: Worker, generation: int) -> LoadStage:
    """A ring of this worker alone."""
    me = worker._context.peer_id
    stage = StagePeer(peer_id=me, address=address_of_peer(me), first_layer=0, last_layer=LAYERS)
    return LoadStage(
        ref=StageRef(group_id=bytes(32), generation=generation, stage=0),
        pool_id=0,
        model_id=MODEL,
        model_name="tiny",
        stages=(stage,),
        kv_tokens=64,
        micro_batches=1,
        max_batch_tokens=64,
    )


async def test_an_orchestrator_that_is_gone_costs_no_memory_and_may_come_back(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    with capture_logs() as logs:
        async with serving(tmp_path) as (worker, engine):
            roles = Roles(worker.rewards, worker, None, None, 0)  # type: ignore[arg-type]
            await worker.stage.on_load(BOSS, order(worker, 1))
            for _ in range(20):
                mock_clock.jump(PATIENCE - 1)
                await trio.testing.wait_all_tasks_blocked()
                assert (await worker._on_ping(BOSS, Ping())).generation == 1
            assert engine.renewed == 0
            assert roles.trouble() == ""

            mock_clock.jump(PATIENCE + 1)
            await trio.testing.wait_all_tasks_blocked()
            assert engine.renewed == 1
            assert worker.stage.assignment is None
            assert f"({BOSS}) has said nothing for 300 s" in roles.trouble()
            mock_clock.jump(100 * PATIENCE)
            await trio.testing.wait_all_tasks_blocked()
            assert engine.renewed == 1  # and once is enough

            assert (await worker._on_ping(BOSS, Ping())).generation == 0
            await trio.testing.wait_all_tasks_blocked()
            assert roles.trouble() == ""
            with pytest.raises(Refused, match="newer"):
                await worker.stage.on_load(BOSS, order(worker, 1))
            await worker.stage.on_load(BOSS, order(worker, 2))
            mock_clock.jump(PATIENCE + 1)
            await trio.testing.wait_all_tasks_blocked()
            assert engine.renewed == 2
            assert roles.trouble() != ""
    said = [line["event"] for line in logs if "abandoned" in line["event"]]
    assert said == [
        "abandoned by the orchestrator",
        "no longer abandoned",
        "abandoned by the orchestrator",
    ]


async def test_a_worker_without_a_pool_is_abandoned_by_nobody(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with serving(tmp_path) as (worker, engine):
        await worker.membership.leave()
        mock_clock.jump(10 * PATIENCE)
        await trio.testing.wait_all_tasks_blocked()
        assert (engine.renewed, worker.trouble) == (0, "")
        await worker.membership.on_invite(BOSS, INVITE)
        mock_clock.jump(PATIENCE + 1)
        await trio.testing.wait_all_tasks_blocked()
        assert engine.renewed == 1
        await worker.membership.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert worker.trouble == ""


async def test_an_engine_that_starts_or_hangs_holds_no_ping_up(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(tmp_path) as (worker, engine):
        assert (await worker._on_ping(BOSS, Ping())).engine_up
        engine.answers_after = 15.0
        for _ in range(3):  # busy: it is as it was
            asked_at = trio.current_time()
            assert (await worker._on_ping(BOSS, Ping())).engine_up
            assert trio.current_time() - asked_at == pytest.approx(WorkerTiming().pong)
        await trio.sleep(WorkerTiming().believed)
        assert not (await worker._on_ping(BOSS, Ping())).engine_up
        engine.answers_after = 0.0
        assert (await worker._on_ping(BOSS, Ping())).engine_up
        engine.answers_after, engine.pid = 15.0, 2  # a fresh one, which is starting
        assert not (await worker._on_ping(BOSS, Ping())).engine_up
