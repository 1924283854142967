"""Digests, signatures and trees equal the vectors that the Solidity tests check too."""

from __future__ import annotations

import json

import pytest

from proofs.encoding.eip712 import Domain
from proofs.encoding.leaves import PostedRoot, WorkLeaf
from proofs.encoding.merkle import MerkleTree, payout_leaf, verify
from proofs.encoding.receipts import (
    Conviction,
    EpochRoot,
    NodeRegistration,
    PoolInvite,
    Receipt,
    TypedMessage,
)
from proofs.encoding.signing import checksum_address, recover, sign_digest
from tests.paths import CONTRACT_VECTORS

VECTORS = json.loads(CONTRACT_VECTORS.read_text())
CLASSES: dict[str, type[TypedMessage]] = {
    "nodeRegistration": NodeRegistration,
    "poolInvite": PoolInvite,
    "epochRoot": EpochRoot,
    "receipt": Receipt,
    "conviction": Conviction,
}
KEYS = {entry["address"]: bytes.fromhex(entry["key"][2:]) for entry in VECTORS["keys"].values()}


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def typed(kind: str, value: str | int) -> object:
    if kind.startswith("uint"):
        return int(value)
    return value if kind == "address" else raw(str(value))


def message_of(name: str) -> TypedMessage:
    cls = CLASSES[name]
    values = [typed(kind, VECTORS[name]["message"][field]) for kind, field in cls.STRUCT.fields]
    return cls.model_validate(dict(zip(cls.model_fields, values, strict=True)))


def domain_of(name: str) -> Domain:
    verifier = VECTORS["verifiers"][VECTORS[name]["verifier"]]
    return Domain(VECTORS["chainId"], checksum_address(raw(verifier)))


@pytest.mark.parametrize("name", CLASSES)
def test_messages_equal_the_contracts(name: str) -> None:
    case = VECTORS[name]
    digest = message_of(name).digest(domain_of(name))
    assert CLASSES[name].STRUCT.type_string == case["type"]
    assert digest == raw(case["digest"])
    for entry in case["signatures"]:
        assert recover(digest, raw(entry["signature"])) == entry["signer"]
        assert sign_digest(KEYS[entry["signer"]], digest) == raw(entry["signature"])


def test_a_posted_root_equals_the_contracts() -> None:
    root = message_of("epochRoot")
    assert isinstance(root, EpochRoot)
    posted = PostedRoot(root, tuple(VECTORS["posted"]["signers"]))
    assert posted.signers_hash == raw(VECTORS["posted"]["signersHash"])
    assert posted.hash(domain_of("epochRoot")) == raw(VECTORS["posted"]["rootHash"])


def leaf_hash(value: list[str | int]) -> bytes:
    if len(value) == 2:
        account, cumulative = value
        return payout_leaf(str(account), int(cumulative))
    index, account, account_units, epoch_units, receipt = value
    return WorkLeaf(
        int(index), str(account), int(account_units), int(epoch_units), raw(str(receipt))
    ).hash()


@pytest.mark.parametrize("name", VECTORS["trees"])
def test_trees_equal_the_contracts(name: str) -> None:
    case = VECTORS["trees"][name]
    leaves = [leaf_hash(entry["value"]) for entry in case["leaves"]]
    for leaf, entry in zip(leaves, case["leaves"], strict=True):
        assert leaf == raw(entry["leaf"])
        assert verify(raw(case["root"]), leaf, [raw(part) for part in entry["proof"]])
    tree = MerkleTree.of(leaves, ordered=not case["sortLeaves"])
    assert tree.root == raw(case["root"])
    for place, entry in enumerate(case["leaves"]):
        assert tree.proof(place) == tuple(raw(part) for part in entry["proof"])
