"""Calldata, transactions, events, errors and hex data, against eth_abi, rlp and hostile input."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress

import pytest
import rlp
from eth_abi import encode as reference_encode
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from chain.encoding.artifacts import CONTRACTS, error_table, load_artifact
from chain.encoding.codec import Abi, AbiError, decode_revert
from chain.encoding.hexdata import (
    address_bytes,
    parse_address,
    parse_data,
    parse_quantity,
    to_data,
    to_quantity,
)
from chain.encoding.records import Log
from chain.errors import InvalidInput
from chain.transactions.fees import GWEI, FeePolicy, first_offer, raised_offer, read_refusal
from chain.transactions.machine import Refusal
from chain.transactions.signing import MAX_GAS, Fees, Unsigned, sign
from proofs.encoding.jsontext import parse_json
from proofs.encoding.signing import address_of, checksum_address, keccak256

KEYS = st.binary(min_size=32, max_size=32).filter(lambda k: 0 < int.from_bytes(k, "big") < 2**255)
ADDRESSES = st.binary(min_size=20, max_size=20).map(checksum_address)


@given(
    key=KEYS,
    nonce=st.integers(0, 2**63),
    to=st.none() | ADDRESSES,
    value=st.integers(0, 2**128),
    data=st.binary(max_size=300),
    gas=st.integers(21_000, MAX_GAS),
)
def test_a_signed_transaction_says_what_was_asked_and_by_whom(
    key: bytes, nonce: int, to: str | None, value: int, data: bytes, gas: int
) -> None:
    signed = sign(Unsigned(31337, nonce, to, value, data, gas, Fees(3 * GWEI, GWEI)), key)
    assert signed.hash == keccak256(signed.raw)
    assert Account.recover_transaction(signed.raw) == address_of(key)
    assert signed.raw[0] == 2
    fields = rlp.decode(signed.raw[1:])
    assert len(fields) == 12
    numbers = [int.from_bytes(field, "big") for field in (*fields[:5], fields[6])]
    assert numbers == [31337, nonce, GWEI, 3 * GWEI, gas, value]
    assert fields[5] == (address_bytes(to) if to is not None else b"")
    assert fields[7:9] == [data, []]


@pytest.mark.parametrize("gas", [0, 20_999, MAX_GAS + 1])
def test_gas_limits(gas: int) -> None:
    with pytest.raises(InvalidInput, match="gas"):
        sign(Unsigned(1, 0, None, 0, b"", gas, Fees(1, 1)), b"\x01" * 32)


ABI = Abi(
    "T",
    [
        {
            "type": "function",
            "name": "put",
            "inputs": [
                {
                    "name": "root",
                    "type": "tuple",
                    "components": [
                        {"name": "id", "type": "uint256"},
                        {"name": "who", "type": "address"},
                    ],
                },
                {"name": "parts", "type": "bytes[]"},
            ],
            "outputs": [
                {
                    "name": "",
                    "type": "tuple[]",
                    "components": [
                        {"name": "id", "type": "uint256"},
                        {"name": "who", "type": "address"},
                    ],
                }
            ],
        },
        {
            "type": "event",
            "name": "Put",
            "anonymous": False,
            "inputs": [
                {"name": "who", "type": "address", "indexed": True},
                {"name": "label", "type": "string", "indexed": True},
                {"name": "amount", "type": "uint256", "indexed": False},
            ],
        },
    ],
)
WHO = checksum_address(b"\x12" * 20)
PUT = keccak256(b"Put(address,string,uint256)")


def _log(topics: list[bytes], data: bytes) -> Log:
    return Log(
        address=WHO,
        topics=tuple(topics),
        data=data,
        block_number=1,
        block_hash=bytes(32),
        transaction_hash=bytes(32),
        transaction_index=0,
        log_index=0,
    )


def test_structs_are_spelled_out() -> None:
    data = ABI.encode("put", (5, WHO), [b"a", b"bc"])
    assert data[4:] == reference_encode(["(uint256,address)", "bytes[]"], [(5, WHO), [b"a", b"bc"]])


@pytest.mark.parametrize("args", [(), ((5, WHO),), ((-1, WHO), []), ((5, "0x12"), []), (5, [])])
def test_arguments_that_do_not_fit_are_refused(args: tuple[object, ...]) -> None:
    with pytest.raises(AbiError, match=r"T\.put"):
        ABI.encode("put", *args)


def test_events_are_decoded_by_their_topic() -> None:
    topics = [PUT, bytes(12) + b"\x12" * 20, b"\x34" * 32]
    name, arguments = ABI.decode_event(_log(topics, (9).to_bytes(32, "big")))
    assert (name, arguments) == ("Put", {"who": WHO, "label": b"\x34" * 32, "amount": 9})
    for bad in ([], [bytes(32)], topics[:2]):
        with pytest.raises(AbiError):
            ABI.decode_event(_log(bad, (9).to_bytes(32, "big")))


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_raise_abi_error(data: bytes) -> None:
    with suppress(AbiError):
        ABI.decode_event(_log([PUT, bytes(32), bytes(32)], data))
    decode_revert(data, error_table())
    for selector in list(error_table())[:5]:
        decode_revert(selector + data, error_table())


def test_built_in_errors_are_known() -> None:
    data = bytes.fromhex("08c379a0") + reference_encode(["string"], ["no"])
    assert decode_revert(data, {}) == ("Error", ("no",))
    assert decode_revert(bytes.fromhex("4e487b71") + bytes(31) + b"\x11", {}) == ("Panic", (17,))
    assert decode_revert(b"\x01\x02\x03\x04", {}) == ("", ())


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("chain, chain.errors", {"web3", "eth_account", "httpx", "trio", "pydantic"}),
        (
            "chain.client, chain.events.reader",
            {"eth_tester", "eth", "torch", "starlette", "hypercorn"},
        ),
    ],
)
def test_imports_stay_light(modules: str, unwanted: set[str]) -> None:
    program = f"import sys, {modules}; print(sorted({unwanted} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


def test_every_artifact_loads() -> None:
    for name in CONTRACTS:
        artifact = load_artifact(name)
        assert artifact.bytecode
        assert artifact.abi.functions


@given(st.integers(0, 2**256 - 1), st.binary(max_size=64))
def test_hex_round_trips(number: int, data: bytes) -> None:
    assert parse_quantity(to_quantity(number)) == number
    assert parse_data(to_data(data)) == data


@pytest.mark.parametrize("value", [None, 1, "", "0x", "1", "0x-1", "0x 1", "0x" + "1" * 65, "0xg"])
def test_bad_quantities(value: object) -> None:
    with pytest.raises(ValueError, match=r"quantity|bits"):
        parse_quantity(value)


@pytest.mark.parametrize("value", [None, b"", "", "0x1", "12", "0x12zz", "0x" + "12" * 33])
def test_bad_data(value: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_data(value, limit=32)


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner), max_leaves=20))
def test_json_is_parsed_as_usual(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize("text", [b"[" * 65 + b"]" * 65, b'{"a":' * 65, b'""' + b"[" * 100_000])
def test_deep_or_broken_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)
    assert parse_json(b'["' + b"[" * 1000 + b'"]') == ["[" * 1000]


def test_a_mistyped_address_is_refused() -> None:
    address = checksum_address(bytes.fromhex("5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"))
    assert parse_address(address) == parse_address(address.lower()) == address
    wrong = address.replace("A", "a", 1)
    with pytest.raises(ValueError, match="checksum"):
        parse_address(wrong)


@given(
    base=st.integers(0, 100 * GWEI), tip=st.integers(0, 10 * GWEI), later=st.integers(0, 100 * GWEI)
)
def test_a_raise_is_an_eighth_at_least_and_ends_at_the_cap(base: int, tip: int, later: int) -> None:
    policy = FeePolicy()
    fees: Fees | None = first_offer(base, tip, policy)
    rounds = 0
    while fees is not None:
        assert fees.tip <= fees.max_fee <= policy.max_fee_cap
        raised = raised_offer(fees, later, tip, policy)
        if raised is not None:
            assert raised.max_fee * 8 >= fees.max_fee * 9
            assert raised.tip * 8 >= fees.tip * 9
        fees = raised
        rounds += 1
    assert rounds < 120


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        ("already known", None),
        ("transaction already imported", None),
        ("nonce too low: next nonce 4", Refusal.NONCE_TOO_LOW),
        ("replacement transaction underpriced", Refusal.UNDERPRICED),
        ("max fee per gas less than block base fee: address 0x…", Refusal.UNDERPRICED),
        ("insufficient funds for gas * price + value", Refusal.NO_FUNDS),
        ("internal error", Refusal.OTHER),
    ],
)
def test_refusals_are_read(message: str, meaning: Refusal | None) -> None:
    assert read_refusal(message) is meaning
