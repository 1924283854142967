// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IReceiptSettlement} from "../interfaces/IReceiptSettlement.sol";

/// @title What is signed for settlement, as EIP-712 structs
abstract contract TypedMessages is IReceiptSettlement, EIP712 {
    bytes32 private constant EPOCH_ROOT_TYPEHASH = keccak256(
        "EpochRoot(uint256 poolId,uint64 epoch,bytes32 receiptsRoot,bytes32 payoutsRoot,uint64 receiptCount,uint128 totalUnits,uint128 rate,uint128 totalPayout,bytes32 dataHash)"
    );
    bytes32 private constant RECEIPT_TYPEHASH = keccak256(
        "Receipt(bytes32 jobId,address worker,uint256 poolId,uint32 stage,uint32 seq,address counterparty,uint64 epoch,uint128 units,bytes32 commitment)"
    );
    bytes32 private constant CONVICTION_TYPEHASH =
        keccak256("Conviction(uint256 poolId,address node,bytes32 jobId,bytes32 evidence)");

    constructor() EIP712("PrimeNode", "1") {}

    /// @inheritdoc IReceiptSettlement
    function rootDigest(EpochRoot calldata root) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(EPOCH_ROOT_TYPEHASH, root)));
    }

    /// @inheritdoc IReceiptSettlement
    function receiptDigest(Receipt calldata receipt) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(RECEIPT_TYPEHASH, receipt)));
    }

    /// @inheritdoc IReceiptSettlement
    function convictionDigest(Conviction calldata conviction) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(CONVICTION_TYPEHASH, conviction)));
    }

    /// @inheritdoc IReceiptSettlement
    function verifyReceipt(SignedReceipt calldata signed) public view returns (bool) {
        Receipt calldata receipt = signed.receipt;
        if (receipt.worker == receipt.counterparty) return false;
        bytes32 digest = receiptDigest(receipt);
        return _signedBy(receipt.worker, digest, signed.workerSignature)
            && _signedBy(receipt.counterparty, digest, signed.counterSignature);
    }

    function _signedBy(address account, bytes32 digest, bytes calldata signature)
        private
        pure
        returns (bool)
    {
        (address signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
        return signer != address(0) && signer == account;
    }
}
