// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

/// @notice A Merkle tree over given leaves, in the array layout of @openzeppelin/merkle-tree: node i
/// has the children 2i+1 and 2i+2 and leaves fill the array from its end. (That package also sorts
/// the leaves; give them sorted to get its root.)
library Merkle {
    function payoutLeaf(address account, uint256 cumulative) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(account, cumulative))));
    }

    function root(bytes32[] memory leaves) internal pure returns (bytes32) {
        return _tree(leaves)[0];
    }

    function proof(bytes32[] memory leaves, uint256 index)
        internal
        pure
        returns (bytes32[] memory path)
    {
        bytes32[] memory tree = _tree(leaves);
        uint256 start = tree.length - 1 - index;
        uint256 depth = 0;
        for (uint256 node = start; node > 0; node = (node - 1) / 2) {
            depth++;
        }
        path = new bytes32[](depth);
        uint256 current = start;
        for (uint256 i = 0; i < depth; i++) {
            path[i] = tree[current % 2 == 1 ? current + 1 : current - 1];
            current = (current - 1) / 2;
        }
    }

    function _tree(bytes32[] memory leaves) private pure returns (bytes32[] memory tree) {
        tree = new bytes32[](2 * leaves.length - 1);
        for (uint256 i = 0; i < leaves.length; i++) {
            tree[tree.length - 1 - i] = leaves[i];
        }
        for (uint256 i = tree.length - leaves.length; i > 0; i--) {
            tree[i - 1] = Hashes.commutativeKeccak256(tree[2 * i - 1], tree[2 * i]);
        }
    }
}
