"""The JSON-RPC client against an endpoint that answers wrongly, late or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from eth_abi import encode as abi_encode
from eth_typing import ABIError
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic.alias_generators import to_camel

from chain.calls.caller import ContractCaller
from chain.database import Database
from chain.deployment.deployment import Deployment
from chain.encoding.artifacts import CONTRACTS
from chain.encoding.codec import Abi
from chain.encoding.hexdata import to_data
from chain.encoding.records import Block, Log, TransactionReceipt
from chain.encoding.views import Pool, PoolState
from chain.endpoint.provider import MAX_ANSWER
from chain.endpoint.rpc import Rpc, open_rpc
from chain.errors import BadResponse, ChainUnreachable, InvalidInput, Reverted, RpcError
from chain.transactions.manager import TransactionManager
from chain.transactions.sender import SenderSettings
from chain.transactions.store import TransactionStore
from proofs.encoding.signing import keccak256

ADDRESS = "0x" + "11" * 20
HANG = object()
DROP = object()


async def read_request(stream: trio.SocketStream) -> None:
    """All of it: a connection that is closed over unread bytes is reset, answer and all."""
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += await stream.receive_some(65_536)
    head, _, body = asked.partition(b"\r\n\r\n")
    (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
    while len(body) < int(length):
        body += await stream.receive_some(65_536)


@asynccontextmanager
async def endpoint(
    replies: Sequence[object],
    deadline: float = 10,
    errors: Mapping[bytes, ABIError] | None = None,
) -> AsyncIterator[tuple[Rpc, list[int]]]:
    """A server that gives each connection's request the next reply: bytes, HANG or DROP."""
    asked: list[int] = []

    async def serve(stream: trio.SocketStream) -> None:
        reply = replies[min(len(asked), len(replies) - 1)]
        asked.append(1)
        async with stream:
            await read_request(stream)
            if reply is HANG:
                await trio.sleep_forever()
            if reply is DROP:
                return
            assert isinstance(reply, bytes)
            head = f"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {len(reply)}\r\n\r\n"
            try:
                await stream.send_all(head.encode() + reply)
            except trio.BrokenResourceError:
                assert len(reply) > MAX_ANSWER  # the client has hung up on us, as it should

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        async with open_rpc(f"http://127.0.0.1:{port}", errors=errors, deadline=deadline) as rpc:
            yield rpc, asked
        nursery.cancel_scope.cancel()


def _result(value: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": value}).encode()


def _error(**fields: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "error": fields}).encode()


async def test_a_dropped_connection_is_tried_again() -> None:
    async with endpoint([DROP, DROP, _result("0x2a")]) as (rpc, asked):
        assert await rpc.block_number() == 42
        assert len(asked) == 3


async def test_a_silent_endpoint_meets_the_deadline() -> None:
    async with endpoint([HANG], deadline=0.2) as (rpc, asked):
        with pytest.raises(ChainUnreachable, match=r"no answer within 0\.2 s"):
            await rpc.block_number()
        assert len(asked) == 1


@pytest.mark.parametrize(
    "reply",
    [
        b"<html>",
        b"[]",
        b"{}",
        b"[" * 100_000,
        _result(42),
        _result("42"),
        _result("0x" + "f" * 65),
        _result(None),
        json.dumps({"error": "no"}).encode(),
        b" " * (MAX_ANSWER + 1),
    ],
    ids=["html", "list", "empty", "deep", "int", "decimal", "long", "null", "text", "huge"],
)
async def test_wrong_answers_are_named(reply: bytes) -> None:
    async with endpoint([reply]) as (rpc, _):
        with pytest.raises(BadResponse, match=r"http://127\.0\.0\.1"):
            await rpc.balance(ADDRESS)


async def test_records_are_checked_field_by_field() -> None:
    good = {"number": "0x1", "hash": "0x" + "aa" * 32, "parentHash": "0x" + "bb" * 32}
    good |= {"timestamp": "0x5", "baseFeePerGas": "0x7"}
    async with endpoint([_result(good)]) as (rpc, _):
        block = await rpc.block("latest")
        assert block is not None
        assert (block.number, block.hash, block.base_fee) == (1, b"\xaa" * 32, 7)
    for field in good:
        async with endpoint([_result(good | {field: "0xzz"})]) as (rpc, _):
            with pytest.raises(BadResponse):
                await rpc.block("latest")
    authority = good | {"extraData": "0x" + "cc" * 97}  # with a signature, as clique has it
    async with endpoint([_result(authority)]) as (rpc, _):
        assert await rpc.block("latest") == block
    async with endpoint([_result(None)]) as (rpc, _):
        assert await rpc.block(7) is None
        assert await rpc.receipt(bytes(32)) is None
    async with endpoint([_result([{"topics": ["0x1"] * 5}])]) as (rpc, _):
        with pytest.raises(BadResponse):
            await rpc.logs(0, 1, [ADDRESS])


