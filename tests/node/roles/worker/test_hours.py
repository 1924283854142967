"""A worker leaves its pool when the operator's hours end, and takes invites when they begin."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from node.config.hardware import Device
from node.roles.worker.service import WorkerOptions, build_worker
from node.settlement.follower import NothingSettled
from node.wire.blobs import BlobStore
from node.wire.messages.work import Invite
from p2p.errors import Refused
from p2p.identity import peer_id_of
from tests.adversarial.harness import DataPorts, named_model, stored_models
from tests.adversarial.standins import MODEL, Engine, Ring
from tests.node.roles.chains import open_context

HOUR = 3600
BOSS = peer_id_of(b"b" * 32)
INVITE = Invite(pool_id=0, model_id=MODEL, model_name="tiny", deadline=0, signature=b"")


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


async def test_it_works_in_its_hours_and_gives_the_engines_memory_back_after(
    tmp_path: Path, utc: None, mock_clock: trio.testing.MockClock
) -> None:
    policy = {"hours": ["01:00-03:00"]}
    async with open_context(tmp_path, policy=policy) as context, trio.open_nursery() as nursery:
        nothing = SimpleNamespace(serve=lambda *a, **k: None)
        object.__setattr__(context, "network", nothing)
        engine: Any = Engine(Ring())
        options = WorkerOptions(
            find_model=named_model, list_models=stored_models, data_plane=DataPorts()
        )
        follower = NothingSettled(BlobStore(context), context.wall)
        worker = build_worker(
            context, None, engine, Device("cpu", "test", 1 << 30), follower, options
        )
        await nursery.start(worker.run)
        await worker.membership.ready.wait()
        with pytest.raises(Refused, match="works again from 01:00"):
            await worker.membership.on_invite(BOSS, INVITE)
        mock_clock.jump(HOUR)
        await worker.membership.on_invite(BOSS, INVITE)
        mock_clock.jump(2 * HOUR - 60)
        assert worker.membership.pool is not None
        assert engine.count("unload") == 0
        mock_clock.jump(120)
        await trio.testing.wait_all_tasks_blocked()
        assert worker.membership.pool is None
        assert engine.count("unload") == 1
        assert worker.membership.says() == "waiting: this node works again from 01:00"
        mock_clock.jump(22 * HOUR)
        await worker.membership.on_invite(BOSS, INVITE)
        nursery.cancel_scope.cancel()
