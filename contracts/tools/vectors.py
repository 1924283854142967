"""Write test/vectors.json: EIP-712 digests, signatures and Merkle proofs to test against.

Neither the contracts nor this project's Python code takes part: digests and signatures come from
eth-account, trees from @openzeppelin/merkle-tree (tools/merkle_trees.js). The Solidity tests and
the Python tests read the same file, so the two cannot drift apart unseen. Keys are made of public
words and worth nothing. Numbers of more than 64 bits are decimal strings.

    python contracts/tools/vectors.py [--check]        needs eth-account and, by `npm ci`, Node.js
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import to_checksum_address

CONTRACTS = Path(__file__).resolve().parent.parent
CHAIN_ID = 31337
VERIFIERS = {
    name: str(to_checksum_address(f"0x{0xA0001 + index:040x}"))
    for index, name in enumerate(("PrimeNetwork", "ComputePool", "ReceiptSettlement"))
}
TYPES = {
    "NodeRegistration": "address provider,address node,uint256 nonce,uint256 deadline",
    "PoolInvite": "uint256 poolId,address node,uint256 nonce,uint256 deadline",
    "EpochRoot": (
        "uint256 poolId,uint64 epoch,bytes32 receiptsRoot,bytes32 payoutsRoot,"
        "uint256 totalPayout,bytes32 dataHash"
    ),
    "Receipt": (
        "bytes32 jobId,address worker,uint256 poolId,uint32 stage,uint32 seq,"
        "address counterparty,uint64 epoch,uint128 units,bytes32 commitment"
    ),
}


def sha256(text: str) -> str:
    return "0x" + hashlib.sha256(text.encode()).hexdigest()


KEYS = {
    name: sha256(f"prime-node test key {name}")
    for name in ("provider", "node", "neighbour", "inviter", "validator-1", "validator-2")
}


def address(name: str) -> str:
    return str(Account.from_key(KEYS[name]).address)


def typed(
    struct: str, verifier: str, message: dict[str, Any], signers: list[str]
) -> dict[str, Any]:
    """One vector: the message with its digest, and each signer's signature in the order given."""
    fields = [field.split(" ") for field in TYPES[struct].split(",")]
    # eth-account wants integers; the file carries wide ones as strings.
    values = {
        name: int(message[name]) if kind.startswith("uint") else message[name]
        for kind, name in fields
    }
    signable = encode_typed_data(
        domain_data={
            "name": "PrimeNode",
            "version": "1",
            "chainId": CHAIN_ID,
            "verifyingContract": VERIFIERS[verifier],
        },
        message_types={struct: [{"name": name, "type": kind} for kind, name in fields]},
        message_data=values,
    )
    signed = {name: Account.sign_message(signable, KEYS[name]) for name in signers}
    return {
        "type": f"{struct}({TYPES[struct]})",
        "verifier": verifier,
        "message": message,
        "digest": "0x" + signed[signers[0]].message_hash.hex(),
        "signatures": [
            {"signer": address(name), "signature": "0x" + signed[name].signature.hex()}
            for name in signers
        ],
    }


def merkle_trees(trees: dict[str, Any]) -> dict[str, Any]:
    """Run the reference implementation over `{name: {encoding, values}}`."""
    done = subprocess.run(
        ["node", "tools/merkle_trees.js"],
        cwd=CONTRACTS,
        input=json.dumps(trees),
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def build() -> dict[str, Any]:
    receipt = typed(
        "Receipt",
        "ReceiptSettlement",
        {
            "jobId": sha256("job"),
            "worker": address("node"),
            "poolId": "1",
            "stage": 2,
            "seq": 7,
            "counterparty": address("neighbour"),
            "epoch": 3,
            "units": str(2**128 - 1),
            "commitment": sha256("commitment"),
        },
        ["node", "neighbour"],
    )
    accounts = [address("node"), address("neighbour"), *(f"0x{n:040x}" for n in (1, 2, 3))]
    payouts = [[account, str(10**18 * (n + 1) + n)] for n, account in enumerate(accounts)]
    trees = merkle_trees(
        {
            "payouts": {"encoding": ["address", "uint256"], "values": payouts},
            "singlePayout": {"encoding": ["address", "uint256"], "values": payouts[:1]},
            "receipts": {
                "encoding": ["bytes32"],
                "values": [[receipt["digest"]], [sha256("receipt 2")], [sha256("receipt 3")]],
            },
        }
    )
    deadline = "1900000000"
    return {
        "chainId": CHAIN_ID,
        "domain": {"name": "PrimeNode", "version": "1"},
        "verifiers": VERIFIERS,
        "keys": {name: {"key": key, "address": address(name)} for name, key in KEYS.items()},
        "nodeRegistration": typed(
            "NodeRegistration",
            "PrimeNetwork",
            {
                "provider": address("provider"),
                "node": address("node"),
                "nonce": "0",
                "deadline": deadline,
            },
            ["node"],
        ),
        "poolInvite": typed(
            "PoolInvite",
            "ComputePool",
            {"poolId": "1", "node": address("node"), "nonce": "0", "deadline": deadline},
            ["inviter"],
        ),
        "epochRoot": typed(
            "EpochRoot",
            "ReceiptSettlement",
            {
                "poolId": "1",
                "epoch": 1,
                "receiptsRoot": trees["receipts"]["root"],
                "payoutsRoot": trees["payouts"]["root"],
                "totalPayout": str(sum(int(amount) for _, amount in payouts)),
                "dataHash": sha256("data"),
            },
            sorted(("validator-1", "validator-2"), key=lambda name: int(address(name), 16)),
        ),
        "receipt": receipt,
        "trees": trees,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    path = CONTRACTS / "test" / "vectors.json"
    text = json.dumps(build(), indent=1) + "\n"
    if check:
        same = path.is_file() and path.read_text(encoding="utf-8") == text
        print("test/vectors.json is current" if same else "test/vectors.json differs", flush=True)
        return 0 if same else 1
    path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
