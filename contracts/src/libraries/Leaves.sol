// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {IReceiptSettlement} from "../interfaces/IReceiptSettlement.sol";

/// @title Leaves of an epoch's two trees, as OpenZeppelin's StandardMerkleTree makes them
/// @notice A leaf is hashed twice, so that no inner node of 64 bytes can pose as one.
library Leaves {
    /// @notice Whether a leaf stands in a tree of `count` work leaves at the place that its index says.
    /// @dev That tree is not sorted by hash, so the index decides how deep a leaf is. If all `count`
    /// indices have a leaf at their depths, these fill a binary tree (by Kraft's inequality), and no
    /// second leaf with one of the indices has a place in it, whoever made the tree.
    function inReceipts(bytes32 root, uint64 count, IReceiptSettlement.ProvenLeaf calldata proven)
        internal
        pure
        returns (bool)
    {
        uint256 index = proven.leaf.index;
        if (index >= count) return false;
        if (proven.proof.length != Math.log2(2 * uint256(count) - 1 - index)) return false;
        return MerkleProof.verifyCalldata(proven.proof, root, _twice(abi.encode(proven.leaf)));
    }

    function inPayouts(bytes32 root, address account, uint256 cumulative, bytes32[] calldata proof)
        internal
        pure
        returns (bool)
    {
        return MerkleProof.verifyCalldata(proof, root, _twice(abi.encode(account, cumulative)));
    }

    function _twice(bytes memory encoded) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(encoded)));
    }
}
