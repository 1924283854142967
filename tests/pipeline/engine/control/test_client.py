"""The client against real engine processes: typed answers, death, restart, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
import trio

from pipeline.engine.control.client import EngineClient, Exited, Restarted, open_engine
from pipeline.engine.control.messages import Empty, Listen, Load, Message, SequenceIds, Submit
from pipeline.engine.control.operations import EVIDENCE, LISTEN, LOAD, STATUS, SUBMIT
from pipeline.engine.errors import EngineDied, EngineError

WAIT = 60.0


async def next_event(engine: EngineClient) -> tuple[str, Message]:
    with trio.fail_after(WAIT):
        return await engine.events.receive()


async def test_answers_are_typed_and_errors_have_codes(tmp_path: Path) -> None:
    async with open_engine(tmp_path, "one", environment={"PRIME_ENGINE_THREADS": "1"}) as engine:
        status = await engine.request(STATUS, Empty(), WAIT)
        assert (status.pid, status.threads) == (engine.pid, 1)
        load = Load(
            model_dir=str(tmp_path), model_id=bytes(32), first_layer=0, last_layer=1, kv_tokens=1
        )
        with pytest.raises(EngineError) as caught:
            await engine.request(LOAD, load, WAIT)
        assert caught.value.code == "model"
        with pytest.raises(EngineError) as caught:
            await engine.request(SUBMIT, Submit(sequences=()), WAIT)
        assert caught.value.code == "not_loaded"
        with pytest.raises(EngineError) as caught:
            await engine.request(EVIDENCE, SequenceIds(sequence_ids=(bytes(16),)), WAIT)
        assert caught.value.code == "unknown_sequence"


async def test_a_renewed_engine_is_another_process_with_nothing_loaded(tmp_path: Path) -> None:
    """Also one that hangs, which is killed for it."""
    async with open_engine(tmp_path, "one") as engine:
        for hangs in (False, True):
            old = engine.pid
            assert old is not None
            if hangs:
                os.kill(old, signal.SIGSTOP)
            with trio.fail_after(WAIT):
                await engine.renew()
            assert engine.pid not in (None, old)
            assert not psutil.pid_exists(old)
            assert isinstance((await next_event(engine))[1], Exited)
            assert isinstance((await next_event(engine))[1], Restarted)
            assert (await engine.request(STATUS, Empty(), WAIT)).pid == engine.pid


async def test_listening_again_gives_the_same_answer(tmp_path: Path) -> None:
    async with open_engine(tmp_path, "one") as engine:
        first = await engine.request(LISTEN, Listen(host="127.0.0.1"), WAIT)
        assert await engine.request(LISTEN, Listen(host="127.0.0.1"), WAIT) == first
        assert await trio.Path(first.unix_path).exists()
        with pytest.raises(EngineError) as caught:
            await engine.request(LISTEN, Listen(host="203.0.113.1"), WAIT)
        assert caught.value.code == "edge"
    assert not await trio.Path(first.unix_path).exists()


async def test_a_long_data_folder_still_gets_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    async with open_engine(deep, "one") as engine:
        listening = await engine.request(LISTEN, Listen(host="127.0.0.1"), WAIT)
        assert await trio.Path(listening.unix_path).exists()
    assert not await trio.Path(listening.unix_path).parent.exists()


async def test_a_killed_engine_is_reported_and_started_afresh(tmp_path: Path) -> None:
    async with open_engine(tmp_path, "one") as engine:
        old = (await engine.request(STATUS, Empty(), WAIT)).pid
        os.kill(old, signal.SIGKILL)
        assert await next_event(engine) == ("exited", Exited(code=-signal.SIGKILL))
        name, restarted = await next_event(engine)
        assert (name, restarted) == ("restarted", Restarted(pid=engine.pid or 0))
        assert (await engine.request(STATUS, Empty(), WAIT)).pid == engine.pid != old


async def test_whoever_waits_hears_of_the_death(tmp_path: Path) -> None:
    async with open_engine(tmp_path, "one", restart=False) as engine:
        pid = (await engine.request(STATUS, Empty(), WAIT)).pid
        os.kill(pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(EngineDied):
                    await engine.request(STATUS, Empty(), WAIT)

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            os.kill(pid, signal.SIGKILL)
        assert (await next_event(engine))[0] == "exited"
        with pytest.raises(EngineDied):
            await engine.request(STATUS, Empty(), WAIT)
        with pytest.raises(trio.EndOfChannel):
            await next_event(engine)


async def test_a_stuck_engine_times_out_and_is_killed_at_the_end(tmp_path: Path) -> None:
    async with open_engine(tmp_path, "one") as engine:
        process = psutil.Process((await engine.request(STATUS, Empty(), WAIT)).pid)
        process.suspend()
        with pytest.raises(EngineError) as caught:
            await engine.request(STATUS, Empty(), 0.05)
        assert caught.value.code == "timeout"
    assert not process.is_running()


async def test_ctrl_c_and_sigterm(tmp_path: Path) -> None:
    async with open_engine(tmp_path, "one", restart=False) as engine:
        pid = (await engine.request(STATUS, Empty(), WAIT)).pid
        os.kill(pid, signal.SIGINT)
        assert (await engine.request(STATUS, Empty(), WAIT)).pid == pid
        os.kill(pid, signal.SIGTERM)
        assert await next_event(engine) == ("exited", Exited(code=0))


CONTROL = """
    import sys, trio
    from pathlib import Path
    from pipeline.engine.control.client import open_engine
    from pipeline.engine.control.messages import Empty
    from pipeline.engine.control.operations import STATUS

    async def main():
        async with open_engine(Path(sys.argv[1]), "one") as engine:
            await engine.request(STATUS, Empty(), 60)
            print(engine.pid, "torch" in sys.modules, flush=True)
            await trio.sleep_forever()

    trio.run(main)
"""


@pytest.mark.parametrize("stuck", [False, True])
def test_no_engine_outlives_a_killed_control_process(tmp_path: Path, stuck: bool) -> None:
    command = [sys.executable, "-c", textwrap.dedent(CONTROL), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as control:
        assert control.stdout is not None
        pid, torch_loaded = control.stdout.readline().split()
        assert torch_loaded == "False"
        engine = psutil.Process(int(pid))
        if stuck:
            engine.suspend()
        control.kill()
    gone, _ = psutil.wait_procs([engine], timeout=WAIT)
    assert gone == [engine]
