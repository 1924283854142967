// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {Epochs} from "../utils/Epochs.sol";

/// @notice ReceiptSettlement.claim.
contract ClaimTest is Epochs {
    uint256 private constant BUDGET = 1_000 ether;
    address private immutable ALICE = workerProvider(0);
    address private immutable BOB = workerProvider(1);
    uint256 private poolId;

    function setUp() public override {
        super.setUp();
        registerWorkers(5);
        poolId = activePool(address(0), BUDGET);
    }

    function test_pays_the_account_whoever_calls() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 2);
        settle(epoch);
        // Alice's are the receipts of 1 and 3 units.
        uint256 due = 4 * uint256(RATE);
        IReceiptSettlement.ProvenPayout memory payout = payoutOf(epoch, ALICE);
        IReceiptSettlement.Posted memory posted = postedOf(epoch);
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.Claimed(poolId, ALICE, due, due);
        vm.expectEmit(address(purse));
        emit IRewardsDistributor.Paid(poolId, ALICE, due);
        vm.prank(STRANGER);
        settlement.claim(posted, ALICE, due, payout.proof);
        vm.assertEq(token.balanceOf(ALICE), due);
        vm.assertEq(token.balanceOf(STRANGER), 0);
        vm.assertEq(token.balanceOf(worker(0)), 0);
        vm.assertEq(settlement.claimed(poolId, ALICE), due);
        vm.assertEq(settlement.claimed(poolId, BOB), 0);
        vm.assertEq(purse.bookOf(poolId).paid, due);
    }

    function test_later_claims_pay_the_difference_and_skipped_epochs_cost_nothing() public {
        Epoch[4] memory epochs = someEpochs();
        claim(epochs[1], ALICE);
        claim(epochs[3], ALICE);
        vm.assertEq(token.balanceOf(ALICE), paidTo(epochs[3], ALICE));
        vm.assertEq(settlement.claimed(poolId, ALICE), paidTo(epochs[3], ALICE));
    }

    function test_any_final_root_serves_and_nothing_is_paid_twice() public {
        Epoch[4] memory epochs = someEpochs();
        for (uint256 i = 1; i < 4; i++) {
            claim(epochs[i], ALICE);
            vm.assertEq(token.balanceOf(ALICE), paidTo(epochs[i], ALICE));
            for (uint256 j = 1; j <= i; j++) {
                refuse(
                    epochs[j],
                    ALICE,
                    abi.encodeWithSelector(
                        IReceiptSettlement.NothingToClaim.selector, poolId, ALICE
                    )
                );
            }
        }
    }

    function test_refuses_what_the_root_does_not_say() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 2);
        settle(epoch);
        IReceiptSettlement.ProvenPayout memory payout = payoutOf(epoch, ALICE);
        IReceiptSettlement.Posted memory posted = postedOf(epoch);
        vm.expectRevert(IReceiptSettlement.InvalidProof.selector);
        settlement.claim(posted, ALICE, payout.cumulative + 1, payout.proof);
        vm.expectRevert(IReceiptSettlement.InvalidProof.selector);
        settlement.claim(posted, BOB, payout.cumulative, payout.proof);
        vm.expectRevert(IReceiptSettlement.InvalidProof.selector);
        settlement.claim(posted, ALICE, payout.cumulative, new bytes32[](2));
        // The tree's root itself, or one of its nodes, is no leaf.
        vm.expectRevert(IReceiptSettlement.InvalidProof.selector);
        settlement.claim(
            posted, address(uint160(uint256(epoch.payoutTree[1]))), 0, new bytes32[](0)
        );
    }

    function test_refuses_roots_that_do_not_stand() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 2);
        refuse(epoch, ALICE, unknownRoot(1));
        settle(epoch);
        Epoch memory other = firstEpoch(poolId, 2, 2);
        refuse(other, ALICE, unknownRoot(1));
        setSigners(epoch, 3);
        refuse(epoch, ALICE, unknownRoot(1));
        setSigners(epoch, 2);
        epoch.root.totalPayout++;
        refuse(epoch, ALICE, unknownRoot(1));
        epoch.root.totalPayout--;
        epoch.root.epoch = 2;
        refuse(epoch, ALICE, unknownRoot(2));
    }

    function test_waits_for_the_window_and_for_open_disputes() public {
        Epoch memory first = firstEpoch(poolId, 3, 2);
        post(first);
        refuse(first, ALICE, notFinal(START + WINDOW, 0));
        uint256 disputeId = disputeReceipt(first, 0, STRANGER);
        vm.warp(START + WINDOW);
        refuse(first, ALICE, notFinal(START + WINDOW, 1));
        answerReceipt(disputeId, first, 0);
        claim(first, ALICE);

        Epoch memory second = buildEpoch(first, someReceipts(poolId, 2, 3, 2, 10));
        post(second);
        refuse(second, ALICE, notFinal(START + 2 * WINDOW, 0));
        // The one before stays claimable meanwhile.
        claim(first, BOB);
    }

    function test_whoever_is_faster_gets_nothing_for_it() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 2);
        settle(epoch);
        IReceiptSettlement.ProvenPayout memory payout = payoutOf(epoch, ALICE);
        vm.prank(STRANGER);
        settlement.claim(postedOf(epoch), ALICE, payout.cumulative, payout.proof);
        vm.assertEq(token.balanceOf(STRANGER), 0);
        vm.assertEq(token.balanceOf(ALICE), payout.cumulative);
    }

    function test_after_the_end_and_the_reclaim_all_that_was_promised_is_there() public {
        Epoch memory epoch = firstEpoch(poolId, 9, 5);
        settle(epoch);
        vm.prank(CREATOR);
        pools.end(poolId);
        vm.warp(block.timestamp + RECLAIM_DELAY);
        vm.prank(CREATOR);
        pools.reclaim(poolId);
        vm.assertEq(token.balanceOf(CREATOR), BUDGET - epoch.root.totalPayout);
        for (uint256 i = 0; i < 5; i++) {
            claim(epoch, workerProvider(i));
        }
        vm.assertEq(token.balanceOf(address(purse)), 0);
        Epoch memory next = buildEpoch(epoch, someReceipts(poolId, 2, 1, 1, 50));
        bytes[] memory signatures = signRoot(next.root, 2);
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.NoBudget.selector, poolId));
        settlement.postRoot(next.root, signatures);
    }

    function test_the_blacklisted_and_those_whose_node_left_are_paid_all_the_same() public {
        Epoch memory epoch = firstEpoch(poolId, 4, 2);
        settle(epoch);
        network.setBlacklisted(ALICE, true);
        claim(epoch, ALICE);
        vm.assertEq(token.balanceOf(ALICE), paidTo(epoch, ALICE));

        vm.prank(BOB);
        network.removeNode(worker(1));
        claim(epoch, BOB);
        vm.assertEq(token.balanceOf(BOB), paidTo(epoch, BOB));
    }

    /// @dev Payouts that add up to more than the stated total, which nobody disputed in time.
    function test_an_inflated_leaf_takes_at_most_what_roots_promised() public {
        Epoch memory epoch = firstEpoch(poolId, 2, 2);
        for (uint256 i = 0; i < 2; i++) {
            if (epoch.accounts[i] == ALICE) epoch.cumulative[i] = epoch.root.totalPayout + 1;
        }
        plant(epoch);
        settle(epoch);
        refuse(
            epoch,
            ALICE,
            abi.encodeWithSelector(
                IRewardsDistributor.PaymentExceedsFunds.selector,
                epoch.root.totalPayout + 1,
                epoch.root.totalPayout
            )
        );
        vm.assertEq(settlement.claimed(poolId, ALICE), 0);
        claim(epoch, BOB);
    }

    function test_pools_do_not_share_a_purse() public {
        uint256 other = activePool(address(0), BUDGET);
        Epoch memory epoch = firstEpoch(poolId, 2, 2);
        settle(epoch);
        epoch.root.poolId = other;
        refuse(
            epoch, ALICE, abi.encodeWithSelector(IReceiptSettlement.UnknownRoot.selector, other, 1)
        );
    }

    /// @dev Any number of accounts, any units: each is paid its leaf, in any order, and all together
    /// exactly the total.
    function testFuzz_every_leaf_is_paid_once(uint64[12] memory units, uint256 seed) public {
        uint256 count = 1 + seed % 12;
        uint256 offset = (seed >> 32) % 5;
        IReceiptSettlement.SignedReceipt[] memory receipts =
            new IReceiptSettlement.SignedReceipt[](count);
        for (uint256 i = 0; i < count; i++) {
            receipts[i] = receiptFor(
                poolId, 1, uint256(keccak256(abi.encode(seed, i))) % 5, i, uint128(units[i]) + 1
            );
        }
        Epoch memory epoch = buildEpoch(noEpoch(poolId), receipts);
        vm.assume(epoch.root.rate != 0);
        settle(epoch);
        for (uint256 i = 0; i < epoch.accounts.length; i++) {
            address account = epoch.accounts[(i + offset) % epoch.accounts.length];
            IReceiptSettlement.ProvenPayout memory payout = payoutOf(epoch, account);
            vm.expectRevert(IReceiptSettlement.InvalidProof.selector);
            settlement.claim(postedOf(epoch), account, payout.cumulative + 1, payout.proof);
            claim(epoch, account);
            vm.assertEq(token.balanceOf(account), payout.cumulative);
        }
        vm.assertEq(purse.bookOf(poolId).paid, settlement.committed(poolId));
    }

    // --- helpers ---

    /// @dev Final epochs 1 to 3; number 0 is the one before.
    function someEpochs() private returns (Epoch[4] memory epochs) {
        epochs[0] = noEpoch(poolId);
        for (uint64 i = 1; i < 4; i++) {
            epochs[i] = buildEpoch(epochs[i - 1], someReceipts(poolId, i, i + 1, 2, 10 * i));
            settle(epochs[i]);
        }
    }

    function refuse(Epoch memory epoch, address account, bytes memory refusal) private {
        IReceiptSettlement.ProvenPayout memory payout = payoutOf(epoch, account);
        vm.expectRevert(refusal);
        settlement.claim(postedOf(epoch), account, payout.cumulative, payout.proof);
    }

    function unknownRoot(uint64 epoch) private view returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.UnknownRoot.selector, poolId, epoch);
    }

    function notFinal(uint64 from, uint32 disputes) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.RootNotFinal.selector, from, disputes);
    }
}
