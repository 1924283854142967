"""An EVM chain in this process: py-evm through eth-tester's backend, spoken to in JSON-RPC.

Theory of operation. Every `eth_sendRawTransaction` is applied to the pending block and mined at
once into a block of its own, stamped with the wall clock (the caller passes it in), so a receipt
exists when the call returns. Blocks made within one second share a timestamp, as on anvil: a real
chain makes no two blocks in a second, and counting seconds up would put a busy chain ahead of the
clocks of those who use it. Receipts and logs are kept here as finished JSON: the backend would look
a transaction hash up by walking the chain from its head. `evm_snapshot` and `evm_revert` drop
blocks and are how tests make a reorganisation.

Calls run on the state after the head block, in a free-of-charge copy of the next block, stamped as
that would be, so whatever waits for a certain time becomes possible on an idle chain, and the
caller needs no ether. `evm_increaseTime` puts the chain's clock forward. The gas estimate is one
run with all the gas there is, plus a tenth; it is then tried, and raised until the call succeeds,
since a contract may behave differently when given less.

Synchronous and single-threaded: `EvmBackend` puts it behind a thread and one lock. State lives in
memory and dies with the process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import trio

from chain.devnet.execution import CALL_GAS, call_fields, execution_fault, make_vm, run_call
from chain.devnet.jsonrpc import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    SERVER_ERROR,
    Fault,
)
from chain.devnet.records import LogIndex, block_json, receipt_json, transaction_json
from chain.encoding.hexdata import (
    address_bytes,
    parse_data,
    parse_quantity,
    to_data,
    to_quantity,
)

CHAIN_ID = 31337
BLOCK_GAS = 30_000_000
MIN_TIP = 10**9


class Evm:
    """The chain and its method table. Raises `Fault` for every bad request."""

    def __init__(self, funded: str, wei: int, now: int) -> None:
        from eth_tester.backends.pyevm import PyEVMBackend

        account = {"balance": wei, "nonce": 0, "code": b"", "storage": {}}
        state = {address_bytes(funded): account}
        parameters = PyEVMBackend.generate_genesis_params(
            overrides={"timestamp": now, "gas_limit": BLOCK_GAS}
        )
        self._backend = PyEVMBackend(
            genesis_parameters=parameters,
            genesis_state=state,
            vm_configuration=((0, make_vm()),),
        )
        # The class is created afresh for every chain, so this touches no other chain.
        type(self._backend.chain).chain_id = CHAIN_ID
        self._logs = LogIndex()
        self._snapshots: list[bytes] = []
        self._clock_offset = 0
        self._methods: dict[str, Callable[..., object]] = {
            "web3_clientVersion": lambda: "prime-node-devnet/py-evm",
            "net_version": lambda: str(CHAIN_ID),
            "eth_chainId": lambda: to_quantity(CHAIN_ID),
            "eth_syncing": lambda: False,
            "eth_accounts": list,
            "eth_gasPrice": lambda: to_quantity(self._head()["base_fee_per_gas"] + MIN_TIP),
            "eth_maxPriorityFeePerGas": lambda: to_quantity(MIN_TIP),
            "eth_blockNumber": lambda: to_quantity(self._head()["number"]),
            "eth_getBalance": self._balance,
            "eth_getTransactionCount": self._nonce,
            "eth_getCode": self._code,
            "eth_getStorageAt": self._storage,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getLogs": self._get_logs,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_sendRawTransaction": self._send_raw,
            "evm_mine": self._mine,
            "evm_snapshot": self._snapshot,
            "evm_revert": self._revert,
            "evm_increaseTime": self._increase_time,
        }
        self._now = now

    def request(self, method: str, params: list[object], now: int) -> object:
        """Answer `method` at wall-clock second `now`; raises `Fault`."""
        handler = self._methods.get(method)
        if handler is None:
            raise Fault(METHOD_NOT_FOUND, f"the embedded chain does not offer {method}")
        self._now = now + self._clock_offset
        try:
            return handler(*params)
        except (ValueError, TypeError) as exc:
            raise Fault(INVALID_PARAMS, f"bad parameters for {method}: {exc}") from exc

    # -- state -------------------------------------------------------------------------------

    def _balance(self, address: object, block: object = "latest") -> str:
        account = parse_data(address, size=20)
        return to_quantity(self._backend.get_balance(account, self._tag(block)))

    def _nonce(self, address: object, block: object = "latest") -> str:
        account = parse_data(address, size=20)
        return to_quantity(self._backend.get_nonce(account, self._tag(block)))

    def _code(self, address: object, block: object = "latest") -> str:
        return to_data(self._backend.get_code(parse_data(address, size=20), self._tag(block)))

    def _storage(self, address: object, slot: object, block: object = "latest") -> str:
        account = parse_data(address, size=20)
        value = self._backend.get_storage(account, parse_quantity(slot), self._tag(block))
        return to_data(value.to_bytes(32, "big"))

    # -- blocks and transactions -------------------------------------------------------------

    def _head(self) -> dict[str, Any]:
        head: dict[str, Any] = self._backend.get_block_by_number("latest", False)
        return head

    def _next_time(self) -> int:
        """What a block that is made now is stamped with, Unix seconds."""
        return max(self._now, int(self._head()["timestamp"]))

    def _tag(self, block: object) -> str | int:
        """A block argument as the backend takes it; mined blocks only, as nothing stays pending."""
        if block in ("latest", "safe", "finalized", "pending"):
            return "latest"
        number = 0 if block == "earliest" else parse_quantity(block, bits=63)
        if number > self._head()["number"]:
            raise Fault(SERVER_ERROR, f"block {number} does not exist yet")
        return number

    def _block_by_number(self, block: object, full: object = False) -> object:
        try:
            tag = self._tag(block)
        except Fault:
            return None
        return block_json(self._backend.get_block_by_number(tag, full is True))

    def _block_by_hash(self, block_hash: object, full: object = False) -> object:
        from eth.exceptions import HeaderNotFound
        from eth_tester.exceptions import BlockNotFound

        try:
            found = self._backend.get_block_by_hash(parse_data(block_hash, size=32), full is True)
        except (BlockNotFound, HeaderNotFound):
            return None
        return block_json(found)

    def _transaction(self, tx_hash: object) -> object:
        wanted = parse_data(tx_hash, size=32)
        if self._logs.receipt(wanted) is None:
            return None
        return transaction_json(self._backend.get_transaction_by_hash(wanted))

    def _receipt(self, tx_hash: object) -> object:
        return self._logs.receipt(parse_data(tx_hash, size=32))

    def _get_logs(self, query: object) -> object:
        return self._logs.search(query, head=self._head()["number"])

    # -- execution ---------------------------------------------------------------------------

    def _call(
        self, transaction: object, block: object = "latest", _overrides: object = None
    ) -> str:
        self._tag(block)
        fields = call_fields(transaction)
        computation, _ = self._run(fields, fields.pop("gas", CALL_GAS))
        if computation.is_error:
            raise execution_fault(computation)
        return to_data(computation.output)

    def _estimate(self, transaction: object, _block: object = "latest") -> str:
        fields = call_fields(transaction)
        fields.pop("gas", None)
        computation, used = self._run(fields, CALL_GAS)
        if computation.is_error:
            raise execution_fault(computation)
        gas: int = used + used // 10
        while gas < CALL_GAS:
            if not self._run(fields, gas)[0].is_error:
                return to_quantity(gas)
            gas += gas // 2
        return to_quantity(CALL_GAS)

    def _run(self, fields: dict[str, Any], gas: int) -> tuple[Any, int]:
        return run_call(self._backend.chain, fields, gas, self._next_time())

    def _send_raw(self, raw: object) -> str:
        from eth.exceptions import PyEVMError
        from eth_keys.exceptions import BadSignature
        from eth_utils import ValidationError
        from rlp.exceptions import RLPException  # type: ignore[import-untyped]

        encoded = parse_data(raw, limit=128 * 1024)
        if not encoded:
            raise Fault(INVALID_PARAMS, "an empty transaction")
        chain = self._backend.chain
        chain.set_header_timestamp(self._next_time())
        try:
            decoded = chain.get_transaction_builder().decode(encoded)
            if self._logs.receipt(decoded.hash) is not None:
                raise Fault(SERVER_ERROR, "already known")
            nonce = self._backend.get_nonce(decoded.sender, "latest")
            if decoded.nonce < nonce:
                raise Fault(SERVER_ERROR, f"nonce too low: next nonce {nonce}")
            if decoded.nonce > nonce:
                raise Fault(SERVER_ERROR, f"nonce too high: next nonce {nonce}, nothing is queued")
            tx_hash: bytes = self._backend.send_raw_transaction(encoded)
        except (ValidationError, RLPException, PyEVMError, BadSignature) as exc:
            raise Fault(SERVER_ERROR, f"transaction refused: {exc}") from exc
        self._backend.mine_blocks()
        self._logs.add(receipt_json(self._backend.get_transaction_receipt(tx_hash)))
        return to_data(tx_hash)

    # -- for tests and development -----------------------------------------------------------

    def _mine(self, _timestamp: object = None) -> str:
        self._backend.chain.set_header_timestamp(self._next_time())
        self._backend.mine_blocks()
        return "0x0"

    def _snapshot(self) -> str:
        self._snapshots.append(self._backend.take_snapshot())
        return to_quantity(len(self._snapshots))

    def _revert(self, snapshot: object) -> bool:
        index = parse_quantity(snapshot, bits=31)
        if not 0 < index <= len(self._snapshots):
            return False
        self._backend.revert_to_snapshot(self._snapshots[index - 1])
        del self._snapshots[index - 1 :]
        self._logs.truncate(self._head()["number"])
        return True

    def _increase_time(self, seconds: object) -> str:
        amount = seconds if isinstance(seconds, int) else parse_quantity(seconds, bits=31)
        if not 0 <= amount < 2**31:
            raise ValueError("time goes forward only")
        self._clock_offset += amount
        return to_quantity(self._clock_offset)


class EvmBackend:
    """`Evm` behind a worker thread; one request at a time."""

    name = "py-evm"

    def __init__(self, evm: Evm) -> None:
        self._evm = evm
        self._lock = trio.Lock()

    @classmethod
    async def start(cls, funded: str, wei: int) -> EvmBackend:
        """Build a fresh chain on which the address `funded` owns `wei`.

        Importing py-evm takes about a second of a worker thread.
        """
        return cls(await trio.to_thread.run_sync(Evm, funded, wei, int(time.time())))

    async def request(self, method: str, params: list[object]) -> object:
        """Answer one JSON-RPC method; raises `Fault`."""
        async with self._lock:
            return await trio.to_thread.run_sync(
                self._evm.request, method, params, int(time.time())
            )
