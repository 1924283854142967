// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Epochs} from "../utils/Epochs.sol";

/// @notice ReceiptSettlement.disputeReceipt and answerReceipt.
contract DisputeReceiptTest is Epochs {
    uint256 private poolId;

    function setUp() public override {
        super.setUp();
        registerWorkers(5);
        poolId = activePool(address(0), 1_000 ether);
    }

    function test_a_question_costs_the_bond_and_holds_the_root_back() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 2);
        post(epoch);
        vm.warp(START + WINDOW - 1);
        giveTokens(STRANGER, address(settlement), BOND);
        IReceiptSettlement.Dispute memory dispute = IReceiptSettlement.Dispute({
            kind: IReceiptSettlement.DisputeKind.RECEIPT,
            challenger: STRANGER,
            epoch: 1,
            answerBy: START + WINDOW - 1 + ANSWER_WINDOW,
            poolId: poolId,
            root: settlement.rootHash(poolId, 1),
            subject: 2,
            amount: 0
        });
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.DisputeOpened(1, poolId, 1, dispute);
        vm.prank(STRANGER);
        vm.assertEq(settlement.disputeReceipt(postedOf(epoch), 2), 1);
        vm.assertEq(token.balanceOf(STRANGER), 0);
        vm.assertEq(token.balanceOf(address(settlement)), BOND);
        vm.assertEq(settlement.epochsOf(poolId).openDisputes, 1);
        vm.assertEq(settlement.disputeCount(), 1);
        vm.assertEq(abi.encode(settlement.disputeOf(1)), abi.encode(dispute));
        vm.warp(START + WINDOW);
        vm.assertFalse(settlement.isFinal(poolId, 1));
    }

    function test_the_answer_splits_the_bond_and_frees_the_root() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 2);
        post(epoch);
        uint256 disputeId = disputeReceipt(epoch, 1, STRANGER);
        vm.warp(START + WINDOW);
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.DisputeAnswered(disputeId, address(this));
        uint256 before = token.balanceOf(address(this));
        answerReceipt(disputeId, epoch, 1);
        vm.assertEq(token.balanceOf(address(this)), before + BOND / 2);
        vm.assertEq(token.balanceOf(TREASURY), BOND - BOND / 2);
        vm.assertEq(token.balanceOf(address(settlement)), 0);
        vm.assertTrue(settlement.isFinal(poolId, 1));
        vm.assertTrue(settlement.disputeOf(disputeId).kind == IReceiptSettlement.DisputeKind.NONE);
        claim(epoch, workerProvider(0));
    }

    /// @dev Whoever answers first is paid, with whosever leaves.
    function test_an_answer_can_be_copied_and_counts_once() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 2);
        post(epoch);
        uint256 disputeId = disputeReceipt(epoch, 0, STRANGER);
        IReceiptSettlement.ProvenLeaf memory none;
        IReceiptSettlement.ProvenLeaf memory leaf = leafOf(epoch, 0);
        vm.prank(CREATOR);
        settlement.answerReceipt(disputeId, postedOf(epoch), leaf, none, epoch.receipts[0]);
        vm.assertEq(token.balanceOf(CREATOR), BOND / 2);
        vm.expectRevert(
            abi.encodeWithSelector(IReceiptSettlement.UnknownDispute.selector, disputeId)
        );
        settlement.answerReceipt(disputeId, postedOf(epoch), leaf, none, epoch.receipts[0]);
    }

    /// @dev Holding payments up costs half a bond a question, and ends with the answer window.
    function test_asking_and_answering_oneself_is_not_free() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 2);
        post(epoch);
        uint256[] memory ids = new uint256[](20);
        for (uint256 i = 0; i < 20; i++) {
            // forge-lint: disable-next-line(unsafe-typecast)
            ids[i] = disputeReceipt(epoch, uint64(i % 3), STRANGER);
        }
        vm.assertEq(settlement.epochsOf(poolId).openDisputes, 20);
        for (uint256 i = 0; i < 20; i++) {
            IReceiptSettlement.ProvenLeaf memory before;
            if (i % 3 != 0) before = leafOf(epoch, i % 3 - 1);
            vm.prank(STRANGER);
            settlement.answerReceipt(
                ids[i], postedOf(epoch), leafOf(epoch, i % 3), before, epoch.receipts[i % 3]
            );
        }
        vm.assertEq(token.balanceOf(STRANGER), 10 * BOND);
        vm.assertEq(token.balanceOf(TREASURY), 10 * BOND);
        vm.warp(START + WINDOW);
        vm.assertTrue(settlement.isFinal(poolId, 1));
    }

    /// @dev Answers by the dozen go through one transaction.
    function test_many_answers_in_one_call() public {
        Epoch memory epoch = firstEpoch(poolId, 4, 2);
        post(epoch);
        bytes[] memory calls = new bytes[](4);
        for (uint64 i = 0; i < 4; i++) {
            IReceiptSettlement.ProvenLeaf memory before;
            if (i != 0) before = leafOf(epoch, i - 1);
            calls[i] = abi.encodeCall(
                settlement.answerReceipt,
                (
                    disputeReceipt(epoch, i, STRANGER),
                    postedOf(epoch),
                    leafOf(epoch, i),
                    before,
                    epoch.receipts[i]
                )
            );
        }
        vm.prank(CREATOR);
        settlement.multicall(calls);
        vm.assertEq(token.balanceOf(CREATOR), 2 * BOND);
        vm.assertEq(settlement.epochsOf(poolId).openDisputes, 0);
    }

    function test_asks_about_leaves_that_exist_in_roots_that_stand() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 2);
        refuseQuestion(epoch, 0, unknownRoot());
        post(epoch);
        refuseQuestion(
            epoch, 3, abi.encodeWithSelector(IReceiptSettlement.NoSuchLeaf.selector, 3, 3)
        );
        epoch.root.receiptCount = 4;
        refuseQuestion(epoch, 3, unknownRoot());
        epoch.root.receiptCount = 3;
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientAllowance.selector);
        settlement.disputeReceipt(postedOf(epoch), 0);
        vm.warp(START + WINDOW);
        refuseQuestion(epoch, 0, isFinal());
    }

    /// @dev An open dispute keeps a root pending, and lets nobody else in after the window.
    function test_questions_end_with_the_window() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 2);
        post(epoch);
        disputeReceipt(epoch, 0, STRANGER);
        vm.warp(START + WINDOW);
        refuseQuestion(epoch, 1, isFinal());
    }

    function test_the_last_second_is_in_time() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 2);
        post(epoch);
        uint256 one = disputeReceipt(epoch, 0, STRANGER);
        uint256 two = disputeReceipt(epoch, 1, STRANGER);
        vm.warp(START + ANSWER_WINDOW);
        answerReceipt(one, epoch, 0);
        vm.warp(START + ANSWER_WINDOW + 1);
        refuse(
            two,
            epoch,
            1,
            abi.encodeWithSelector(IReceiptSettlement.AnswerTooLate.selector, START + ANSWER_WINDOW)
        );
    }

    function test_an_answer_is_about_this_dispute_and_root() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 2);
        post(epoch);
        refuse(7, epoch, 0, abi.encodeWithSelector(IReceiptSettlement.UnknownDispute.selector, 7));
        uint256 disputeId = disputeReceipt(epoch, 2, STRANGER);
        refuse(disputeId, epoch, 1, invalid("index"));
        uint256 payout = disputePayout(epoch, workerProvider(0), STRANGER);
        refuse(payout, epoch, 0, invalid("kind"));

        uint256 second = activePool(address(0), 1_000 ether);
        Epoch memory other = firstEpoch(second, 3, 2);
        post(other);
        refuse(
            disputeId,
            other,
            2,
            abi.encodeWithSelector(IReceiptSettlement.UnknownRoot.selector, second, 1)
        );
    }

    /// @dev The leaves are withheld: it suffices to know how many there are.
    function testFuzz_any_index_can_be_asked_and_answered(uint256 count, uint256 workers, uint64 at)
        public
    {
        count = 1 + count % 40;
        // forge-lint: disable-next-line(unsafe-typecast)
        at %= uint64(count);
        Epoch memory epoch = firstEpoch(poolId, count, 1 + workers % 5);
        post(epoch);
        answerReceipt(disputeReceipt(epoch, at, STRANGER), epoch, at);
    }

    // --- helpers ---

    function refuseQuestion(Epoch memory epoch, uint64 index, bytes memory refusal) private {
        giveTokens(STRANGER, address(settlement), BOND);
        vm.expectRevert(refusal);
        vm.prank(STRANGER);
        settlement.disputeReceipt(postedOf(epoch), index);
    }

    function refuse(uint256 disputeId, Epoch memory epoch, uint256 index, bytes memory refusal)
        private
    {
        vm.expectRevert(refusal);
        answerReceipt(disputeId, epoch, index);
    }

    function unknownRoot() private view returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.UnknownRoot.selector, poolId, 1);
    }

    function isFinal() private view returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.RootIsFinal.selector, poolId, 1);
    }

    function invalid(string memory reason) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.InvalidAnswer.selector, reason);
    }
}
