"""Digests, signatures and trees equal the vectors that the Solidity tests check too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proofs.eip712 import Domain
from proofs.merkle import MerkleTree, payout_leaf, receipt_leaf, verify
from proofs.receipts import EpochRoot, NodeRegistration, PoolInvite, Receipt, TypedMessage
from proofs.signing import checksum_address, recover, sign_digest

VECTORS = json.loads(
    (Path(__file__).parents[2] / "contracts" / "test" / "vectors.json").read_text()
)
CLASSES: dict[str, type[TypedMessage]] = {
    "nodeRegistration": NodeRegistration,
    "poolInvite": PoolInvite,
    "epochRoot": EpochRoot,
    "receipt": Receipt,
}
KEYS = {entry["address"]: bytes.fromhex(entry["key"][2:]) for entry in VECTORS["keys"].values()}


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def typed(kind: str, value: str | int) -> object:
    if kind.startswith("uint"):
        return int(value)
    return value if kind == "address" else raw(str(value))


@pytest.mark.parametrize("name", CLASSES)
def test_messages_equal_the_contracts(name: str) -> None:
    case, cls = VECTORS[name], CLASSES[name]
    values = [typed(kind, case["message"][field]) for kind, field in cls.STRUCT.fields]
    message = cls.model_validate(dict(zip(cls.model_fields, values, strict=True)))
    verifier = checksum_address(raw(VECTORS["verifiers"][case["verifier"]]))
    digest = message.digest(Domain(VECTORS["chainId"], verifier))
    assert cls.STRUCT.type_string == case["type"]
    assert digest == raw(case["digest"])
    for entry in case["signatures"]:
        assert recover(digest, raw(entry["signature"])) == entry["signer"]
        assert sign_digest(KEYS[entry["signer"]], digest) == raw(entry["signature"])


@pytest.mark.parametrize("name", VECTORS["trees"])
def test_trees_equal_the_contracts(name: str) -> None:
    case = VECTORS["trees"][name]
    leaves = []
    for entry in case["leaves"]:
        value = entry["value"]
        account = case["encoding"] == ["address", "uint256"]
        leaves.append(
            payout_leaf(value[0], int(value[1])) if account else receipt_leaf(raw(value[0]))
        )
        assert leaves[-1] == raw(entry["leaf"])
        assert verify(raw(case["root"]), leaves[-1], [raw(part) for part in entry["proof"]])
    tree = MerkleTree.of(leaves)
    assert tree.root == raw(case["root"])
    for place, entry in enumerate(case["leaves"]):
        assert tree.proof(place) == tuple(raw(part) for part in entry["proof"])
