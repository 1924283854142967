"""Trees equal OpenZeppelin's, and proofs prove exactly their leaf."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.encoding.eip712 import EncodingError
from proofs.encoding.merkle import MerkleError, MerkleTree, payout_leaf, verify
from proofs.encoding.signing import SigningError, checksum_address, keccak256

# Made with the JavaScript package that `source` names; addresses there are in lower case.
from tests.paths import VECTORS

TREES = json.loads((VECTORS / "merkle.json").read_text())


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


@pytest.mark.parametrize("case", TREES["payouts"], ids=lambda case: str(len(case["leaves"])))
def test_payout_trees_equal_openzeppelin(case: dict[str, Any]) -> None:
    leaves = [payout_leaf(checksum_address(raw(a)), int(c)) for a, c in case["leaves"]]
    tree = MerkleTree.of(leaves)
    assert tree.root == raw(case["root"])
    for index, proof in enumerate(case["proofs"]):
        assert tree.proof(index) == tuple(raw(part) for part in proof)


def test_trees_of_digests_equal_openzeppelin() -> None:
    case = TREES["receipts"]
    tree = MerkleTree.of([keccak256(keccak256(raw(digest))) for digest in case["digests"]])
    assert tree.root == raw(case["root"])
    assert [list(tree.proof(i)) for i in range(4)] == [[raw(p) for p in q] for q in case["proofs"]]


leaf_sets = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40, unique=True)


@given(leaf_sets, st.randoms())
def test_every_leaf_is_proven_whatever_the_order(leaves: list[bytes], random: Any) -> None:
    tree = MerkleTree.of(leaves)
    for index, leaf in enumerate(leaves):
        assert verify(tree.root, leaf, tree.proof(index))
    shuffled = list(leaves)
    random.shuffle(shuffled)
    assert MerkleTree.of(shuffled).root == tree.root


@given(leaf_sets)
def test_an_ordered_tree_keeps_the_order_and_fixes_depths(leaves: list[bytes]) -> None:
    tree = MerkleTree.of(leaves, ordered=True)
    for index, leaf in enumerate(leaves):
        assert verify(tree.root, leaf, tree.proof(index))
        assert len(tree.proof(index)) == (2 * len(leaves) - 1 - index).bit_length() - 1


@given(leaf_sets, st.data())
def test_other_leaves_and_proofs_fail(leaves: list[bytes], data: st.DataObject) -> None:
    tree = MerkleTree.of(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    stranger = keccak256(b"stranger" + b"".join(leaves))
    proof = tree.proof(index)
    assert not verify(tree.root, stranger, proof)
    assert not verify(stranger, leaves[index], proof)
    if proof:
        assert not verify(tree.root, leaves[index], proof[:-1])
        assert not verify(tree.root, leaves[index], (*proof[:-1], stranger))
    assert not verify(tree.root, leaves[index], (*proof, stranger))


def test_malformed_proofs_are_false() -> None:
    leaf = bytes(32)
    assert verify(leaf, leaf, ())
    assert not verify(leaf, leaf, (b"short",))
    assert not verify(b"short", b"short", ())
    assert not verify(leaf, leaf, (leaf,) * 65)


@pytest.mark.parametrize("leaves", [[], [b"short"], [bytes(32), bytes(32)]])
def test_unusable_leaves_are_refused(leaves: list[bytes]) -> None:
    with pytest.raises(MerkleError):
        MerkleTree.of(leaves)


def test_bad_indices_and_values_are_refused() -> None:
    tree = MerkleTree.of([bytes(32)])
    for index in (-1, 1):
        with pytest.raises(MerkleError):
            tree.proof(index)
    with pytest.raises(EncodingError):
        payout_leaf("0x" + "1" * 40, 2**256)
    with pytest.raises(SigningError):
        payout_leaf("0x1234", 1)
