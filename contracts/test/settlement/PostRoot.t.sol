// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {ReceiptSettlement} from "src/ReceiptSettlement.sol";
import {Epochs} from "../utils/Epochs.sol";

/// @notice ReceiptSettlement.postRoot: what is recorded, when, and which amounts it accepts. Who must
/// sign is in Quorum.t.sol.
contract PostRootTest is Epochs {
    uint256 private constant BUDGET = 1_000 ether;
    uint256 private poolId;

    function setUp() public override {
        super.setUp();
        registerWorkers(3);
        poolId = activePool(address(0), BUDGET);
    }

    function test_records_a_hash_and_holds_the_root_back_for_its_window() public {
        Epoch memory epoch = firstEpoch(poolId, 5, 3);
        bytes[] memory signatures = signRoot(epoch.root, 2);
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.RootPosted(poolId, 1, epoch.root, epoch.signers, START + WINDOW);
        vm.prank(STRANGER);
        settlement.postRoot(epoch.root, signatures);

        bytes32 signersHash = keccak256(abi.encode(epoch.signers));
        bytes32 hash = keccak256(abi.encode(rootDigestOf(epoch.root), signersHash));
        vm.assertEq(settlement.rootHash(poolId, 1), hash);
        IReceiptSettlement.PoolEpochs memory last = settlement.epochsOf(poolId);
        vm.assertEq(last.epoch, 1);
        vm.assertEq(last.claimableAt, START + WINDOW);
        vm.assertEq(last.openDisputes, 0);
        vm.assertEq(last.totalPayout, 15 * RATE);
        vm.assertEq(settlement.committed(poolId), 15 * RATE);
        vm.assertFalse(settlement.isFinal(poolId, 1));
        vm.warp(START + WINDOW - 1);
        vm.assertFalse(settlement.isFinal(poolId, 1));
        vm.warp(START + WINDOW);
        vm.assertTrue(settlement.isFinal(poolId, 1));
        vm.assertFalse(settlement.isFinal(poolId, 0));
        vm.assertFalse(settlement.isFinal(poolId, 2));
    }

    function test_epochs_add_up_and_older_roots_stay() public {
        Epoch memory epoch = noEpoch(poolId);
        bytes32 first;
        for (uint64 i = 1; i <= 4; i++) {
            epoch = buildEpoch(epoch, someReceipts(poolId, i, i, 2, 100 * i));
            settle(epoch);
            if (i == 1) first = settlement.rootHash(poolId, 1);
            vm.assertTrue(settlement.isFinal(poolId, i));
        }
        vm.assertEq(settlement.rootHash(poolId, 1), first);
        vm.assertEq(settlement.committed(poolId), (1 + 3 + 6 + 10) * uint256(RATE));
    }

    function test_the_next_waits_for_the_window_and_for_disputes() public {
        Epoch memory epoch = firstEpoch(poolId, 2, 2);
        post(epoch);
        vm.warp(START + WINDOW - 1);
        Epoch memory next = buildEpoch(epoch, someReceipts(poolId, 2, 1, 1, 10));
        refuse(next, notFinal(0));
        uint256 disputeId = disputeReceipt(epoch, 0, STRANGER);
        vm.warp(START + WINDOW);
        refuse(next, notFinal(1));
        answerReceipt(disputeId, epoch, 0);
        post(next);
        vm.assertTrue(settlement.isFinal(poolId, 1));
        vm.assertFalse(settlement.isFinal(poolId, 2));
    }

    function test_without_a_window_roots_are_final_at_once() public {
        ReceiptSettlement.Terms memory terms = settlementTerms();
        terms.challengeWindow = 0;
        settlement = newSettlement(terms);
        poolId = activePool(address(0), BUDGET);
        Epoch memory epoch = firstEpoch(poolId, 2, 2);
        post(epoch);
        vm.assertTrue(settlement.isFinal(poolId, 1));
        post(buildEpoch(epoch, someReceipts(poolId, 2, 1, 1, 10)));
    }

    function test_epochs_follow_one_by_one() public {
        Epoch memory epoch = firstEpoch(poolId, 2, 2);
        epoch.root.epoch = 0;
        refuse(epoch, wrongEpoch(0, 1));
        epoch.root.epoch = 2;
        refuse(epoch, wrongEpoch(2, 1));
        epoch.root.epoch = 1;
        settle(epoch);
        refuse(epoch, wrongEpoch(1, 2));
        epoch.root.epoch = type(uint64).max;
        refuse(epoch, wrongEpoch(type(uint64).max, 2));
    }

    function test_an_epoch_has_work() public {
        bytes memory refusal = abi.encodeWithSelector(IReceiptSettlement.EmptyEpoch.selector);
        Epoch memory epoch = firstEpoch(poolId, 2, 2);
        epoch.root.receiptCount = 0;
        refuse(epoch, refusal);
        epoch.root.receiptCount = 2;
        epoch.root.totalUnits = 0;
        refuse(epoch, refusal);
    }

    function test_only_pools_that_are_paid_by_work_and_settled_here() public {
        uint256 byTime = activePool(address(0), 1 ether, IRewardsDistributor.Strategy.FIXED, RATE);
        ReceiptSettlement here = settlement;
        settlement = newSettlement(settlementTerms());
        uint256 elsewhere = activePool(address(0), 1 ether);
        settlement = here;
        uint256[3] memory ids = [byTime, elsewhere, 99];
        for (uint256 i = 0; i < 3; i++) {
            Epoch memory epoch = firstEpoch(poolId, 1, 1);
            epoch.root.poolId = ids[i];
            refuse(
                epoch, abi.encodeWithSelector(IReceiptSettlement.NotSettledHere.selector, ids[i])
            );
        }
    }

    function test_the_rate_is_the_pools() public {
        Epoch memory epoch = firstEpoch(poolId, 2, 2);
        reprice(epoch, RATE - 1);
        refuse(epoch, wrongRate(RATE - 1, RATE));
        reprice(epoch, RATE + 1);
        refuse(epoch, wrongRate(RATE + 1, RATE));
        reprice(epoch, 0);
        refuse(epoch, wrongRate(0, RATE));
    }

    function test_a_short_budget_lowers_the_rate_and_a_tenth_is_tolerated() public {
        uint256 poor = activePool(address(0), 3_000);
        Epoch memory epoch = firstEpoch(poor, 2, 2);
        vm.assertEq(epoch.root.rate, 1_000);
        reprice(epoch, 1_001);
        refuse(epoch, wrongRate(1_001, 1_000));
        reprice(epoch, 899);
        refuse(epoch, wrongRate(899, 1_000));
        reprice(epoch, 900);
        post(epoch);
        vm.assertEq(settlement.committed(poor), 2_700);
    }

    /// @dev Anyone may deposit between signing and posting.
    function test_a_small_deposit_does_not_undo_what_was_signed() public {
        uint256 poor = activePool(address(0), 3_000);
        Epoch memory epoch = firstEpoch(poor, 2, 2);
        fund(poor, 333);
        post(epoch);
        vm.assertEq(settlement.committed(poor), 3_000);
    }

    function test_budgets_of_dust() public {
        uint256 poor = activePool(address(0), 1);
        refuse(
            repoor(firstEpoch(poolId, 2, 2), poor),
            abi.encodeWithSelector(IReceiptSettlement.NoBudget.selector, poor)
        );
        Epoch memory epoch = firstEpoch(poor, 1, 1);
        settle(epoch);
        claim(epoch, workerProvider(0));
        vm.assertEq(token.balanceOf(workerProvider(0)), 1);
        Epoch memory next = firstEpoch(poolId, 1, 1);
        next.root.epoch = 2;
        refuse(
            repoor(next, poor), abi.encodeWithSelector(IReceiptSettlement.NoBudget.selector, poor)
        );
    }

    function test_the_total_is_the_sum() public {
        Epoch memory epoch = firstEpoch(poolId, 2, 2);
        uint256 total = 3 * uint256(RATE);
        epoch.root.totalPayout++;
        refuse(epoch, wrongTotal(total + 1, total));
        epoch.root.totalPayout -= 2;
        refuse(epoch, wrongTotal(total - 1, total));
        epoch.root.totalPayout++;
        settle(epoch);
        Epoch memory next = buildEpoch(epoch, someReceipts(poolId, 2, 1, 1, 10));
        next.root.totalPayout = RATE;
        refuse(next, wrongTotal(RATE, 4 * uint256(RATE)));
    }

    function test_the_largest_amounts() public {
        uint256 most = type(uint128).max;
        uint256 rich =
            activePool(address(0), most, IRewardsDistributor.Strategy.WORK, type(uint88).max);
        IReceiptSettlement.SignedReceipt[] memory receipts =
            new IReceiptSettlement.SignedReceipt[](1);
        receipts[0] = receiptFor(rich, 1, 0, 0, type(uint128).max);
        Epoch memory epoch = buildEpoch(noEpoch(rich), receipts);
        vm.assertEq(epoch.root.rate, 1);
        post(epoch);
        vm.assertEq(settlement.committed(rich), most);
        answerReceipt(disputeReceipt(epoch, 0, STRANGER), epoch, 0);
        address account = workerProvider(0);
        answerPayout(disputePayout(epoch, account, STRANGER), epoch, noEpoch(rich), account);
        vm.warp(START + WINDOW);
        claim(epoch, account);
        vm.assertEq(token.balanceOf(account), most);
    }

    /// @dev Whatever the budget: what is committed stays within it.
    function testFuzz_commits_within_the_budget(
        uint128 budget,
        uint88 rate,
        uint128[3] memory units
    ) public {
        if (budget == 0) budget = 1;
        if (rate == 0) rate = 1;
        poolId = activePool(address(0), budget, IRewardsDistributor.Strategy.WORK, rate);
        Epoch memory epoch = noEpoch(poolId);
        for (uint64 i = 0; i < 3; i++) {
            if (units[i] == 0) units[i] = 1;
            IReceiptSettlement.SignedReceipt[] memory receipts =
                new IReceiptSettlement.SignedReceipt[](1);
            receipts[0] = receiptFor(poolId, i + 1, i, i, units[i]);
            Epoch memory next = buildEpoch(epoch, receipts);
            if (next.root.rate == 0) {
                refuse(next, abi.encodeWithSelector(IReceiptSettlement.NoBudget.selector, poolId));
                continue;
            }
            settle(next);
            epoch = next;
            vm.assertLe(settlement.committed(poolId), budget, "committed");
        }
    }

    // --- helpers ---

    function refuse(Epoch memory epoch, bytes memory refusal) private {
        bytes[] memory signatures = signRoot(epoch.root, 2);
        vm.expectRevert(refusal);
        settlement.postRoot(epoch.root, signatures);
    }

    function reprice(Epoch memory epoch, uint128 rate) private pure {
        epoch.root.rate = rate;
        epoch.root.totalPayout = epoch.root.totalUnits * rate;
    }

    function repoor(Epoch memory epoch, uint256 poor) private pure returns (Epoch memory) {
        epoch.root.poolId = poor;
        return epoch;
    }

    function notFinal(uint32 disputes) private pure returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IReceiptSettlement.RootNotFinal.selector, START + WINDOW, disputes
            );
    }

    function wrongEpoch(uint64 epoch, uint64 expected) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.WrongEpoch.selector, epoch, expected);
    }

    function wrongRate(uint256 rate, uint256 expected) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.WrongRate.selector, rate, expected);
    }

    function wrongTotal(uint256 total, uint256 expected) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.WrongTotalPayout.selector, total, expected);
    }
}
