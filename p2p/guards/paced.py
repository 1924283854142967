"""Long-lived streams of the library, read no faster than the peer's budgets allow.

Gossip and the DHT read message after message from a stream, each a varint length and that many
bytes, and gather one in memory while it comes. `PacedStream` stands between them and the stream: it
gathers a message itself, with its bytes reserved until the next one is asked for, and does not read
on while the peer is above its CPU budget. The peer's window fills up then and it has to wait;
nothing is lost and nobody is blamed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import trio
from libp2p.abc import INetStream
from libp2p.io.exceptions import MessageTooLarge
from libp2p.network.stream.exceptions import StreamReset
from libp2p.utils import encode_varint_prefixed

from p2p.admission.holdings import Lease
from p2p.guards.account import PeerAccount

MAX_PREFIX = 10  # bytes of a varint


class PacedStream:
    """An `INetStream` whose messages are read as the module's docstring says.

    Args:
        limit: bytes of the largest message; a larger one is not gathered, reading raises
            `MessageTooLarge`.
        idle: seconds that a message may take to come, counted from when it is asked for; reading
            raises `StreamReset` then.
        split: makes several smaller messages of one; the reader gets them one by one, with a round
            of the event loop and the CPU budget in between.
    """

    def __init__(
        self,
        stream: INetStream,
        account: PeerAccount,
        lease: Lease,
        limit: int,
        idle: float,
        split: Callable[[bytes], list[bytes]] = lambda message: [message],
    ) -> None:
        self._stream = stream
        self._account = account
        self._lease = lease
        self._limit = limit
        self._idle = idle
        self._split = split
        self._ready = bytearray()
        self._parts: deque[bytes] = deque()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self, n: int | None = None) -> bytes:
        """Up to `n` bytes of the message that has come, or of the next one."""
        if not self._ready and self._parts:
            await trio.lowlevel.checkpoint()
            await self._account.wait_turn()
            self._ready += self._parts.popleft()
        if not self._ready:
            self._lease.resize(0)
            await self._account.wait_turn()
            with trio.move_on_after(self._idle) as waiting:
                await self._gather()
            if waiting.cancelled_caught:
                raise StreamReset("no message came in time")
        count = len(self._ready) if n is None or n < 0 else min(n, len(self._ready))
        chunk = bytes(self._ready[:count])
        del self._ready[:count]
        return chunk

    async def _gather(self) -> None:
        prefix, length = b"", 0
        while len(prefix) < MAX_PREFIX:
            byte = await self._stream.read(1)
            prefix += byte
            if not byte:
                break
            length |= (byte[0] & 0x7F) << 7 * (len(prefix) - 1)
            if byte[0] < 0x80:
                break
        message = bytearray(prefix)
        if length > self._limit:
            raise MessageTooLarge(f"a message of {length} bytes; at most {self._limit}")
        if prefix and prefix[-1] < 0x80:
            await self._account.wait_room(self._lease, len(prefix) + length)
            whole = len(prefix) + length
            while len(message) < whole:
                chunk = await self._stream.read(whole - len(message))
                if not chunk:
                    break
                message += chunk
            if len(message) == whole:
                parts = self._split(bytes(message[len(prefix) :]))
                self._parts.extend(encode_varint_prefixed(part) for part in parts[1:])
                message = bytearray(encode_varint_prefixed(parts[0]))
        self._ready = message
