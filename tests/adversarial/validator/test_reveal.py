"""Fetching rows from a stage that has something to hide, and from validators that were quicker."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trio

from node.retry import Backoff
from node.roles.validator.judging.errors import CannotJudge
from node.roles.validator.judging.other_validators import AnnouncedValidators
from node.roles.validator.judging.rows import RowsFetcher, RowsTiming
from node.storage.names import rows_folder
from node.wire.blobs import CHUNK_BYTES
from node.wire.messages.settlement import FetchedChunk, FetchRequest
from node.wire.methods import FETCH
from node.wire.rpc import serve
from p2p.errors import Refused
from tests.adversarial.harness import Node, eventually, open_node

CONTENT = os.urandom(CHUNK_BYTES * 2 + 17)
DIGEST = sha256(CONTENT).digest()
LIMIT = len(CONTENT)
NAME = f"{DIGEST.hex()}.rows"
TRIES = 5
TIMING = RowsTiming(stage_tries=Backoff(first=0.001, last=0.008, most=TRIES))


@pytest.fixture
def peers(tmp_path: Path) -> Callable[[], Any]:
    """A judge, the accused stage, and another validator."""

    @asynccontextmanager
    async def open_peers() -> AsyncIterator[tuple[Node, Node, Node]]:
        async with AsyncExitStack() as stack:
            nodes: list[Node] = []
            for number, name in enumerate(("judge", "stage", "other"), 70):
                boot = nodes[0] if nodes else None
                nodes.append(
                    await stack.enter_async_context(open_node(number, tmp_path / name, boot=boot))
                )
            yield nodes[0], nodes[1], nodes[2]

    return open_peers


def keep(node: Node) -> None:
    """As its engine would."""
    folder = rows_folder(node.context.config.data_dir)
    folder.mkdir(exist_ok=True)
    (folder / NAME).write_bytes(CONTENT)
    node.follower.blobs.serve()


async def get(
    judge: Node, stage: Node, limit: int = LIMIT, timing: RowsTiming = TIMING
) -> Path | None:
    fetcher = RowsFetcher(judge.context, AnnouncedValidators(judge.context), timing)
    with trio.fail_after(60):
        return await fetcher.get(stage.peer_id, DIGEST, limit)


def left_over(judge: Node) -> list[str]:
    return sorted(path.name for path in judge.context.blobs.iterdir())


async def test_rows_are_fetched_once_and_kept(peers) -> None:
    async with peers() as (judge, stage, _):
        keep(stage)
        path = judge.context.blobs / NAME
        assert await get(judge, stage) == path
        assert path.read_bytes() == CONTENT
        rows_folder(stage.context.config.data_dir).joinpath(NAME).unlink()
        assert await get(judge, stage) == path
        path.write_bytes(CONTENT[:-1])
        assert await get(judge, stage) is None
        keep(stage)
        assert await get(judge, stage) == path
        assert left_over(judge) == [NAME]


async def test_more_than_the_rows_can_have_is_not_read(peers) -> None:
    async with peers() as (judge, stage, _):
        keep(stage)
        assert await get(judge, stage, LIMIT - 1) is None
        assert left_over(judge) == []


async def other(request: FetchRequest) -> FetchedChunk:
    return FetchedChunk(data=bytes(CHUNK_BYTES), total=LIMIT)


async def drops(request: FetchRequest) -> FetchedChunk:
    return FetchedChunk(data=b"x", total=LIMIT)


async def growing(request: FetchRequest) -> FetchedChunk:
    return FetchedChunk(data=b"x" * 100, total=request.offset + 200)


async def nothing(request: FetchRequest) -> FetchedChunk:
    return FetchedChunk(data=b"", total=LIMIT)


async def huge(request: FetchRequest) -> FetchedChunk:
    return FetchedChunk(data=b"x", total=2**64 - 1)


async def refuses(request: FetchRequest) -> FetchedChunk:
    raise Refused("not_here", "so I say")


async def silent(request: FetchRequest) -> FetchedChunk:
    await trio.sleep_forever()
    raise AssertionError


@pytest.mark.parametrize("answer", [other, drops, growing, nothing, huge, refuses, silent])
async def test_who_serves_something_else_has_shown_nothing(
    peers,
    answer: Callable[[FetchRequest], Awaitable[FetchedChunk]],
) -> None:
    timing = replace(TIMING, one_try=0.2, bytes_per_second=2.0**40)
    async with peers() as (judge, stage, _):
        asked: list[int] = []

        async def on_fetch(peer_id: str, request: FetchRequest) -> FetchedChunk:
            asked.append(request.offset)
            return await answer(request)

        serve(stage.network, FETCH, on_fetch)
        assert await get(judge, stage, timing=timing) is None
        assert asked.count(0) == TRIES
        assert len(asked) <= TRIES * (LIMIT // CHUNK_BYTES + 1)
        assert left_over(judge) == []


async def test_a_stage_that_is_not_ready_at_once_is_asked_again(peers) -> None:
    async with peers() as (judge, stage, _):
        asked: list[int] = []

        async def on_fetch(peer_id: str, request: FetchRequest) -> FetchedChunk:
            asked.append(request.offset)
            if len(asked) == TRIES - 1:
                keep(stage)
            raise Refused("not_here", "not yet")

        serve(stage.network, FETCH, on_fetch)
        assert await get(judge, stage) is not None


async def test_what_an_earlier_judge_got_the_others_get_from_it(peers) -> None:
    async with peers() as (judge, stage, other):
        (other.context.blobs / NAME).write_bytes(CONTENT)
        other.follower.blobs.serve()
        await other.announce("validator")
        await eventually(lambda: judge.network.records.all())
        assert await get(judge, stage) is not None


async def test_a_disk_that_refuses_is_not_the_stages_fault(peers) -> None:
    async with peers() as (judge, stage, _):
        keep(stage)
        judge.context.blobs.rmdir()
        judge.context.blobs.write_bytes(b"")  # no file fits in here
        with pytest.raises(CannotJudge, match="cannot keep"):
            await get(judge, stage)
