// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Epochs} from "./utils/Epochs.sol";

/// @notice ReceiptSettlement.postRoot and setQuorum.
contract PostRootTest is Epochs {
    uint256 private poolId;

    function setUp() public override {
        super.setUp();
        registerWorkers(3);
        poolId = activePool(address(0), 1_000 ether);
    }

    function test_round() public {
        Epoch memory first = firstEpoch(poolId, 5, 3);
        settle(first);
        Epoch memory epoch = buildEpoch(first, someReceipts(poolId, 2, 7, 2, 100));
        post(epoch);
        for (uint64 i = 0; i < 7; i++) {
            answerReceipt(disputeReceipt(epoch, i, STRANGER), epoch, i);
        }
        for (uint256 i = 0; i < epoch.accounts.length; i++) {
            answerPayout(
                disputePayout(epoch, epoch.accounts[i], STRANGER), epoch, first, epoch.accounts[i]
            );
            answerPayout(
                disputeOmission(epoch, first, epoch.accounts[i], STRANGER),
                epoch,
                first,
                epoch.accounts[i]
            );
        }
        vm.warp(block.timestamp + WINDOW);
        for (uint256 i = 0; i < epoch.accounts.length; i++) {
            claim(epoch, epoch.accounts[i]);
        }
    }
}
