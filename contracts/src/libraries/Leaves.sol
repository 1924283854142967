// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {IReceiptSettlement} from "../interfaces/IReceiptSettlement.sol";

/// @title Leaves of an epoch's two trees, as OpenZeppelin's StandardMerkleTree makes them
/// @notice A leaf is hashed twice, so that no inner node of 64 bytes can pose as one.
library Leaves {
    function inReceipts(bytes32 root, IReceiptSettlement.ProvenLeaf calldata proven)
        internal
        pure
        returns (bool)
    {
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
