"""Running code in the embedded EVM: its rules, and calls that leave no trace.

py-evm is imported inside the functions, since it takes a second and few processes need it.
"""

from __future__ import annotations

import itertools
from typing import Any

from chain.devnet.jsonrpc import EXECUTION_REVERTED, SERVER_ERROR, Fault
from chain.encoding.hexdata import parse_data, parse_quantity, to_data
from proofs.encoding.signing import ZERO_ADDRESS

CALL_GAS = 16_777_216


def make_vm() -> Any:
    """Rules of the Prague fork, except that a block may carry its parent's timestamp."""
    from eth.vm.forks.prague import PragueVM

    class SameSecondVM(PragueVM):
        @classmethod
        def validate_header(cls, header: Any, parent_header: Any) -> None:
            same = parent_header is not None and header.timestamp == parent_header.timestamp
            later = header.copy(timestamp=header.timestamp + 1) if same else header
            super().validate_header(later, parent_header)

    return SameSecondVM


def call_fields(transaction: object) -> dict[str, Any]:
    """A call's object, checked; `gas` is there only if it was given. Raises ValueError."""
    if not isinstance(transaction, dict):
        raise ValueError("a call is an object")
    payload = transaction.get("input", transaction.get("data", "0x"))
    target = transaction.get("to")
    fields: dict[str, Any] = {
        "from": parse_data(transaction.get("from", ZERO_ADDRESS), size=20),
        "to": parse_data(target, size=20) if target is not None else b"",
        "value": parse_quantity(transaction.get("value", "0x0")),
        "data": parse_data(payload, limit=128 * 1024),
    }
    if "gas" in transaction:
        fields["gas"] = min(parse_quantity(transaction["gas"], bits=63), CALL_GAS)
    return fields


def run_call(chain: Any, fields: dict[str, Any], gas: int, now: int) -> tuple[Any, int]:
    """Run a call on the state after the head of py-evm's `chain`, in a block stamped `now`.

    Gas is free there. Returns py-evm's computation and the gas that the call needs. Raises Fault
    where it is not a call at all.
    """
    from eth.vm.spoof import SpoofTransaction
    from eth_utils import ValidationError

    head = chain.get_canonical_head()
    vm = chain.get_vm(head)
    header = vm.create_header_from_parent(head, coinbase=head.coinbase, timestamp=now)
    hashes = itertools.chain((head.hash,), vm.previous_hashes)
    # Nothing is written back from this state; it is forgotten with the call.
    state = vm.build_state(vm.chaindb.db, header.copy(base_fee_per_gas=0), vm.chain_context, hashes)
    sender, data = fields["from"], fields["data"]
    unsigned = chain.create_unsigned_transaction(
        nonce=state.get_nonce(sender),
        gas_price=0,
        gas=gas,
        to=fields["to"],
        value=fields["value"],
        data=data,
    )
    try:
        computation = state.costless_execute_transaction(SpoofTransaction(unsigned, from_=sender))
    except ValidationError as exc:
        raise Fault(SERVER_ERROR, str(exc)) from exc
    # EIP-7623: calldata has a floor price of 10 gas a token, a non-zero byte is 4 tokens.
    zeros = data.count(0)
    floor = 21_000 + 10 * (4 * (len(data) - zeros) + zeros)
    return computation, max(floor, unsigned.intrinsic_gas + computation.get_gas_used())


def execution_fault(computation: Any) -> Fault:
    """What a failed computation is answered with."""
    from eth.exceptions import Revert

    if isinstance(computation.error, Revert):
        return Fault(EXECUTION_REVERTED, "execution reverted", to_data(computation.output))
    return Fault(SERVER_ERROR, f"execution failed: {type(computation.error).__name__}")
