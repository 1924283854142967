// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Epochs} from "../utils/Epochs.sol";
import {Merkle} from "../utils/Merkle.sol";

/// @notice ReceiptSettlement.disputePayout, disputeOmission and answerPayout.
contract DisputePayoutTest is Epochs {
    uint256 private poolId;
    /// @dev The first three workers' providers, ascending.
    address[3] private sorted;

    function setUp() public override {
        super.setUp();
        registerWorkers(3);
        poolId = activePool(address(0), 1_000 ether);
        Epoch memory epoch = firstEpoch(poolId, 3, 3);
        for (uint256 i = 0; i < 3; i++) {
            sorted[i] = epoch.leaves[i].account;
        }
    }

    function test_a_payout_is_named_by_its_leaf() public {
        Epoch memory epoch = firstEpoch(poolId, 4, 3);
        post(epoch);
        giveTokens(STRANGER, address(settlement), BOND);
        IReceiptSettlement.ProvenPayout memory payout = payoutOf(epoch, sorted[1]);
        IReceiptSettlement.Dispute memory dispute = IReceiptSettlement.Dispute({
            kind: IReceiptSettlement.DisputeKind.PAYOUT,
            challenger: STRANGER,
            epoch: 1,
            answerBy: START + ANSWER_WINDOW,
            poolId: poolId,
            root: settlement.rootHash(poolId, 1),
            subject: uint160(sorted[1]),
            amount: payout.cumulative
        });
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.DisputeOpened(1, poolId, 1, dispute);
        vm.prank(STRANGER);
        settlement.disputePayout(postedOf(epoch), sorted[1], payout);
        vm.assertEq(abi.encode(settlement.disputeOf(1)), abi.encode(dispute));
        vm.assertEq(token.balanceOf(address(settlement)), BOND);

        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.DisputeAnswered(1, address(this));
        answerPayout(1, epoch, noEpoch(poolId), sorted[1]);
        vm.assertEq(token.balanceOf(TREASURY), BOND - BOND / 2);
        vm.assertEq(token.balanceOf(address(settlement)), 0);
        vm.assertEq(settlement.epochsOf(poolId).openDisputes, 0);
    }

    function test_an_omission_is_named_by_the_leaf_before() public {
        (Epoch memory first, Epoch memory second) = twoEpochs();
        post(second);
        uint256 disputeId = disputeOmission(second, first, sorted[0], STRANGER);
        IReceiptSettlement.Dispute memory dispute = settlement.disputeOf(disputeId);
        vm.assertTrue(dispute.kind == IReceiptSettlement.DisputeKind.OMISSION);
        vm.assertEq(dispute.subject, uint160(sorted[0]));
        vm.assertEq(dispute.amount, paidTo(first, sorted[0]));
        vm.assertEq(dispute.epoch, 2);
        answerPayout(disputeId, second, first, sorted[0]);
        vm.assertEq(settlement.epochsOf(poolId).openDisputes, 0);
    }

    function test_grounds_must_be_in_the_trees() public {
        (Epoch memory first, Epoch memory second) = twoEpochs();
        post(second);
        IReceiptSettlement.Posted memory posted = postedOf(second);
        IReceiptSettlement.Posted memory before = postedOf(first);
        IReceiptSettlement.ProvenPayout memory payout = payoutOf(second, sorted[0]);
        payout.cumulative++;
        vm.expectRevert(IReceiptSettlement.InvalidProof.selector);
        settlement.disputePayout(posted, sorted[0], payout);
        payout.cumulative--;
        vm.expectRevert(IReceiptSettlement.InvalidProof.selector);
        settlement.disputePayout(posted, sorted[1], payout);
        vm.expectRevert(IReceiptSettlement.InvalidProof.selector);
        settlement.disputeOmission(posted, before, sorted[0], payout);
        payout = payoutOf(first, sorted[0]);
        // The epoch before, and no other root.
        vm.expectRevert(unknownRoot(2));
        settlement.disputeOmission(posted, posted, sorted[0], payout);
        before.signersHash = 0;
        vm.expectRevert(unknownRoot(1));
        settlement.disputeOmission(posted, before, sorted[0], payout);
    }

    function test_final_roots_are_past_asking() public {
        (Epoch memory first, Epoch memory second) = twoEpochs();
        bytes memory refusal =
            abi.encodeWithSelector(IReceiptSettlement.RootIsFinal.selector, poolId, 1);
        IReceiptSettlement.ProvenPayout memory payout = payoutOf(first, sorted[0]);
        vm.expectRevert(refusal);
        settlement.disputePayout(postedOf(first), sorted[0], payout);
        settle(second);
        payout = payoutOf(second, sorted[0]);
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.RootIsFinal.selector, poolId, 2));
        settlement.disputePayout(postedOf(second), sorted[0], payout);
    }

    function test_an_account_that_never_worked_is_due_nothing() public {
        (Epoch memory first, Epoch memory second) = twoEpochs();
        post(second);
        address[3] memory accounts = [STRANGER, address(1), address(type(uint160).max)];
        for (uint256 i = 0; i < 3; i++) {
            uint256 disputeId = disputeOmission(second, first, accounts[i], STRANGER);
            answerPayout(disputeId, second, first, accounts[i]);
        }
    }

    function test_an_account_that_is_new_can_ask_without_any_leaf() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 3);
        dropPayout(epoch, 1);
        post(epoch);
        uint256 disputeId = disputeOmission(epoch, noEpoch(poolId), sorted[1], STRANGER);
        refuse(disputeId, epoch, noEpoch(poolId), sorted[1], invalid("payout"));
        IReceiptSettlement.PayoutAnswer memory claimed =
            payoutAnswer(epoch, noEpoch(poolId), sorted[1]);
        claimed.payout.cumulative = uint256(unitsOf(epoch, sorted[1])) * RATE;
        refuseWith(disputeId, epoch, noEpoch(poolId), claimed, noProof());
        // Nor will another account's place in the tree do.
        IReceiptSettlement.PayoutAnswer memory answer =
            payoutAnswer(epoch, noEpoch(poolId), sorted[0]);
        refuseWith(disputeId, epoch, noEpoch(poolId), answer, invalid("next leaf"));
    }

    function test_an_account_that_was_set_back_can_ask_with_its_leaf() public {
        (Epoch memory first, Epoch memory second) = twoEpochs();
        address account = workerProvider(0);
        uint256 had = paidTo(first, account);
        alter(second, account, paidTo(second, account) - had);
        post(second);
        // The leaf alone seems right to whoever claims that there was nothing before.
        Epoch memory none = noEpoch(poolId);
        uint256 payout = disputePayout(second, account, STRANGER);
        answerPayout(payout, second, none, account);
        uint256 omission = disputeOmission(second, first, account, STRANGER);
        refuse(omission, second, none, account, invalid("previous payout"));
        refuse(omission, second, first, account, invalid("payout"));
    }

    function test_a_wrong_payout_cannot_be_shown() public {
        (Epoch memory first, Epoch memory second) = twoEpochs();
        for (uint256 i = 0; i < 2; i++) {
            uint256 state = vm.snapshotState();
            uint256 right = paidTo(second, sorted[0]);
            alter(second, sorted[0], i == 0 ? right + 1 : right - 1);
            post(second);
            uint256 disputeId = disputePayout(second, sorted[0], STRANGER);
            refuse(disputeId, second, first, sorted[0], invalid("payout"));
            alter(second, sorted[0], right);
            vm.revertToState(state);
        }
    }

    function test_a_payout_to_somebody_who_did_nothing_cannot_be_shown() public {
        (Epoch memory first, Epoch memory second) = twoEpochs();
        addPayout(second, STRANGER, 1);
        post(second);
        uint256 disputeId = disputePayout(second, STRANGER, STRANGER);
        refuse(disputeId, second, first, STRANGER, invalid("payout"));
    }

    /// @dev An honest leaf and a second one, to be claimed when all is final.
    function test_a_second_leaf_of_an_account_is_questioned_by_itself() public {
        (Epoch memory first, Epoch memory second) = twoEpochs();
        uint256 right = paidTo(second, sorted[0]);
        addPayout(second, sorted[0], right + 1 ether);
        post(second);
        answerPayout(disputePayout(second, sorted[0], STRANGER), second, first, sorted[0]);
        IReceiptSettlement.ProvenPayout memory forged = IReceiptSettlement.ProvenPayout(
            right + 1 ether,
            Merkle.proofIn(second.payoutTree, Merkle.payoutLeaf(sorted[0], right + 1 ether))
        );
        giveTokens(STRANGER, address(settlement), BOND);
        vm.prank(STRANGER);
        uint256 disputeId = settlement.disputePayout(postedOf(second), sorted[0], forged);
        refuse(disputeId, second, first, sorted[0], invalid("payout"));
        IReceiptSettlement.PayoutAnswer memory answer = payoutAnswer(second, first, sorted[0]);
        answer.payout = forged;
        refuseWith(disputeId, second, first, answer, invalid("payout"));
    }

    function test_the_leaves_shown_must_be_those_around_the_accounts_end() public {
        Epoch memory epoch = firstEpoch(poolId, 6, 3);
        Epoch memory none = noEpoch(poolId);
        post(epoch);
        uint256 disputeId = disputePayout(epoch, sorted[1], STRANGER);
        IReceiptSettlement.PayoutAnswer memory answer = payoutAnswer(epoch, none, sorted[1]);
        // Too early, too late, of another account, not next to each other, none at all.
        answer.last = leafOf(epoch, 2);
        refuseWith(disputeId, epoch, none, answer, invalid("next leaf"));
        answer.next = leafOf(epoch, 3);
        refuseWith(disputeId, epoch, none, answer, invalid("next leaf"));
        answer.last = leafOf(epoch, 5);
        refuseWith(disputeId, epoch, none, answer, invalid("last leaf"));
        answer.last = leafOf(epoch, 1);
        refuseWith(disputeId, epoch, none, answer, invalid("next leaf"));
        answer.hasLast = false;
        answer.next = leafOf(epoch, 0);
        refuseWith(disputeId, epoch, none, answer, invalid("next leaf"));
        answer = payoutAnswer(epoch, none, sorted[1]);
        answer.last.leaf.accountUnits++;
        refuseWith(disputeId, epoch, none, answer, noProof());
        answer = payoutAnswer(epoch, none, sorted[1]);
        answer.next.leaf.account = address(type(uint160).max);
        refuseWith(disputeId, epoch, none, answer, noProof());
        answerPayout(disputeId, epoch, none, sorted[1]);
    }

    function test_the_payout_before_must_be_the_epochs_before() public {
        (Epoch memory first, Epoch memory second) = twoEpochs();
        settle(second);
        Epoch memory third = buildEpoch(second, someReceipts(poolId, 3, 2, 1, 20));
        post(third);
        uint256 disputeId = disputePayout(third, sorted[0], STRANGER);
        IReceiptSettlement.PayoutAnswer memory answer = payoutAnswer(third, first, sorted[0]);
        refuseWith(disputeId, third, first, answer, unknownRoot(1));
        answer = payoutAnswer(third, second, sorted[0]);
        answer.previous.cumulative++;
        refuseWith(disputeId, third, second, answer, noProof());
        uint256 other = activePool(address(0), 1_000 ether);
        Epoch memory elsewhere = firstEpoch(other, 3, 3);
        settle(elsewhere);
        answer = payoutAnswer(third, elsewhere, sorted[0]);
        refuseWith(
            disputeId,
            third,
            elsewhere,
            answer,
            abi.encodeWithSelector(IReceiptSettlement.UnknownRoot.selector, other, 1)
        );
    }

    function test_nothing_came_before_the_first_epoch() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 3);
        post(epoch);
        uint256 disputeId = disputePayout(epoch, sorted[0], STRANGER);
        IReceiptSettlement.PayoutAnswer memory answer =
            payoutAnswer(epoch, noEpoch(poolId), sorted[0]);
        answer.previous = answer.payout;
        refuseWith(disputeId, epoch, noEpoch(poolId), answer, unknownRoot(0));
        refuseWith(disputeId, epoch, epoch, answer, unknownRoot(1));
    }

    function test_answers_in_time_of_the_right_kind_and_once() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 3);
        Epoch memory none = noEpoch(poolId);
        post(epoch);
        uint256 receipt = disputeReceipt(epoch, 0, STRANGER);
        refuse(receipt, epoch, none, sorted[0], invalid("kind"));
        uint256 disputeId = disputePayout(epoch, sorted[0], STRANGER);
        uint256 late = disputePayout(epoch, sorted[1], STRANGER);
        vm.warp(START + ANSWER_WINDOW);
        answerPayout(disputeId, epoch, none, sorted[0]);
        bytes memory refusal =
            abi.encodeWithSelector(IReceiptSettlement.UnknownDispute.selector, disputeId);
        refuse(disputeId, epoch, none, sorted[0], refusal);
        vm.warp(START + ANSWER_WINDOW + 1);
        refusal = abi.encodeWithSelector(
            IReceiptSettlement.AnswerTooLate.selector, START + ANSWER_WINDOW
        );
        refuse(late, epoch, none, sorted[1], refusal);
    }

    // --- helpers ---

    /// @dev The first is final; in the second only the first worker works.
    function twoEpochs() private returns (Epoch memory first, Epoch memory second) {
        first = firstEpoch(poolId, 5, 3);
        settle(first);
        second = buildEpoch(first, someReceipts(poolId, 2, 3, 1, 10));
    }

    function alter(Epoch memory epoch, address account, uint256 cumulative) private pure {
        for (uint256 i = 0; i < epoch.accounts.length; i++) {
            if (epoch.accounts[i] == account) epoch.cumulative[i] = cumulative;
        }
        plant(epoch);
    }

    function refuse(
        uint256 disputeId,
        Epoch memory epoch,
        Epoch memory previous,
        address account,
        bytes memory refusal
    ) private {
        refuseWith(disputeId, epoch, previous, payoutAnswer(epoch, previous, account), refusal);
    }

    function refuseWith(
        uint256 disputeId,
        Epoch memory epoch,
        Epoch memory previous,
        IReceiptSettlement.PayoutAnswer memory answer,
        bytes memory refusal
    ) private {
        vm.expectRevert(refusal);
        settlement.answerPayout(disputeId, postedOf(epoch), postedOf(previous), answer);
    }

    function unknownRoot(uint64 epoch) private view returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.UnknownRoot.selector, poolId, epoch);
    }

    function noProof() private pure returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.InvalidProof.selector);
    }

    function invalid(string memory reason) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.InvalidAnswer.selector, reason);
    }
}
