"""The development chain as an HTTP server: what it offers, and what it refuses."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import psutil
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.devnet.evm import Evm
from chain.devnet.jsonrpc import Fault, parse_body, parse_request
from chain.devnet.server import DevChain, serve_devnet
from chain.encoding.hexdata import parse_quantity, to_data
from chain.endpoint.faucet import faucet_address, register_token, request_funds
from chain.errors import FaucetRefused, InvalidInput, PortInUse
from chain.transactions.signing import Fees, SignedTransaction, Unsigned, sign
from proofs.encoding.signing import address_of, keccak256
from tests.chain.conftest import needs_anvil

RICH_KEY = b"\x01" * 32
RICH = address_of(RICH_KEY)
ETHER = 10**18
NOW = 1_800_000_000


@pytest.fixture
async def http(devnet: DevChain) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=devnet.url, trust_env=False) as client:
        yield client


def _call(method: str, *params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}


async def test_it_speaks_json_rpc(http: httpx.AsyncClient) -> None:
    answer = (await http.post("/", json=_call("eth_chainId"))).json()
    assert answer == {"jsonrpc": "2.0", "id": 1, "result": "0x7a69"}
    batch = [_call("eth_blockNumber"), {"jsonrpc": "2.0", "method": "eth_chainId"}, 5]
    answers = (await http.post("/", json=batch)).json()
    assert [a.get("result", a.get("error", {}).get("code")) for a in answers] == ["0x0", -32600]
    unknown = (await http.post("/", json=_call("eth_sign"))).json()
    assert unknown["error"]["code"] == -32601


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "text/plain"}, b"{}", 415),
        ({"content-type": "application/json", "host": "evil.example"}, b"{}", 403),
        ({"content-type": "application/json"}, b"{" * 100_000, 400),
        ({"content-type": "application/json"}, b"[" * 100_000, 400),
        ({"content-type": "application/json"}, b"[]", 400),
        ({"content-type": "application/json"}, b" " * (2 << 20), 413),
    ],
)
async def test_bad_requests_are_refused(
    http: httpx.AsyncClient, headers: dict[str, str], body: bytes, status: int
) -> None:
    assert (await http.post("/", content=body, headers=headers)).status_code == status
    assert (await http.post("/", json=_call("eth_chainId"))).json()["result"] == "0x7a69"


async def test_a_port_in_use_is_named(devnet: DevChain) -> None:
    port = int(devnet.url.rsplit(":", 1)[1])
    with pytest.raises(PortInUse, match=f"port {port} .*in use"):
        await serve_devnet("127.0.0.1", port, backend="py-evm")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "8.8.8.8", "169.254.1.1", "node.example", ""])
async def test_what_strangers_could_reach_is_not_bound(host: str) -> None:
    with pytest.raises(InvalidInput, match="private network"):
        await serve_devnet(host, 0, backend="py-evm")


async def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"10\.255\.255\.254: this machine has no such address"):
        await serve_devnet("10.255.255.254", 0, backend="py-evm")


def private_addresses() -> list[str]:
    """Of this machine, for its neighbours."""
    found = (
        ipaddress.ip_address(entry.address)
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6) and "%" not in entry.address
    )
    return [str(ip) for ip in found if ip.is_private and not ip.is_loopback]


@pytest.mark.skipif(not private_addresses(), reason="this machine has no private address")
async def test_neighbours_reach_a_chain_at_its_private_address(nursery: trio.Nursery) -> None:
    host = private_addresses()[0]
    chain: DevChain = await nursery.start(partial(serve_devnet, host, 0, backend="py-evm"))
    assert chain.url.startswith(f"http://[{host}]:" if ":" in host else f"http://{host}:")
    assert (await request_funds(chain.url, RICH)).wei > 0
    async with httpx.AsyncClient(trust_env=False) as client:
        headers = {"host": "evil.example"}
        answer = await client.post(chain.url, json=_call("eth_chainId"), headers=headers)
        assert answer.status_code == 403
        assert host in answer.text


async def test_nothing_listens_after_cancellation() -> None:
    async with trio.open_nursery() as nursery:
        dev: DevChain = await nursery.start(serve_devnet, "127.0.0.1", 0)
        nursery.cancel_scope.cancel()
    port = int(dev.url.rsplit(":", 1)[1])
    with pytest.raises(OSError, match=r"refused|all attempts"):
        await trio.open_tcp_stream("127.0.0.1", port)


@pytest.mark.parametrize("backend", ["py-evm", pytest.param("anvil", marks=needs_anvil)])
async def test_a_killed_chain_leaves_nothing_behind(backend: str) -> None:
    """kill -9 of the serving process must take anvil along."""
    program = (
        "import trio\nfrom chain.devnet import server\n"
        "async def main():\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        start = lambda *, task_status: server.serve_devnet(\n"
        f"            '127.0.0.1', 0, backend='{backend}', task_status=task_status)\n"
        "        dev = await nursery.start(start)\n"
        "        print(dev.url, flush=True)\n"
        "trio.run(main)\n"
    )
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", program], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    url = (await process.stdout.receive_some(200)).decode().strip()
    assert url.startswith("http://127.0.0.1:")
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == (2 if backend == "anvil" else 0)
    process.kill()
    with trio.fail_after(60):
        await process.wait()
        await trio.to_thread.run_sync(psutil.wait_procs, children, 15)
    assert not any(
        child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children
    )


@pytest.mark.each_chain
async def test_the_faucet_tops_up_within_limits(any_devnet: DevChain) -> None:
    address = address_of(os.urandom(32))
    grant = await request_funds(any_devnet.url, address)
    assert (grant.wei, grant.tokens) == (ETHER, 0)
    assert (await request_funds(any_devnet.url, address)).wei == 0
    with pytest.raises(FaucetRefused, match="address"):
        await request_funds(any_devnet.url, "0x12")
    with pytest.raises(FaucetRefused, match=r"ERC-20|transfer"):
        await register_token(any_devnet.url, await faucet_address(any_devnet.url))


async def test_the_faucet_stops_at_its_cap(devnet: DevChain, http: httpx.AsyncClient) -> None:
    key = os.urandom(32)
    for nonce in range(5):
        assert (await request_funds(devnet.url, address_of(key))).wei == ETHER
        spent = _signed(key, nonce, ETHER - 21_000 * 10 * 10**9)
        sent = await http.post("/", json=_call("eth_sendRawTransaction", to_data(spent.raw)))
        assert "result" in sent.json(), sent.text
    with pytest.raises(FaucetRefused, match="all its 5 grants"):
        await request_funds(devnet.url, address_of(key))


# -- the embedded EVM, without HTTP ------------------------------------------------------------


def _signed(
    key: bytes,
    nonce: int,
    value: int,
    *,
    to: str | None = RICH,
    data: bytes = b"",
    gas: int = 21_000,
) -> SignedTransaction:
    fees = Fees(max_fee=10 * 10**9, tip=10**9)
    return sign(Unsigned(31337, nonce, to, value, data, gas, fees), key)


@pytest.fixture(scope="module")
def evm() -> Evm:
    return Evm(RICH, 1_000_000 * ETHER, NOW)


def _ask(evm: Evm, method: str, *params: object, now: int = NOW) -> Any:
    return evm.request(method, list(params), now)


def test_blocks_carry_the_clock_and_never_go_back() -> None:
    evm = Evm(RICH, ETHER, NOW)
    _ask(evm, "evm_mine", now=NOW + 100)
    assert _timestamp(evm) == NOW + 100
    _ask(evm, "evm_mine", now=NOW)
    assert _timestamp(evm) == NOW + 100
    _ask(evm, "evm_increaseTime", 1000, now=NOW)
    _ask(evm, "evm_mine", now=NOW)
    assert _timestamp(evm) == NOW + 1000


def test_calls_see_the_clock_of_an_idle_chain() -> None:
    evm = Evm(RICH, ETHER, NOW)
    read_time = {"data": "0x425f5260205ff3"}  # TIMESTAMP, PUSH0, MSTORE, then RETURN that word

    def seen(now: int) -> int:
        return int(_ask(evm, "eth_call", read_time, "latest", now=now), 16)

    assert (seen(NOW), seen(NOW + 7), seen(NOW - 5)) == (NOW, NOW + 7, NOW)
    _ask(evm, "evm_increaseTime", 1000)
    assert seen(NOW) == NOW + 1000


def _timestamp(evm: Evm) -> int:
    return parse_quantity(_ask(evm, "eth_getBlockByNumber", "latest", False)["timestamp"])


def test_a_revert_forgets_transactions_and_logs() -> None:
    evm = Evm(RICH, ETHER, NOW)
    # PUSH1 7, PUSH0, PUSH0, LOG1, STOP: creation code that logs topic 7.
    emit = bytes.fromhex("60075f5fa100")
    first = _signed(RICH_KEY, 0, 0, to=None, data=emit, gas=100_000)
    _ask(evm, "eth_sendRawTransaction", to_data(first.raw))
    snapshot = _ask(evm, "evm_snapshot")
    second = _signed(RICH_KEY, 1, 0, to=None, data=emit, gas=100_000)
    _ask(evm, "eth_sendRawTransaction", to_data(second.raw))
    everything = {"fromBlock": "earliest"}
    assert len(_ask(evm, "eth_getLogs", everything)) == 2
    assert len(_ask(evm, "eth_getLogs", everything | {"topics": [to_data((7).to_bytes(32))]})) == 2
    assert _ask(evm, "eth_getLogs", everything | {"topics": [to_data(bytes(32))]}) == []
    assert _ask(evm, "evm_revert", snapshot) is True
    assert _ask(evm, "evm_revert", snapshot) is False
    assert len(_ask(evm, "eth_getLogs", everything)) == 1
    assert _ask(evm, "eth_getTransactionReceipt", to_data(second.hash)) is None
    assert _ask(evm, "eth_getTransactionByHash", to_data(first.hash))["nonce"] == "0x0"
    _ask(evm, "eth_sendRawTransaction", to_data(second.raw))
    assert _ask(evm, "eth_getTransactionReceipt", to_data(second.hash))["status"] == "0x1"


@pytest.mark.parametrize(
    ("transaction", "message"),
    [
        (_signed(RICH_KEY, 7, 1), "nonce too high"),
        (_signed(b"\x02" * 32, 0, 1), "refused"),
        (SignedTransaction(b"", b"\x02\xc0"), "refused"),
        (SignedTransaction(b"", b"\xff"), "refused"),
        (SignedTransaction(b"", b"\x11" * 20), "refused"),  # of a type that there is not
        (SignedTransaction(b"", b""), "empty"),
    ],
)
def test_bad_transactions_are_refused(
    evm: Evm, transaction: SignedTransaction, message: str
) -> None:
    before = _ask(evm, "eth_blockNumber")
    with pytest.raises(Fault, match=message):
        _ask(evm, "eth_sendRawTransaction", to_data(transaction.raw))
    assert _ask(evm, "eth_blockNumber") == before


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 200), byte=st.integers(0, 255), more=st.binary(max_size=3))
def test_a_damaged_transaction_is_refused_or_another(
    evm: Evm, place: int, byte: int, more: bytes
) -> None:
    """Most often its signature recovers to nobody, or to an account without money."""
    raw = bytearray(_signed(RICH_KEY, 5, 1).raw)
    raw[place % len(raw)] = byte
    with pytest.raises(Fault):
        _ask(evm, "eth_sendRawTransaction", to_data(bytes(raw) + more))


def test_a_repeat_and_an_old_nonce_are_told_apart() -> None:
    evm = Evm(RICH, ETHER, NOW)
    once = _signed(RICH_KEY, 0, 1)
    _ask(evm, "eth_sendRawTransaction", to_data(once.raw))
    with pytest.raises(Fault, match="already known"):
        _ask(evm, "eth_sendRawTransaction", to_data(once.raw))
    with pytest.raises(Fault, match="nonce too low"):
        _ask(evm, "eth_sendRawTransaction", to_data(_signed(RICH_KEY, 0, 2).raw))


def test_reverts_carry_their_data(evm: Evm) -> None:
    # MSTORE(0, selector-like word), REVERT(28, 4) as creation code.
    code = bytes.fromhex("63deadbeef5f526004601cfd")
    with pytest.raises(Fault) as raised:
        _ask(evm, "eth_call", {"from": RICH, "data": to_data(code)})
    assert (raised.value.code, raised.value.data) == (3, "0xdeadbeef")
    with pytest.raises(Fault) as estimated:
        _ask(evm, "eth_estimateGas", {"from": RICH, "data": to_data(code)})
    assert estimated.value.data == "0xdeadbeef"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("0x" + "11" * 20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["to", "from", "data", "topics", "value"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
METHODS = [
    "eth_call",
    "eth_estimateGas",
    "eth_getBalance",
    "eth_getBlockByHash",
    "eth_getBlockByNumber",
    "eth_getLogs",
    "eth_getStorageAt",
    "eth_getTransactionReceipt",
    "eth_sendRawTransaction",
    "evm_revert",
]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(method=st.sampled_from(METHODS), params=st.lists(json_values, max_size=3))
def test_any_parameters_get_an_answer_or_a_fault(
    evm: Evm, method: str, params: list[object]
) -> None:
    code = 0
    try:
        json.dumps(evm.request(method, params, NOW))
    except Fault as fault:
        code = fault.code
    assert code in (0, -32602, -32000, 3)


@given(st.binary(max_size=64))
def test_any_body_is_parsed_or_faulted(body: bytes) -> None:
    code = 0
    try:
        for item in parse_body(body)[1]:
            parse_request(item)
    except Fault as fault:
        code = fault.code
    assert code in (0, -32700, -32600)


def test_keccak_is_not_sha3() -> None:
    assert keccak256(b"").hex().startswith("c5d2460186f7233c")
