// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Epochs} from "../utils/Epochs.sol";

/// @notice ReceiptSettlement.cancelRoot, and what remains of a voided root.
contract CancelRootTest is Epochs {
    uint256 private constant BUDGET = 1_000 ether;
    uint256 private poolId;

    function setUp() public override {
        super.setUp();
        registerWorkers(2);
        poolId = activePool(address(0), BUDGET);
    }

    function test_a_federator_cancels_and_that_root_stays_dead() public {
        Epoch memory first = firstEpoch(poolId, 2, 2);
        settle(first);
        Epoch memory bad = buildEpoch(first, someReceipts(poolId, 2, 5, 2, 10));
        post(bad);
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.RootVoided(poolId, 2, address(this));
        settlement.cancelRoot(postedOf(bad));

        vm.assertEq(settlement.rootHash(poolId, 2), bytes32(0));
        IReceiptSettlement.PoolEpochs memory last = settlement.epochsOf(poolId);
        vm.assertEq(last.epoch, 1);
        vm.assertEq(last.claimableAt, 0);
        vm.assertEq(last.totalPayout, first.root.totalPayout);
        vm.assertFalse(settlement.isFinal(poolId, 2));
        vm.assertTrue(settlement.isFinal(poolId, 1));
        claim(first, workerProvider(0));

        // Not with other signers either.
        for (uint256 count = 2; count <= 3; count++) {
            bytes[] memory signatures = signRoot(bad.root, count);
            vm.expectRevert(
                abi.encodeWithSelector(
                    IReceiptSettlement.RootWasVoided.selector, rootDigestOf(bad.root)
                )
            );
            settlement.postRoot(bad.root, signatures);
        }
        Epoch memory good = buildEpoch(first, someReceipts(poolId, 2, 4, 2, 10));
        settle(good);
        claim(good, workerProvider(1));
        vm.assertEq(settlement.committed(poolId), good.root.totalPayout);
    }

    function test_the_first_root_can_be_cancelled() public {
        Epoch memory epoch = firstEpoch(poolId, 2, 2);
        post(epoch);
        settlement.cancelRoot(postedOf(epoch));
        vm.assertEq(settlement.epochsOf(poolId).epoch, 0);
        vm.assertEq(settlement.committed(poolId), 0);
        post(firstEpoch(poolId, 3, 2));
    }

    function test_nobody_else_cancels() public {
        Epoch memory epoch = firstEpoch(poolId, 2, 2);
        post(epoch);
        IReceiptSettlement.Posted memory posted = postedOf(epoch);
        address[3] memory others = [STRANGER, CREATOR, validator(0)];
        for (uint256 i = 0; i < 3; i++) {
            vm.expectRevert(unauthorized(others[i]));
            vm.prank(others[i]);
            settlement.cancelRoot(posted);
        }
    }

    function test_only_a_pending_root_that_stands() public {
        Epoch memory epoch = firstEpoch(poolId, 2, 2);
        IReceiptSettlement.Posted memory posted = postedOf(epoch);
        bytes memory unknown =
            abi.encodeWithSelector(IReceiptSettlement.UnknownRoot.selector, poolId, 1);
        vm.expectRevert(unknown);
        settlement.cancelRoot(posted);
        post(epoch);
        posted.signersHash = 0;
        vm.expectRevert(unknown);
        settlement.cancelRoot(posted);
        vm.warp(START + WINDOW);
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.RootIsFinal.selector, poolId, 1));
        settlement.cancelRoot(postedOf(epoch));
    }

    function test_an_older_root_is_final_while_the_next_is_pending() public {
        Epoch memory first = firstEpoch(poolId, 2, 2);
        settle(first);
        post(buildEpoch(first, someReceipts(poolId, 2, 5, 2, 10)));
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.RootIsFinal.selector, poolId, 1));
        settlement.cancelRoot(postedOf(first));
    }

    /// @dev While a dispute holds a root back it can still be cancelled, after its window, too.
    function test_disputes_become_moot_and_cost_nothing() public {
        Epoch memory epoch = firstEpoch(poolId, 2, 2);
        post(epoch);
        uint256 one = disputeReceipt(epoch, 0, STRANGER);
        uint256 two = disputePayout(epoch, workerProvider(0), CREATOR);
        vm.warp(START + WINDOW);
        settlement.cancelRoot(postedOf(epoch));
        vm.assertEq(settlement.epochsOf(poolId).openDisputes, 0);

        Epoch memory other = firstEpoch(poolId, 3, 2);
        post(other);
        uint256 three = disputeReceipt(other, 0, STRANGER);
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.UnknownRoot.selector, poolId, 1));
        settlement.answerReceipt(
            one, postedOf(epoch), leafOf(epoch, 0), leafOf(epoch, 0), epoch.receipts[0]
        );
        uint256 before = token.balanceOf(STRANGER);
        IReceiptSettlement.Posted memory any;
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.DisputeMoot(one);
        settlement.uphold(one, any, new address[](0));
        vm.assertEq(token.balanceOf(STRANGER), before + BOND);
        settlement.uphold(two, any, new address[](0));
        vm.assertEq(token.balanceOf(CREATOR), BOND);
        // The other root's question is open as before.
        vm.assertEq(settlement.epochsOf(poolId).openDisputes, 1);
        answerReceipt(three, other, 0);
        vm.assertEq(settlement.epochsOf(poolId).openDisputes, 0);
        vm.assertEq(token.balanceOf(address(settlement)), 0);
    }
}
