"""An Ethereum endpoint, for trio: web3's asynchronous half over our own provider.

`Rpc` is the narrow set of reads that this package needs. web3 asks and formats; its results are
then checked for type and range, because the endpoint is not trusted either, and web3's exceptions
become ours. None of its default middleware is used: it would ask for the chain id before every
call, or resolve names, which nothing here has. The one middleware put in its place accepts blocks
of proof-of-authority chains, whose extra data is longer than Ethereum's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import httpx
from eth_typing import ABIError
from pydantic import BeforeValidator, TypeAdapter
from web3 import AsyncWeb3
from web3.exceptions import BlockNotFound, TransactionNotFound, Web3Exception, Web3RPCError
from web3.middleware import ExtraDataToPOAMiddleware
from web3.types import RPCEndpoint

from chain.encoding.hexdata import (
    parse_address,
    parse_quantity,
    to_data,
    to_quantity,
)
from chain.encoding.records import (
    Block,
    Count,
    Data,
    Hash,
    Log,
    Logs,
    TransactionReceipt,
    Wei,
)
from chain.endpoint.environment import direct_or_proxied
from chain.endpoint.provider import HttpProvider
from chain.errors import BadResponse, InvalidInput, RpcError

DEADLINE_SECONDS = 15.0

BlockTag = int | str
T = TypeVar("T")

MALFORMED = (Web3Exception, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What web3's formatters and codec raise for values that they did not expect."""

_BLOCK = TypeAdapter(Block)
_COUNT: TypeAdapter[int] = TypeAdapter(Count)
_QUANTITY: TypeAdapter[int] = TypeAdapter(Annotated[Count, BeforeValidator(parse_quantity)])
_DATA: TypeAdapter[bytes] = TypeAdapter(Data)
_HASH: TypeAdapter[bytes] = TypeAdapter(Hash)
_LOGS: TypeAdapter[tuple[Log, ...]] = TypeAdapter(Logs)
_RECEIPT = TypeAdapter(TransactionReceipt)
_WEI: TypeAdapter[int] = TypeAdapter(Wei)
_ANY: TypeAdapter[object] = TypeAdapter(object)


