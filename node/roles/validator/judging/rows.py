"""Getting revealed rows: from the stage that received them, else from another validator.

Only the accused stage owes them, so it is asked several times over about a minute, with growing
pauses: a node that restarts or is busy is not yet guilty. An earlier judge may have them, too.
Content goes to disk as it comes, never more than the rows can have; it counts once its sha256 is
the one asked for, and stays as evidence for others, `<blobs>/<sha256 hex>.rows`.

What fails here (this node's disk) is `CannotJudge`, never the stage's fault.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import trio

from node.context import NodeContext
from node.retry import Backoff, tries
from node.roles.validator.judging.errors import CannotJudge
from node.roles.validator.judging.other_validators import OtherValidators
from node.storage.names import ROWS
from node.wire.blobs import CHUNK_BYTES
from node.wire.messages.settlement import FetchRequest
from node.wire.methods import FETCH
from node.wire.rpc import call
from p2p.errors import P2PError

STAGE_TRIES = Backoff(first=2.0, last=16.0, most=5)


@dataclass(frozen=True)
class RowsTiming:
    """How long rows are asked for, in seconds.

    `stage_tries` are the tries with the accused stage, each of at most `one_try`, all of them
    within `stage`. Other validators, `most_others` of them, are asked once each within `others`.
    Each limit is longer by the time that a slow peer may take for large rows,
    `bytes_per_second` being the least that is expected of it.
    """

    stage_tries: Backoff = STAGE_TRIES
    one_try: float = 15.0
    stage: float = 75.0
    others: float = 20.0
    most_others: int = 32
    bytes_per_second: float = 2.0 * 2**20


class RowsSource(Protocol):
    """Whoever finds rows by their sha256."""

    def path(self, digest: bytes) -> Path:
        """Where rows are kept once they were found."""
        ...

    async def get(self, peer_id: str, digest: bytes, limit: int) -> Path | None:
        """A file of the rows, of at most `limit` bytes; None where nobody gives them. `peer_id` is
        the stage's. Raises `CannotJudge`."""
        ...


class RowsFetcher:
    """Fetches rows by their hash and keeps them."""

    def __init__(
        self, context: NodeContext, others: OtherValidators, timing: RowsTiming | None = None
    ) -> None:
        self._context = context
        self._others = others
        self._timing = timing or RowsTiming()

    def path(self, digest: bytes) -> Path:
        """Where rows of this sha256 are kept."""
        return self._context.blobs / f"{digest.hex()}{ROWS}"

    async def get(self, peer_id: str, digest: bytes, limit: int) -> Path | None:
        """A file of the rows, of at most `limit` bytes; None where nobody gives them. `peer_id` is
        the stage's. Raises `CannotJudge`."""
        path, timing = self.path(digest), self._timing
        if await trio.to_thread.run_sync(is_content, path, digest):
            return path
        extra = limit / timing.bytes_per_second
        with trio.move_on_after(timing.stage + extra):
            async for _ in tries(timing.stage_tries):
                if await self._try(peer_id, path, digest, limit, timing.one_try + extra):
                    return path
        with trio.move_on_after(timing.others + extra):
            for other in (await self._others.peer_ids())[: timing.most_others]:
                if await self._try(other, path, digest, limit, timing.one_try + extra):
                    return path
        return None

    async def _try(
        self, peer_id: str, path: Path, digest: bytes, limit: int, seconds: float
    ) -> bool:
        log = self._context.log.bind(peer=peer_id, rows=digest.hex()[:12])
        try:
            with trio.move_on_after(seconds) as scope:
                if await self._download(peer_id, path, digest, limit):
                    return True
            log.info("rows not revealed", reason="late" if scope.cancelled_caught else "other rows")
        except P2PError as exc:
            log.info("rows not revealed", reason=str(exc))
        except OSError as exc:
            raise CannotJudge(f"cannot keep revealed rows: {exc}") from exc
        return False

    async def _download(self, peer_id: str, path: Path, digest: bytes, limit: int) -> bool:
        """Whether the peer gave the content, which then is at `path`."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        file = await trio.to_thread.run_sync(_open_new, temporary)
        try:
            whole = await self._copy(peer_id, digest, limit, file)
            if whole:
                await trio.to_thread.run_sync(_finish, file, temporary, path)
            return whole
        finally:
            file.close()
            temporary.unlink(missing_ok=True)

    async def _copy(self, peer_id: str, digest: bytes, limit: int, file: BinaryIO) -> bool:
        found, size = hashlib.sha256(), 0
        for _ in range(limit // CHUNK_BYTES + 1):
            request = FetchRequest(digest=digest, offset=size)
            chunk = await call(self._context, peer_id, FETCH, request)
            size += len(chunk.data)
            if not chunk.data or size > chunk.total or chunk.total > limit:
                return False
            found.update(chunk.data)
            await trio.to_thread.run_sync(file.write, chunk.data)
            if size == chunk.total:
                break
        return found.digest() == digest


def is_content(path: Path, digest: bytes) -> bool:
    """Whether the file is there and has this sha256."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest() == digest
    except OSError:
        return False


def _open_new(path: Path) -> BinaryIO:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _finish(file: BinaryIO, temporary: Path, path: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    temporary.replace(path)
