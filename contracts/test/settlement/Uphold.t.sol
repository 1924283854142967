// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Epochs} from "../utils/Epochs.sol";

/// @notice ReceiptSettlement.uphold: what follows when nobody answers.
contract UpholdTest is Epochs {
    uint256 private constant FINE = VALIDATOR_STAKE * SIGNER_SLASH / 10_000;
    uint256 private constant BOUNTY = FINE * BOUNTY_SHARE / 10_000;
    uint256 private poolId;

    function setUp() public override {
        super.setUp();
        registerWorkers(3);
        poolId = activePool(address(0), 1_000 ether);
    }

    function test_voids_the_root_slashes_its_signers_and_pays_the_challenger() public {
        (Epoch memory first, Epoch memory bad, uint256 disputeId) = unanswered();
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.DisputeUpheld(disputeId);
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.RootVoided(poolId, 2, STRANGER);
        for (uint256 i = 0; i < 2; i++) {
            vm.expectEmit(address(settlement));
            emit IReceiptSettlement.SignerSlashed(validator(i), validatorProvider(i), FINE);
        }
        vm.prank(CREATOR);
        settlement.uphold(disputeId, postedOf(bad), bad.signers);

        vm.assertEq(token.balanceOf(STRANGER), BOND + 2 * BOUNTY);
        vm.assertEq(token.balanceOf(CREATOR), 0);
        vm.assertEq(token.balanceOf(TREASURY), 2 * (FINE - BOUNTY));
        vm.assertEq(token.balanceOf(address(settlement)), 0);
        vm.assertEq(stakes.stakeOf(validatorProvider(0)), VALIDATOR_STAKE - FINE);
        vm.assertEq(stakes.stakeOf(validatorProvider(1)), VALIDATOR_STAKE - FINE);
        // Who did not sign, or whose signature was not used, does not answer for it.
        vm.assertEq(stakes.stakeOf(validatorProvider(2)), VALIDATOR_STAKE);

        vm.assertEq(settlement.rootHash(poolId, 2), bytes32(0));
        vm.assertEq(settlement.epochsOf(poolId).epoch, 1);
        vm.assertEq(settlement.epochsOf(poolId).openDisputes, 0);
        vm.assertEq(settlement.committed(poolId), first.root.totalPayout);
        vm.assertTrue(settlement.disputeOf(disputeId).kind == IReceiptSettlement.DisputeKind.NONE);
        vm.expectRevert(
            abi.encodeWithSelector(IReceiptSettlement.UnknownDispute.selector, disputeId)
        );
        settlement.uphold(disputeId, postedOf(bad), bad.signers);
    }

    function test_the_epoch_is_posted_anew_and_the_bad_root_never() public {
        (Epoch memory first, Epoch memory bad, uint256 disputeId) = unanswered();
        settlement.uphold(disputeId, postedOf(bad), bad.signers);
        bytes[] memory signatures = signRoot(bad.root, 3);
        vm.expectRevert(
            abi.encodeWithSelector(
                IReceiptSettlement.RootWasVoided.selector, rootDigestOf(bad.root)
            )
        );
        settlement.postRoot(bad.root, signatures);
        Epoch memory good = buildEpoch(first, someReceipts(poolId, 2, 3, 2, 10));
        settle(good);
        claim(good, workerProvider(0));
    }

    function test_not_before_the_answers_time_is_over() public {
        Epoch memory bad = badEpoch(noEpoch(poolId));
        post(bad);
        uint256 disputeId = disputeReceipt(bad, 0, STRANGER);
        vm.warp(START + ANSWER_WINDOW);
        vm.expectRevert(
            abi.encodeWithSelector(
                IReceiptSettlement.AnswerTooEarly.selector, START + ANSWER_WINDOW
            )
        );
        settlement.uphold(disputeId, postedOf(bad), bad.signers);
        vm.warp(START + ANSWER_WINDOW + 1);
        settlement.uphold(disputeId, postedOf(bad), bad.signers);
    }

    function test_nobody_chooses_who_answers_for_a_root() public {
        (, Epoch memory bad, uint256 disputeId) = unanswered();
        address[] memory others = new address[](2);
        (others[0], others[1]) = (validator(0), validator(2));
        address[][3] memory attempts = [others, new address[](0), new address[](1)];
        for (uint256 i = 0; i < 3; i++) {
            vm.expectRevert(IReceiptSettlement.WrongSigners.selector);
            settlement.uphold(disputeId, postedOf(bad), attempts[i]);
        }
        IReceiptSettlement.Posted memory posted = postedOf(bad);
        posted.signersHash = keccak256(abi.encode(others));
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.UnknownRoot.selector, poolId, 2));
        settlement.uphold(disputeId, posted, others);
    }

    function test_another_root_is_not_punished_for_it() public {
        (Epoch memory first, Epoch memory bad, uint256 disputeId) = unanswered();
        uint256 second = activePool(address(0), 1_000 ether);
        Epoch memory innocent = firstEpoch(second, 3, 2);
        post(innocent);
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.UnknownRoot.selector, second, 1));
        settlement.uphold(disputeId, postedOf(innocent), innocent.signers);
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.UnknownRoot.selector, poolId, 1));
        settlement.uphold(disputeId, postedOf(first), first.signers);
        settlement.uphold(disputeId, postedOf(bad), bad.signers);
    }

    /// @dev Whoever's question is upheld first gets the bounty; all others their bonds.
    function test_other_questions_about_the_root_become_moot() public {
        Epoch memory bad = badEpoch(noEpoch(poolId));
        post(bad);
        uint256 one = disputeReceipt(bad, 0, STRANGER);
        uint256 two = disputeReceipt(bad, 1, CREATOR);
        uint256 three = disputePayout(bad, bad.accounts[0], CREATOR);
        vm.warp(START + ANSWER_WINDOW + 1);
        settlement.uphold(two, postedOf(bad), bad.signers);
        vm.assertEq(token.balanceOf(CREATOR), BOND + 2 * BOUNTY);
        settlement.uphold(one, postedOf(bad), bad.signers);
        settlement.uphold(three, postedOf(bad), bad.signers);
        vm.assertEq(token.balanceOf(STRANGER), BOND);
        vm.assertEq(token.balanceOf(CREATOR), 2 * BOND + 2 * BOUNTY);
        vm.assertEq(token.balanceOf(address(settlement)), 0);
        vm.assertEq(stakes.stakeOf(validatorProvider(0)), VALIDATOR_STAKE - FINE);
    }

    function test_signers_do_not_escape_by_leaving() public {
        Epoch memory bad = badEpoch(noEpoch(poolId));
        post(bad);
        uint256 disputeId = disputeReceipt(bad, 0, STRANGER);
        // One is dismissed, the other takes its node and its stake away.
        network.revokeValidator(validator(0));
        vm.startPrank(validatorProvider(1));
        network.removeNode(validator(1));
        stakes.unstake(VALIDATOR_STAKE);
        vm.stopPrank();
        vm.warp(START + ANSWER_WINDOW + 1);
        settlement.uphold(disputeId, postedOf(bad), bad.signers);
        vm.assertEq(stakes.stakeOf(validatorProvider(0)), VALIDATOR_STAKE - FINE);
        (uint256 unbonding,) = stakes.unbondingOf(validatorProvider(1));
        vm.assertEq(unbonding, VALIDATOR_STAKE - FINE);
        vm.assertEq(token.balanceOf(STRANGER), BOND + 2 * BOUNTY);
    }

    /// @dev The latest question about a root, and stake asked back when it was posted.
    function test_stake_outlasts_the_last_question() public {
        Epoch memory bad = badEpoch(noEpoch(poolId));
        post(bad);
        vm.startPrank(validatorProvider(1));
        network.removeNode(validator(1));
        stakes.unstake(VALIDATOR_STAKE);
        vm.stopPrank();
        vm.warp(START + WINDOW - 1);
        uint256 disputeId = disputeReceipt(bad, 0, STRANGER);
        vm.warp(START + WINDOW + ANSWER_WINDOW);
        (, uint64 releaseTime) = stakes.unbondingOf(validatorProvider(1));
        vm.assertGe(releaseTime, block.timestamp + 1, "withdrawn");
        settlement.uphold(disputeId, postedOf(bad), bad.signers);
        vm.assertEq(token.balanceOf(STRANGER), BOND + 2 * BOUNTY);
    }

    function test_the_cap_of_a_day_bounds_what_several_bad_roots_cost() public {
        for (uint256 i = 0; i < 4; i++) {
            Epoch memory bad = badEpoch(noEpoch(poolId));
            bad.root.dataHash = bytes32(i);
            post(bad);
            uint256 disputeId = disputeReceipt(bad, 0, STRANGER);
            vm.warp(block.timestamp + ANSWER_WINDOW + 1);
            settlement.uphold(disputeId, postedOf(bad), bad.signers);
            vm.assertEq(settlement.epochsOf(poolId).epoch, 0);
        }
        uint256 cap = VALIDATOR_STAKE * SLASH_CAP / 10_000;
        vm.assertEq(stakes.stakeOf(validatorProvider(0)), VALIDATOR_STAKE - cap);
        vm.assertEq(token.balanceOf(STRANGER), 4 * BOND + 2 * cap * BOUNTY_SHARE / 10_000);
    }

    function test_unknown_disputes() public {
        IReceiptSettlement.Posted memory any;
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.UnknownDispute.selector, 0));
        settlement.uphold(0, any, new address[](0));
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.UnknownDispute.selector, 1));
        settlement.uphold(1, any, new address[](0));
    }

    // --- helpers ---

    /// @dev A receipt whose counterparty did not sign.
    function badEpoch(Epoch memory previous) private view returns (Epoch memory) {
        IReceiptSettlement.SignedReceipt[] memory receipts = someReceipts(poolId, 1, 3, 2, 100);
        receipts[0].counterSignature = receipts[1].counterSignature;
        return buildEpoch(previous, receipts);
    }

    /// @dev A good root, and a bad one after it with a question whose time is over.
    function unanswered()
        private
        returns (Epoch memory first, Epoch memory bad, uint256 disputeId)
    {
        first = firstEpoch(poolId, 3, 2);
        settle(first);
        bad = badEpoch(first);
        post(bad);
        disputeId = disputeReceipt(bad, 0, STRANGER);
        vm.warp(block.timestamp + ANSWER_WINDOW + 1);
    }
}
