"""Published epochs among peers that have none, serve rubbish, or never come to an end."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from node.wire.blobs import CHUNK_BYTES, MAX_CHUNKS, BlobStore, FetchTiming
from node.wire.messages.settlement import FetchedChunk, FetchRequest
from node.wire.methods import FETCH
from node.wire.rpc import serve
from proofs.settlement.epoch_data import MAX_DATA_BYTES, data_hash
from tests.adversarial.harness import Node, open_node

CONTENT = os.urandom(5 * 2**20 + 17)
DIGEST = data_hash(CONTENT)
Serve = Callable[[str, FetchRequest], Awaitable[FetchedChunk]]


@pytest.fixture
def library(tmp_path: Path) -> Callable[[], Any]:
    """A reader, an evil peer and an honest one that has `CONTENT`."""

    @asynccontextmanager
    async def open_library() -> AsyncIterator[tuple[Node, Node, Node]]:
        async with AsyncExitStack() as stack:
            nodes: list[Node] = []
            for number, name in enumerate(("reader", "evil", "honest"), 50):
                boot = nodes[0] if nodes else None
                nodes.append(
                    await stack.enter_async_context(open_node(number, tmp_path / name, boot=boot))
                )
            await nodes[2].follower.blobs.put(CONTENT)
            nodes[2].follower.blobs.serve()
            yield nodes[0], nodes[1], nodes[2]

    return open_library


async def test_strangers_may_read_and_absurd_questions_do_no_harm(library) -> None:
    async with library() as (reader, evil, honest):
        read = b""
        while len(read) < len(CONTENT):
            request = FetchRequest(digest=DIGEST, offset=len(read))
            chunk = await evil.ask(honest.peer_id, FETCH, request)
            assert chunk["total"] == len(CONTENT)
            assert 0 < len(chunk["data"]) <= CHUNK_BYTES
            read += chunk["data"]
        assert read == CONTENT
        for offset in (len(CONTENT), len(CONTENT) + 1, 2**63, 2**64 - 1):
            request = FetchRequest(digest=DIGEST, offset=offset)
            chunk = await evil.ask(honest.peer_id, FETCH, request)
            assert chunk == {"data": b"", "total": len(CONTENT)}
        unknown = FetchRequest(digest=bytes(32), offset=0)
        assert await evil.refused(honest.peer_id, FETCH, unknown) == "not_here"
        assert await reader.follower.blobs.fetch(DIGEST, (honest.peer_id,)) == CONTENT


async def test_nothing_but_published_epochs_can_be_read(library) -> None:
    """Bundles and keys lie in the same folder or near it; no digest names them."""
    async with library() as (_, evil, honest):
        (honest.context.blobs / f"{'ab' * 32}.bundle").write_bytes(b"secret")
        request = FetchRequest(digest=b"\xab" * 32, offset=0)
        assert await evil.refused(honest.peer_id, FETCH, request) == "not_here"


def endless(request: FetchRequest) -> FetchedChunk:
    return FetchedChunk(data=b"x", total=MAX_DATA_BYTES)


def growing(request: FetchRequest) -> FetchedChunk:
    return FetchedChunk(data=b"x" * 100, total=request.offset + 200)


def too_much(request: FetchRequest) -> FetchedChunk:
    return FetchedChunk(data=b"x" * (4 * 2**20), total=MAX_DATA_BYTES)


def other(request: FetchRequest) -> FetchedChunk:
    return FetchedChunk(data=b"x" * 10, total=10)


def nearly(request: FetchRequest) -> FetchedChunk:
    part = CONTENT[request.offset : request.offset + CHUNK_BYTES]
    return FetchedChunk(data=part[:-1] + b"\x00", total=len(CONTENT))


def empty(request: FetchRequest) -> FetchedChunk:
    return FetchedChunk(data=b"", total=len(CONTENT))


def huge(request: FetchRequest) -> FetchedChunk:
    return FetchedChunk(data=b"x", total=2**64 - 1)


@pytest.mark.parametrize(
    "answer", [endless, growing, too_much, other, nearly, empty, huge], ids=lambda a: a.__name__
)
async def test_a_peer_that_serves_rubbish_is_given_up_and_the_next_one_asked(
    library, answer: Callable[[FetchRequest], FetchedChunk]
) -> None:
    async with library() as (reader, evil, honest):
        asked: list[int] = []

        async def on_fetch(peer_id: str, request: FetchRequest) -> FetchedChunk:
            asked.append(request.offset)
            return answer(request)

        serve(evil.network, FETCH, on_fetch)
        first = (evil.peer_id, honest.peer_id)
        assert await reader.follower.blobs.fetch(DIGEST, first) == CONTENT
        assert 1 <= len(asked) <= MAX_CHUNKS
        assert await reader.follower.blobs.get(DIGEST) == CONTENT


async def test_a_peer_that_never_answers_costs_a_bounded_time(library) -> None:
    """The honest peer's time is as short, so what it has fits one answer: a busy machine is in time
    too."""
    async with library() as (reader, evil, honest):

        async def on_fetch(peer_id: str, request: FetchRequest) -> FetchedChunk:
            await trio.sleep_forever()
            raise AssertionError

        serve(evil.network, FETCH, on_fetch)
        small = os.urandom(100)
        digest = await honest.follower.blobs.put(small)
        with trio.fail_after(60):
            hasty = BlobStore(reader.context, FetchTiming(peer=1.0))
            found = await hasty.fetch(digest, (evil.peer_id, honest.peer_id))
        assert found == small


async def test_content_that_nobody_has_is_not_found(library) -> None:
    async with library() as (reader, _, honest):
        assert await reader.follower.blobs.fetch(bytes(32), (honest.peer_id,)) is None


async def test_a_damaged_file_is_fetched_anew_and_mended(library) -> None:
    async with library() as (reader, _, honest):
        own = reader.follower.blobs
        assert await own.fetch(DIGEST, (honest.peer_id,)) == CONTENT
        path = reader.context.blobs / f"{DIGEST.hex()}.epoch"
        path.write_bytes(CONTENT[:-1])
        assert await own.get(DIGEST) is None
        assert await own.fetch(DIGEST, (honest.peer_id,)) == CONTENT
        assert path.read_bytes() == CONTENT


async def test_a_full_disk_keeps_nobody_from_reading(library, tmp_path: Path) -> None:
    async with library() as (reader, _, honest):
        folder = reader.context.blobs
        folder.rmdir()
        folder.write_bytes(b"")  # no file fits in here
        assert await reader.follower.blobs.fetch(DIGEST, (honest.peer_id,)) == CONTENT
