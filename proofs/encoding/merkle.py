"""Merkle trees as OpenZeppelin's StandardMerkleTree builds them.

A leaf is keccak(keccak(abi.encode(...))); hashing twice keeps a 64-byte inner node from posing as
a leaf. Leaves are sorted by hash, unless their order means something (option `sortLeaves: false`),
and the tree is one array of 2n - 1 hashes: the leaves from the end backwards, node i the hash of
its children 2i+1 and 2i+2 in sorted order. Sorted pairs make a proof a plain list of siblings,
verified by `MerkleProof.verify` in Solidity.
"""

from __future__ import annotations

from collections.abc import Sequence

from proofs.encoding.eip712 import word
from proofs.encoding.signing import keccak256
from proofs.errors import ProofError

MAX_PROOF = 64


class MerkleError(ProofError):
    """Leaves that make no tree, or an index that is not in it."""


def payout_leaf(account: str, cumulative: int) -> bytes:
    """Leaf of (address account, uint256 cumulative). Raises EncodingError or SigningError."""
    return keccak256(keccak256(word("address", account) + word("uint256", cumulative)))


class MerkleTree:
    """An immutable tree over distinct 32-byte leaves."""

    def __init__(self, nodes: list[bytes], leaf_nodes: list[int]) -> None:
        self._nodes, self._leaf_nodes = nodes, leaf_nodes

    @classmethod
    def of(cls, leaves: Sequence[bytes], *, ordered: bool = False) -> MerkleTree:
        """The tree over `leaves`: sorted by hash, or, if `ordered`, as they are given.

        Raises MerkleError when there are none, or they are not distinct hashes of 32 bytes.
        """
        if not leaves:
            raise MerkleError("a tree needs at least one leaf")
        if any(len(leaf) != 32 for leaf in leaves) or len(set(leaves)) != len(leaves):
            raise MerkleError("leaves must be distinct hashes of 32 bytes")
        count = len(leaves)
        nodes = [b""] * (count - 1) + (list(leaves) if ordered else sorted(leaves))[::-1]
        for node in range(count - 2, -1, -1):
            nodes[node] = _pair(nodes[2 * node + 1], nodes[2 * node + 2])
        where = {leaf: node for node, leaf in enumerate(nodes[count - 1 :], count - 1)}
        return cls(nodes, [where[leaf] for leaf in leaves])

    @property
    def root(self) -> bytes:
        """The hash that stands for all leaves, 32 bytes."""
        return self._nodes[0]

    def proof(self, index: int) -> tuple[bytes, ...]:
        """Siblings from the leaf that was given at `index` up to the root. Raises MerkleError."""
        if not 0 <= index < len(self._leaf_nodes):
            raise MerkleError(f"leaf {index} of {len(self._leaf_nodes)} does not exist")
        node, siblings = self._leaf_nodes[index], []
        while node > 0:
            siblings.append(self._nodes[node - 1 if node % 2 == 0 else node + 1])
            node = (node - 1) // 2
        return tuple(siblings)


def verify(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `leaf` is under `root`; False for malformed proofs too."""
    if len(proof) > MAX_PROOF or any(len(part) != 32 for part in (leaf, *proof)):
        return False
    node = leaf
    for sibling in proof:
        node = _pair(node, sibling)
    return node == root


def _pair(left: bytes, right: bytes) -> bytes:
    return keccak256(min(left, right) + max(left, right))
