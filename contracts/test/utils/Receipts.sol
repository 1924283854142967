// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Fixture} from "./Fixture.sol";

/// @notice Workers and the receipts that they and their counterparties sign.
abstract contract Receipts is Fixture {
    /// @dev A worker's key is its number; its provider, the account that is paid, is another.
    function workerKey(uint256 index) internal pure returns (uint256) {
        return 0x50000 + index;
    }

    function worker(uint256 index) internal pure returns (address) {
        return vm.addr(workerKey(index));
    }

    function workerProvider(uint256 index) internal pure returns (address) {
        // forge-lint: disable-next-line(unsafe-typecast)
        return address(uint160(uint256(keccak256(abi.encode("provider", index)))));
    }

    /// @dev Providers 0 to `count` - 1, each with one node of one compute unit.
    function registerWorkers(uint256 count) internal {
        for (uint256 i = 0; i < count; i++) {
            registerProvider(workerProvider(i), BASE_STAKE + UNIT_STAKE);
            registerNode(workerProvider(i), workerKey(i), 1);
        }
    }

    /// @dev The receipt of a lone stage, countersigned by the pool's creator.
    function receiptFor(uint256 poolId, uint64 epoch, uint256 who, uint256 job, uint128 units)
        internal
        view
        returns (IReceiptSettlement.SignedReceipt memory)
    {
        IReceiptSettlement.Receipt memory receipt = IReceiptSettlement.Receipt({
            jobId: keccak256(abi.encode("job", job)),
            worker: worker(who),
            poolId: poolId,
            stage: 0,
            seq: 0,
            counterparty: CREATOR,
            epoch: epoch,
            units: units,
            commitment: keccak256("commitment")
        });
        return signReceipt(receipt, workerKey(who), CREATOR_KEY);
    }

    function signReceipt(
        IReceiptSettlement.Receipt memory receipt,
        uint256 keyOfWorker,
        uint256 keyOfCounterparty
    ) internal view returns (IReceiptSettlement.SignedReceipt memory) {
        bytes32 digest = digestOf(receipt);
        return IReceiptSettlement.SignedReceipt(
            receipt, signDigest(keyOfWorker, digest), signDigest(keyOfCounterparty, digest)
        );
    }

    function digestOf(IReceiptSettlement.Receipt memory receipt) internal view returns (bytes32) {
        return typedDigest(address(settlement), receiptStructHash(receipt));
    }

    /// @dev `count` receipts by `workers` workers in turn, of 1, 2, 3... units; `firstJob` names them.
    function someReceipts(
        uint256 poolId,
        uint64 epoch,
        uint256 count,
        uint256 workers,
        uint256 firstJob
    ) internal view returns (IReceiptSettlement.SignedReceipt[] memory receipts) {
        receipts = new IReceiptSettlement.SignedReceipt[](count);
        for (uint256 i = 0; i < count; i++) {
            // forge-lint: disable-next-line(unsafe-typecast)
            receipts[i] = receiptFor(poolId, epoch, i % workers, firstJob + i, uint128(i + 1));
        }
    }

    function sortReceipts(IReceiptSettlement.SignedReceipt[] memory receipts) internal view {
        uint256 count = receipts.length;
        bytes32[] memory digests = new bytes32[](count);
        address[] memory owners = new address[](count);
        for (uint256 i = 0; i < count; i++) {
            IReceiptSettlement.SignedReceipt memory receipt = receipts[i];
            bytes32 digest = digestOf(receipt.receipt);
            address owner = registry.ownerOf(receipt.receipt.worker);
            uint256 place = i;
            while (
                place > 0
                    && (owner < owners[place - 1]
                        || (owner == owners[place - 1] && digest < digests[place - 1]))
            ) {
                owners[place] = owners[place - 1];
                digests[place] = digests[place - 1];
                receipts[place] = receipts[place - 1];
                place--;
            }
            owners[place] = owner;
            digests[place] = digest;
            receipts[place] = receipt;
        }
    }
}
