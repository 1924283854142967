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
from pathlib import Path
from typing import BinaryIO

import trio

from node.context import NodeContext
from node.wire.blobs import CHUNK_BYTES, ROWS
from node.wire.messages.settlement import FetchRequest
from node.wire.methods import FETCH
from node.wire.peer_addresses import peers_by_address
from node.wire.rpc import call
from p2p.errors import P2PError

FIRST_PAUSE_SECONDS = 2.0
TRIES = 5
TRY_SECONDS = 15.0
STAGE_SECONDS = 75.0
OTHERS_SECONDS = 20.0
BYTES_PER_SECOND = 2 * 2**20
"""What a slow peer may take longer for large rows."""
MAX_OTHERS = 32


class CannotJudge(Exception):
    """This node cannot come to a verdict, for a reason that is held against nobody."""


class RowsFetcher:
    """Fetches and keeps rows by their hash."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context

    def path(self, digest: bytes) -> Path:
        """Where rows are kept."""
        return self._context.blobs / f"{digest.hex()}{ROWS}"

    async def get(self, peer_id: str, digest: bytes, limit: int) -> Path | None:
        """A file of the rows, of at most `limit` bytes; None where nobody gives them. `peer_id` is
        the stage's. Raises `CannotJudge`."""
        path = self.path(digest)
        if await trio.to_thread.run_sync(is_content, path, digest):
            return path
        extra, pause = limit / BYTES_PER_SECOND, FIRST_PAUSE_SECONDS
        with trio.move_on_after(STAGE_SECONDS + extra):
            for attempt in range(TRIES):
                if attempt:
                    await trio.sleep(pause)
                    pause *= 2
                if await self._try(peer_id, path, digest, limit, TRY_SECONDS + extra):
                    return path
        with trio.move_on_after(OTHERS_SECONDS + extra):
            for other in (await self._validators())[:MAX_OTHERS]:
                if await self._try(other, path, digest, limit, TRY_SECONDS + extra):
                    return path
        return None

    async def _validators(self) -> list[str]:
        """Other validators; none where the chain does not say who they are."""
        context = self._context
        if context.chain is None:
            known = [r.peer_id for r in context.network.records.all() if "validator" in r.roles]
        else:
            from chain.errors import ChainError

            peers = peers_by_address(context.network)
            try:
                known = [peers[v] for v in await context.chain.validators.addresses() if v in peers]
            except ChainError as exc:
                context.log.warning("no validator asked for rows", reason=str(exc))
                return []
        return [peer_id for peer_id in known if peer_id != context.peer_id]

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
