"""Content under its sha256: kept by whoever has it, fetched from anybody.

Two kinds of content are served to every peer that asks by hash. Epochs' data: whoever signs or
fetches them keeps them and says so in the DHT. A reader asks providers found there and peers whose
records it has, staked and proven ones first, so neither a single node nor a crowd of new identities
can withhold an epoch from it. And rows,
which a stage received and shows when it is accused (`node.roles.validator.judging.rows` fetches
them); only a unit's bundle has their hash. Any byte that differs is noticed at the end, and the
next peer is asked.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from node.config.files import write_atomically
from node.context import NodeContext
from node.errors import InputError
from node.storage.names import EPOCH, ROWS, rows_folder
from node.wire.messages.settlement import FetchedChunk, FetchRequest
from node.wire.methods import FETCH
from node.wire.rpc import call, serve
from p2p.errors import P2PError, Refused
from proofs.settlement.epoch_data import MAX_DATA_BYTES, data_hash

CHUNK_BYTES = 2 * 2**20
MAX_PEERS = 32
MAX_CHUNKS = MAX_DATA_BYTES // CHUNK_BYTES + 1


@dataclass(frozen=True)
class FetchTiming:
    """Seconds to spend on looking for providers in the DHT, and on one peer's whole content."""

    providers: float = 5.0
    peer: float = 60.0


class BlobStore:
    """The epoch data that this node has, and its answers to whoever asks for content."""

    def __init__(self, context: NodeContext, timing: FetchTiming | None = None) -> None:
        self._context = context
        self._timing = timing or FetchTiming()
        self._shelves = (
            (context.blobs, EPOCH),
            (context.blobs, ROWS),  # what was revealed to this validator
            (rows_folder(context.config.data_dir), ROWS),
        )

    def serve(self) -> None:
        """Answer everybody's `fetch`."""
        serve(self._context.network, FETCH, self._on_fetch)

    async def put(self, content: bytes) -> bytes:
        """Keep content and offer it; returns its hash. Raises `InputError` if the disk refuses."""
        digest = data_hash(content)
        if await self.get(digest) is None:
            path = self._path(digest)
            await trio.to_thread.run_sync(write_atomically, path, content, 0o600)
        return digest

    async def announce(self, digest: bytes) -> None:
        """Say in the DHT that this node has it. Hearsay only: failing changes nothing."""
        try:
            await self._context.network.provide(digest)
        except P2PError as exc:
            self._context.log.debug("epoch data not announced", reason=str(exc))

    async def get(self, digest: bytes) -> bytes | None:
        """Content that is here; a damaged file counts as missing."""
        try:
            content = await trio.to_thread.run_sync(self._path(digest).read_bytes)
        except OSError:
            return None
        return content if data_hash(content) == digest else None

    async def fetch(self, digest: bytes, first: tuple[str, ...] = ()) -> bytes | None:
        """Content from here or, `first` before all others, from peers; kept once it is found."""
        content = await self.get(digest)
        if content is not None:
            return content
        tried: set[str] = set()
        for peers in (list(first), self._neighbours(), None):
            candidates = await self._providers(digest) if peers is None else peers
            for peer_id in candidates[:MAX_PEERS]:
                if peer_id in tried or peer_id == self._context.peer_id:
                    continue
                tried.add(peer_id)
                content = await self._from_peer(peer_id, digest)
                if content is not None:
                    await self._keep(content)
                    return content
        return None

    async def fetch_from(self, peer_id: str, digest: bytes) -> bytes | None:
        """Content from here, or from this peer and no other; what it sent is not kept."""
        return await self.get(digest) or await self._from_peer(peer_id, digest)

    async def _keep(self, content: bytes) -> None:
        try:
            await self.put(content)
        except InputError as exc:
            self._context.log.warning("epoch data not kept", reason=str(exc))

    def _neighbours(self) -> list[str]:
        network = self._context.network
        peers = list({*network.peers(), *(record.peer_id for record in network.records.all())})
        return by_standing(peers, network.standing)

    async def _providers(self, digest: bytes) -> list[str]:
        try:
            return list(await self._context.network.find_providers(digest, self._timing.providers))
        except P2PError:
            return []

    async def _from_peer(self, peer_id: str, digest: bytes) -> bytes | None:
        with trio.move_on_after(self._timing.peer):
            try:
                content = await self._read(peer_id, digest)
                return content if data_hash(content) == digest else None
            except P2PError as exc:
                self._context.log.debug("epoch data not fetched", peer=peer_id, reason=str(exc))
        return None

    async def _read(self, peer_id: str, digest: bytes) -> bytes:
        """What a peer says is the content. It ends in `MAX_CHUNKS`, or the rest is not read."""
        content = bytearray()
        for _ in range(MAX_CHUNKS):
            request = FetchRequest(digest=digest, offset=len(content))
            chunk = await call(self._context, peer_id, FETCH, request)
            content += chunk.data
            if chunk.total > MAX_DATA_BYTES or len(content) >= chunk.total or not chunk.data:
                break
        return bytes(content)

    async def _on_fetch(self, peer_id: str, request: FetchRequest) -> FetchedChunk:
        for folder, suffix in self._shelves:
            path = folder / f"{request.digest.hex()}{suffix}"
            read = await trio.to_thread.run_sync(_read_part, path, request.offset)
            if read is not None:
                return FetchedChunk(data=read[0], total=read[1])
        raise Refused("not_here", "I do not have that content")

    def _path(self, digest: bytes) -> Path:
        return self._context.blobs / f"{digest.hex()}{EPOCH}"


def by_standing(peers: list[str], standing: Callable[[str], int]) -> list[str]:
    """Staked peers first, then proven ones, then strangers; in random order among equals. New
    identities cost nothing, so a draw among all would nearly always be one among them."""
    drawn = random.sample(peers, len(peers))
    return sorted(drawn, key=standing, reverse=True)


def _read_part(path: Path, offset: int) -> tuple[bytes, int] | None:
    try:
        with path.open("rb") as file:
            total = file.seek(0, 2)
            file.seek(min(offset, total))
            return file.read(CHUNK_BYTES), total
    except OSError:
        return None