class Rpc:
    """One JSON-RPC endpoint. Methods raise ChainUnreachable, BadResponse, RpcError, Reverted.

    Methods that take an address raise InvalidInput when it is not one.
    """

    def __init__(self, provider: HttpProvider) -> None:
        self.url = provider.url
        middleware = [(ExtraDataToPOAMiddleware, "authorities")]
        self.web3: AsyncWeb3[HttpProvider] = AsyncWeb3(provider, middleware=middleware)
        self._eth = self.web3.eth
        self._provider = provider

    @property
    def trouble(self) -> str:
        """Why the newest request had no answer; "" where it had one."""
        return self._provider.trouble

    async def chain_id(self) -> int:
        """The chain id (EIP-155)."""
        return await self._checked("eth_chainId", self._eth.chain_id, _COUNT)

    async def block_number(self) -> int:
        """Number of the head block."""
        return await self._checked("eth_blockNumber", self._eth.block_number, _COUNT)

    async def block(self, tag: BlockTag) -> Block | None:
        """A block's header by number or tag; None when there is no such block."""
        try:
            return await self._checked("eth_getBlockByNumber", self._eth.get_block(tag), _BLOCK)
        except BlockNotFound:
            return None

    async def balance(self, address: str) -> int:
        """Balance of an account in wei."""
        return await self._checked("eth_getBalance", self._eth.get_balance(_address(address)), _WEI)

    async def nonce(self, address: str, tag: BlockTag = "latest") -> int:
        """How many transactions of the account are mined up to block `tag`."""
        answer = self._eth.get_transaction_count(_address(address), tag)
        return await self._checked("eth_getTransactionCount", answer, _COUNT)

    async def code(self, address: str) -> bytes:
        """Bytecode at an address; empty when there is no contract."""
        return await self._checked("eth_getCode", self._eth.get_code(_address(address)), _DATA)

    async def tip(self) -> int:
        """A priority fee that gets mined, in wei for each unit of gas.

        The endpoint's suggestion, or what recent blocks accepted when it makes none.
        """
        return await self._checked("eth_maxPriorityFeePerGas", self._eth.max_priority_fee, _WEI)

    async def receipt(self, tx_hash: bytes) -> TransactionReceipt | None:
        """The receipt of a mined transaction; None when it is not (or no longer) mined."""
        answer = self._eth.get_transaction_receipt(to_data(tx_hash))
        try:
            return await self._checked("eth_getTransactionReceipt", answer, _RECEIPT)
        except TransactionNotFound:
            return None

    async def logs(
        self, first: int, last: int, addresses: Sequence[str], topics: Sequence[bytes] = ()
    ) -> Sequence[Log]:
        """Logs of `addresses` (none: of all contracts) in blocks `first` to `last`.

        Only those whose first topics are `topics`.
        """
        wanted = [_address(address) for address in addresses]
        query: dict[str, Any] = {"fromBlock": first, "toBlock": last, "address": wanted}
        if topics:
            query["topics"] = [to_data(topic) for topic in topics]
        return await self._checked("eth_getLogs", self._eth.get_logs(query), _LOGS)

    async def call(
        self, to: str, data: bytes, *, sender: str | None = None, tag: BlockTag = "latest"
    ) -> bytes:
        """Run a read-only call; raises Reverted with the decoded error."""
        transaction: dict[str, Any] = {"to": _address(to), "data": to_data(data)}
        if sender is not None:
            transaction["from"] = _address(sender)
        return await self._checked("eth_call", self._eth.call(transaction, tag), _DATA)

    async def estimate_gas(self, sender: str, to: str | None, data: bytes, value: int = 0) -> int:
        """Gas that a transaction would need now; raises Reverted when it would revert.

        No block is named (web3 would name the head): some endpoints then run it at the time of the
        next block, and a call that waits for a time is right already though the chain idles.
        """
        transaction: dict[str, Any] = {
            "from": _address(sender),
            "data": to_data(data),
            "value": to_quantity(value),
        }
        if to is not None:
            transaction["to"] = _address(to)
        answer = self.web3.manager.coro_request(RPCEndpoint("eth_estimateGas"), [transaction])
        return await self._checked("eth_estimateGas", answer, _QUANTITY)

    async def send_raw(self, raw: bytes) -> None:
        """Broadcast a signed transaction; raises RpcError with the pool's refusal."""
        await self._checked("eth_sendRawTransaction", self._eth.send_raw_transaction(raw), _HASH)

    async def request(self, method: str, params: list[object]) -> object:
        """Call any method that may be repeated; returns its JSON result, unchecked."""
        answer = self.web3.manager.coro_request(RPCEndpoint(method), params)
        return await self._checked(method, answer, _ANY)

    async def _checked(self, method: str, answer: Awaitable[Any], shape: TypeAdapter[T]) -> T:
        """What web3 answers to `method`, if it has `shape`; translates web3's errors.

        BlockNotFound and TransactionNotFound, which are answers, come through as they are.
        """
        try:
            return shape.validate_python(await answer)
        except (BlockNotFound, TransactionNotFound):
            raise
        except Web3RPCError as exc:
            error = exc.rpc_response["error"]
            raise RpcError(method, error["code"], error["message"]) from exc
        except MALFORMED as exc:
            reason = " ".join(str(exc).split())[:300]
            raise BadResponse(f"{self.url} answered {method} wrongly: {reason}") from exc


@asynccontextmanager
async def open_rpc(
    url: str,
    *,
    errors: Mapping[bytes, ABIError] | None = None,
    deadline: float = DEADLINE_SECONDS,
) -> AsyncIterator[Rpc]:
    """An `Rpc` with its own HTTP client, closed at the end of the block.

    `errors` are the custom errors to decode reverts with, by selector. Raises InvalidInput for
    anything but an http(s) URL.
    """
    made = direct_or_proxied(
        lambda environment: httpx.AsyncClient(timeout=None, trust_env=environment), _host(url)
    )
    async with made as client:
        yield Rpc(HttpProvider(client, url, errors or {}, deadline))


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") and parts.port != 0 else None
    except ValueError:
        host = None
    if host is None:
        raise InvalidInput(f"{url!r} is no RPC URL; it looks like http://127.0.0.1:8545")
    return host


def _address(value: str) -> str:
    try:
        return parse_address(value)
    except ValueError as exc:
        raise InvalidInput(str(exc)) from exc