async def test_errors_keep_their_code_and_reverts_are_decoded() -> None:
    async with endpoint([_error(code=-32000, message="nonce too low")]) as (rpc, _):
        with pytest.raises(RpcError) as refused:
            await rpc.send_raw(b"\x02")
        assert (refused.value.code, refused.value.message) == (-32000, "nonce too low")
    abi = Abi(
        "T", [{"type": "error", "name": "Poor", "inputs": [{"name": "a", "type": "uint256"}]}]
    )
    data = to_data(keccak256(b"Poor(uint256)")[:4] + (7).to_bytes(32, "big"))
    async with endpoint(
        [_error(code=3, message="execution reverted", data=data)], errors=abi.errors
    ) as (rpc, _):
        with pytest.raises(Reverted, match=r"Poor\(7\)") as reverted:
            await rpc.call(ADDRESS, b"")
        assert reverted.value.args_ == (7,)
    async with endpoint([_error(code=3, message="reverted", data="0x")]) as (rpc, _):
        with pytest.raises(Reverted, match="empty"):
            await rpc.call(ADDRESS, b"")
    # Panics of any code, broken strings and lookups elsewhere: web3's own decoding chokes on these.
    for odd in (
        "0x4e487b71" + "ff" * 32,
        "0x08c379a0" + "ff" * 40,
        "0x556f1830" + "00" * 9,
    ):
        async with endpoint([_error(code=3, message="execution reverted", data=odd)]) as (rpc, _):
            with pytest.raises(Reverted) as strange:
                await rpc.call(ADDRESS, b"")
            assert strange.value.data.hex() == odd[2:]


async def test_an_endpoint_without_tips_is_asked_for_its_history() -> None:
    missing = _error(code=-32601, message="transaction not found")
    history = {"oldestBlock": "0x1", "reward": [["0x47868c00"], ["0x47868c00"]]}
    async with endpoint([missing, _result(history | {"baseFeePerGas": []})]) as (rpc, _):
        with pytest.warns(UserWarning, match="eth_feeHistory"):
            assert await rpc.tip() == 1_200_000_000
    async with endpoint([missing]) as (rpc, _):
        with pytest.raises(RpcError, match="no such method"):
            await rpc.chain_id()


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["0x", "0x1", "0xzz", "0x" + "11" * 20, "0x" + "aa" * 32, "0x" + "f" * 65])
)
FIELDS = [
    to_camel(name) for model in (Block, Log, TransactionReceipt) for name in model.model_fields
]
FIELDS += ["contractAddress", "baseFeePerGas", "extraData", "transactions", "reward", "uncles"]
ANSWERS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=len(FIELDS))
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(answer=ANSWERS)
async def test_any_answer_is_a_value_or_a_typed_error(answer: object) -> None:
    async with endpoint([_result(answer)]) as (rpc, _):
        for ask in (
            lambda: rpc.block(1),
            lambda: rpc.receipt(bytes(32)),
            lambda: rpc.logs(0, 1, []),
            rpc.tip,
        ):
            with suppress(BadResponse):
                await ask()


GOOD_POOL = abi_encode(
    ["(address,uint8,uint64,address,uint64,uint32,uint64,uint64,uint256,address,string,string)"],
    [(ADDRESS, 1, 5, ADDRESS, 0, 2, 0, 3, 7, ADDRESS, "name", "uri")],
)


@pytest.mark.parametrize(
    "returned",
    [
        b"",
        bytes(31),
        b"\xff" * 640,
        GOOD_POOL[:-40],
        GOOD_POOL.replace(b"name", b"\xff\xfe\xfd\xfc"),
    ],
    ids=["empty", "short", "noise", "truncated", "not UTF-8"],
)
async def test_what_a_contract_returns_is_decoded_or_named(returned: bytes) -> None:
    deployment = Deployment(1, dict.fromkeys(CONTRACTS, ADDRESS), 1, 1)
    key = b"\x01" * 32
    database = Database(":memory:", chain_id=1, genesis=bytes(32), address=ADDRESS)
    replies = [_result(to_data(GOOD_POOL)), _result(to_data(returned))]
    async with endpoint(replies) as (rpc, _):
        manager = TransactionManager(rpc, 1, key, TransactionStore(database), SenderSettings())
        caller = ContractCaller(rpc, manager, deployment)
        pool = Pool.from_abi(1, await caller.read("ComputePool", "poolInfo", 1))
        assert (pool.creator, pool.state, pool.name) == (ADDRESS, PoolState.PENDING, "name")
        with pytest.raises(BadResponse, match="of this version"):
            await caller.read("ComputePool", "poolInfo", 1)
        with pytest.raises(InvalidInput, match="poolInfo"):
            await caller.read("ComputePool", "poolInfo", -1)
    database.close()
