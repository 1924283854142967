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

from eth_abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak, to_checksum_address

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
        "uint64 receiptCount,uint128 totalUnits,uint128 rate,uint128 totalPayout,bytes32 dataHash"
    ),
    "Receipt": (
        "bytes32 jobId,address worker,uint256 poolId,uint32 stage,uint32 seq,"
        "address counterparty,uint64 epoch,uint128 units,bytes32 commitment"
    ),
    "Conviction": "uint256 poolId,address node,bytes32 jobId,bytes32 evidence",
}
WORK_LEAF = ["uint64", "address", "uint128", "uint128", "bytes32"]
PAYOUT_LEAF = ["address", "uint256"]
POOL_ID = "1"
DEADLINE = "1900000000"
RATE = 10**15 + 7


def sha256(text: str) -> str:
    return "0x" + hashlib.sha256(text.encode()).hexdigest()


KEYS = {
    name: sha256(f"prime-node test key {name}")
    for name in ("provider", "node", "neighbour", "inviter", "validator-1", "validator-2")
}


def address(name: str) -> str:
    return str(Account.from_key(KEYS[name]).address)


def validators() -> list[str]:
    """Both, in the order in which the contract takes their signatures."""
    return sorted(("validator-1", "validator-2"), key=lambda name: int(address(name), 16))


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


def receipt(stage: int, units: int, worker: str = "node") -> dict[str, Any]:
    """A receipt of one job's stage, signed by both sides."""
    counterparty = "neighbour" if worker == "node" else "node"
    message = {
        "jobId": sha256("job"),
        "worker": address(worker),
        "poolId": POOL_ID,
        "stage": stage,
        "seq": 7,
        "counterparty": address(counterparty),
        "epoch": 1,
        "units": str(units),
        "commitment": sha256("commitment"),
    }
    return typed("Receipt", "ReceiptSettlement", message, [worker, counterparty])


def work_leaves(receipts: list[tuple[str, dict[str, Any]]]) -> list[list[Any]]:
    """Leaves of (account, receipt) pairs, sorted and summed as the contract's interface says."""
    leaves: list[list[Any]] = []
    account_units = epoch_units = 0
    ordered = sorted(receipts, key=lambda pair: (int(pair[0], 16), pair[1]["digest"]))
    for index, (account, item) in enumerate(ordered):
        units = int(item["message"]["units"])
        account_units = units + (account_units if index and leaves[-1][1] == account else 0)
        epoch_units += units
        leaves.append([index, account, str(account_units), str(epoch_units), item["digest"]])
    return leaves


def payouts(leaves: list[list[Any]]) -> list[list[str]]:
    """What the leaves pay each account."""
    last = {leaf[1]: int(leaf[2]) for leaf in leaves}
    return [[account, str(units * RATE)] for account, units in last.items()]


def posted(root: dict[str, Any]) -> dict[str, Any]:
    """What the chain keeps of a root that all who signed it have posted."""
    signers = [entry["signer"] for entry in root["signatures"]]
    signers_hash = keccak(encode(["address[]"], [signers]))
    digest = bytes.fromhex(root["digest"][2:])
    kept = keccak(encode(["bytes32", "bytes32"], [digest, signers_hash]))
    return {
        "signers": signers,
        "signersHash": "0x" + signers_hash.hex(),
        "rootHash": "0x" + kept.hex(),
    }


def epoch_root(leaves: list[list[Any]], trees: dict[str, Any]) -> dict[str, Any]:
    units = int(leaves[-1][3])
    message = {
        "poolId": POOL_ID,
        "epoch": 1,
        "receiptsRoot": trees["work"]["root"],
        "payoutsRoot": trees["payouts"]["root"],
        "receiptCount": len(leaves),
        "totalUnits": str(units),
        "rate": str(RATE),
        "totalPayout": str(units * RATE),
        "dataHash": sha256("data"),
    }
    return typed("EpochRoot", "ReceiptSettlement", message, validators())


def build() -> dict[str, Any]:
    # Seven leaves of three accounts: a tree whose leaves lie at two depths.
    accounts = [address("provider"), *(f"0x{n:040x}" for n in (1, 2))]
    receipts = [receipt(stage, 5 + 3 * stage) for stage in range(7)]
    receipts[0] = receipt(0, 2**64, worker="neighbour")
    pairs = [(accounts[stage % 3], item) for stage, item in enumerate(receipts)]
    leaves = work_leaves(pairs)
    trees = merkle_trees(
        {
            "work": {"encoding": WORK_LEAF, "values": leaves, "sortLeaves": False},
            "oneLeaf": {"encoding": WORK_LEAF, "values": leaves[:1], "sortLeaves": False},
            "payouts": {"encoding": PAYOUT_LEAF, "values": payouts(leaves)},
            "onePayout": {"encoding": PAYOUT_LEAF, "values": payouts(leaves[:1])},
        }
    )
    root = epoch_root(leaves, trees)
    registration = {
        "provider": address("provider"),
        "node": address("node"),
        "nonce": "0",
        "deadline": DEADLINE,
    }
    invite = {"poolId": POOL_ID, "node": address("node"), "nonce": "0", "deadline": DEADLINE}
    conviction = {
        "poolId": POOL_ID,
        "node": address("node"),
        "jobId": sha256("job"),
        "evidence": sha256("evidence"),
    }
    return {
        "chainId": CHAIN_ID,
        "domain": {"name": "PrimeNode", "version": "1"},
        "verifiers": VERIFIERS,
        "keys": {name: {"key": key, "address": address(name)} for name, key in KEYS.items()},
        "nodeRegistration": typed("NodeRegistration", "PrimeNetwork", registration, ["node"]),
        "poolInvite": typed("PoolInvite", "ComputePool", invite, ["inviter"]),
        "epochRoot": root,
        "posted": posted(root),
        "receipt": receipt(2, 2**128 - 1),
        "conviction": typed("Conviction", "ReceiptSettlement", conviction, validators()),
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
