// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";
import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";

/// @notice A Merkle tree over given leaves, in the array layout of @openzeppelin/merkle-tree: node i
/// has the children 2i+1 and 2i+2, and leaves fill the array from its end.
library Merkle {
    function workLeaf(IReceiptSettlement.WorkLeaf memory leaf) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(leaf))));
    }

    function payoutLeaf(address account, uint256 cumulative) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(account, cumulative))));
    }

    function root(bytes32[] memory leaves) internal pure returns (bytes32) {
        return tree(leaves)[0];
    }

    /// @dev The proof of `leaves[index]`; `leaves` may be in any order.
    function proof(bytes32[] memory leaves, uint256 index)
        internal
        pure
        returns (bytes32[] memory)
    {
        return proofIn(tree(leaves), leaves[index]);
    }

    function proofIn(bytes32[] memory nodes, bytes32 leaf)
        internal
        pure
        returns (bytes32[] memory path)
    {
        uint256 current = nodes.length - 1;
        while (nodes[current] != leaf) current--;
        uint256 depth = 0;
        for (uint256 node = current; node > 0; node = (node - 1) / 2) {
            depth++;
        }
        path = new bytes32[](depth);
        for (uint256 i = 0; i < depth; i++) {
            path[i] = nodes[current % 2 == 1 ? current + 1 : current - 1];
            current = (current - 1) / 2;
        }
    }

    function tree(bytes32[] memory leaves) internal pure returns (bytes32[] memory) {
        bytes32[] memory sorted = new bytes32[](leaves.length);
        for (uint256 i = 0; i < leaves.length; i++) {
            sorted[i] = leaves[i];
        }
        if (sorted.length > 1) _sort(sorted, 0, sorted.length - 1);
        return unsortedTree(sorted);
    }

    /// @dev As of the option sortLeaves: false.
    function unsortedTree(bytes32[] memory leaves) internal pure returns (bytes32[] memory nodes) {
        nodes = new bytes32[](2 * leaves.length - 1);
        for (uint256 i = 0; i < leaves.length; i++) {
            nodes[nodes.length - 1 - i] = leaves[i];
        }
        for (uint256 i = nodes.length - leaves.length; i > 0; i--) {
            nodes[i - 1] = Hashes.commutativeKeccak256(nodes[2 * i - 1], nodes[2 * i]);
        }
    }

    function _sort(bytes32[] memory values, uint256 low, uint256 high) private pure {
        (uint256 left, uint256 right) = (low, high);
        bytes32 pivot = values[low + (high - low) / 2];
        while (true) {
            while (values[left] < pivot) left++;
            while (values[right] > pivot) right--;
            if (left >= right) break;
            (values[left], values[right]) = (values[right], values[left]);
            left++;
            right--;
        }
        if (low + 1 < left) _sort(values, low, left - 1);
        if (right + 1 < high) _sort(values, right + 1, high);
    }
}
