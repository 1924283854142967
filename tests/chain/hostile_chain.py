"""A model of a chain and of one endpoint of it, as hostile as one can be within the rules.

The rules are consensus: nonces of an account are executed in order and each once. All else may go
wrong: what was taken is forgotten, what was refused is mined, answers get lost after they took
effect, receipts come late, and blocks are replaced by others of equal number.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import rlp
from eth_utils import keccak

from chain.encoding.hexdata import to_data
from chain.encoding.records import Block, TransactionReceipt
from chain.errors import ChainUnreachable, RpcError

GWEI = 10**9
URL = "http://model"


class Crash(Exception):
    """The process dies here."""


@dataclass(frozen=True)
class Bytes:
    """What the network reads from raw bytes."""

    hash: bytes
    nonce: int
    tip: int
    max_fee: int


def read(raw: bytes) -> Bytes:
    fields = rlp.decode(raw[1:])
    _, nonce, tip, max_fee, *_ = (int.from_bytes(item, "big") for item in fields[:5])
    return Bytes(keccak(raw), nonce, tip, max_fee)


@dataclass
class Mined:
    """A block; `taken` are hashes (None: a stranger's) with whether they succeeded."""

    hash: bytes
    taken: list[tuple[bytes | None, bool]] = field(default_factory=list)


class HostileRpc:
    """Stands where `Rpc` does. `moods` are the next answers to broadcasts, then all are taken."""

    url = URL

    def __init__(self) -> None:
        self.blocks = [Mined(bytes(32))]
        self.seen: dict[bytes, Bytes] = {}  # what some node may still mine
        self.pool: dict[int, Bytes] = {}  # what this endpoint holds, by nonce
        self.moods: list[str] = []
        self.late = False
        self.calls_to_live: int | None = None
        self._salt = 0

    # -- the chain -----------------------------------------------------------------------------

    def count(self, last: int | None = None) -> int:
        blocks = self.blocks if last is None else self.blocks[: last + 1]
        return sum(len(block.taken) for block in blocks)

    def mine(self, picks: list[tuple[int, bool]], strangers: bool = False) -> None:
        """A block with as many consecutive transactions as there are `picks` and bytes for."""
        self._salt += 1
        block = Mined(self._salt.to_bytes(32, "big"))
        self.blocks.append(block)
        if strangers:
            block.taken.append((None, True))
        for pick, succeeded in picks:
            ready = sorted(b.hash for b in self.seen.values() if b.nonce == self.count())
            if not ready:
                break
            block.taken.append((ready[pick % len(ready)], succeeded))
        self.pool = {nonce: held for nonce, held in self.pool.items() if nonce >= self.count()}

    def reorganise(self, depth: int) -> None:
        depth = min(depth, len(self.blocks) - 1)
        del self.blocks[len(self.blocks) - depth :]
        for _ in range(depth):
            self.mine([])

    def where(self, tx_hash: bytes) -> tuple[int, bool] | None:
        """Number of the block that holds a transaction, and whether it succeeded."""
        for number, block in enumerate(self.blocks):
            for taken, succeeded in block.taken:
                if taken == tx_hash:
                    return number, succeeded
        return None

    # -- the endpoint --------------------------------------------------------------------------

    def _call(self) -> None:
        if self.calls_to_live is not None:
            if self.calls_to_live == 0:
                raise Crash
            self.calls_to_live -= 1

    async def block_number(self) -> int:
        self._call()
        return len(self.blocks) - 1

    async def nonce(self, address: str, tag: int | str = "latest") -> int:
        self._call()
        return self.count(tag if isinstance(tag, int) else None)

    async def block(self, tag: int | str) -> Block | None:
        self._call()
        number = len(self.blocks) - 1 if tag == "latest" else int(tag)
        if number >= len(self.blocks):
            return None
        block = self.blocks[number]
        return Block(
            number=number, hash=block.hash, parent_hash=bytes(32), timestamp=0, base_fee=GWEI
        )

    async def tip(self) -> int:
        return GWEI

    async def receipt(self, tx_hash: bytes) -> TransactionReceipt | None:
        self._call()
        place = self.where(tx_hash)
        if place is None or self.late:
            return None
        number, succeeded = place
        return TransactionReceipt(
            transaction_hash=tx_hash,
            block_number=number,
            block_hash=self.blocks[number].hash,
            gas_used=21_000,
            status=int(succeeded),
            contract=None,
            logs=(),
        )

    async def request(self, method: str, params: list[object]) -> object:
        self._call()
        assert method == "eth_getBlockByNumber"
        block = self.blocks[int(str(params[0]), 16)]
        return {"transactions": [to_data(taken or b"\xff" * 32) for taken, _ in block.taken]}

    async def send_raw(self, raw: bytes) -> None:
        self._call()
        offered = read(raw)
        mood = self.moods.pop(0) if self.moods else "take"
        if offered.nonce < self.count():
            raise self._refusal("nonce too low")
        if mood in ("take", "lost after", "leak"):
            held = self.pool.get(offered.nonce)
            if held is not None and held.hash == offered.hash:
                raise self._refusal("already known")
            if held is not None and offered.max_fee * 8 < held.max_fee * 9:
                raise self._refusal("replacement transaction underpriced")
            self.seen[offered.hash] = offered
            if mood != "leak":
                self.pool[offered.nonce] = offered
        if mood.startswith("lost"):
            raise ChainUnreachable(URL, "lost")
        if mood == "leak":
            raise self._refusal("no")
        if mood != "take":
            raise self._refusal(mood)

    def _refusal(self, message: str) -> RpcError:
        return RpcError("eth_sendRawTransaction", -32000, message)
