/**
 * Merkle trees and proofs by OpenZeppelin's reference implementation, for tools/vectors.py.
 *
 * stdin:  {name: {encoding: [solidity types], values: [[...], ...], sortLeaves?: bool}}
 * stdout: {name: {encoding, sortLeaves, root, leaves: [{value, leaf, proof}]}}, leaves in the order
 *         given; unsorted trees keep that order.
 */
"use strict";
const { StandardMerkleTree } = require("@openzeppelin/merkle-tree");

function describe({ encoding, values, sortLeaves = true }) {
  const tree = StandardMerkleTree.of(values, encoding, { sortLeaves });
  const leaves = values.map((value) => ({
    value,
    leaf: tree.leafHash(value),
    proof: tree.getProof(value),
  }));
  return { encoding, sortLeaves, root: tree.root, leaves };
}

const input = JSON.parse(require("fs").readFileSync(0, "utf8"));
const trees = Object.entries(input).map(([name, tree]) => [name, describe(tree)]);
process.stdout.write(JSON.stringify(Object.fromEntries(trees)));
