// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Epochs} from "../utils/Epochs.sol";

/// @notice ReceiptSettlement.proveDoubleCount.
contract DoubleCountTest is Epochs {
    uint256 private constant FINE = VALIDATOR_STAKE * SIGNER_SLASH / 10_000;
    uint256 private constant BOUNTY = FINE * BOUNTY_SHARE / 10_000;
    uint256 private poolId;

    function setUp() public override {
        super.setUp();
        registerWorkers(3);
        poolId = activePool(address(0), 1_000 ether);
    }

    function test_one_work_unit_by_two_workers_in_one_epoch() public {
        Epoch memory bad = twice(0, 1);
        post(bad);
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.RootVoided(poolId, 1, STRANGER);
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.SignerSlashed(validator(0), validatorProvider(0), FINE);
        vm.prank(STRANGER);
        prove(bad, 0, bad, 1);
        vm.assertEq(token.balanceOf(STRANGER), 2 * BOUNTY);
        vm.assertEq(token.balanceOf(TREASURY), 2 * (FINE - BOUNTY));
        vm.assertEq(settlement.epochsOf(poolId).epoch, 0);
        vm.assertEq(settlement.committed(poolId), 0);
        bytes[] memory signatures = signRoot(bad.root, 2);
        vm.expectRevert(
            abi.encodeWithSelector(
                IReceiptSettlement.RootWasVoided.selector, rootDigestOf(bad.root)
            )
        );
        settlement.postRoot(bad.root, signatures);
    }

    function test_one_work_unit_twice_by_one_worker() public {
        IReceiptSettlement.SignedReceipt[] memory receipts =
            new IReceiptSettlement.SignedReceipt[](2);
        receipts[0] = receiptFor(poolId, 1, 0, 7, 5);
        IReceiptSettlement.Receipt memory again = receiptFor(poolId, 1, 0, 7, 5).receipt;
        again.seq = 1;
        receipts[1] = signReceipt(again, workerKey(0), CREATOR_KEY);
        Epoch memory bad = buildEpoch(noEpoch(poolId), receipts);
        post(bad);
        // Each leaf is right in itself.
        answerReceipt(disputeReceipt(bad, 0, STRANGER), bad, 0);
        answerReceipt(disputeReceipt(bad, 1, STRANGER), bad, 1);
        prove(bad, 1, bad, 0);
        vm.assertEq(settlement.rootHash(poolId, 1), bytes32(0));
    }

    function test_the_very_same_receipt_in_two_epochs() public {
        Epoch memory first = firstEpoch(poolId, 3, 2);
        settle(first);
        Epoch memory second = buildEpoch(first, someReceipts(poolId, 1, 3, 2, 10));
        settle(second);
        IReceiptSettlement.SignedReceipt[] memory receipts =
            new IReceiptSettlement.SignedReceipt[](1);
        receipts[0] = first.receipts[1];
        Epoch memory bad = buildEpoch(second, receipts);
        post(bad);
        prove(bad, 0, first, 1);
        vm.assertEq(settlement.epochsOf(poolId).epoch, 2);
        vm.assertEq(settlement.committed(poolId), second.root.totalPayout);
        // The earlier root, which was first, stays.
        vm.assertTrue(settlement.isFinal(poolId, 1));
    }

    function test_while_disputes_are_open_after_the_window_too() public {
        Epoch memory bad = twice(0, 1);
        post(bad);
        uint256 disputeId = disputeReceipt(bad, 0, STRANGER);
        vm.warp(START + WINDOW);
        prove(bad, 0, bad, 1);
        IReceiptSettlement.Posted memory any;
        settlement.uphold(disputeId, any, new address[](0));
        vm.assertEq(token.balanceOf(STRANGER), BOND);
        vm.assertEq(token.balanceOf(address(settlement)), 0);
    }

    /// @dev The proof is in the transaction: whoever copies it faster gets the bounty.
    function test_a_proof_can_be_copied_and_counts_once() public {
        Epoch memory bad = twice(0, 1);
        post(bad);
        vm.prank(CREATOR);
        prove(bad, 0, bad, 1);
        vm.assertEq(token.balanceOf(CREATOR), 2 * BOUNTY);
        refuse(bad, 0, bad, 1, unknownRoot());
    }

    function test_other_stages_jobs_and_the_same_leaf_prove_nothing() public {
        IReceiptSettlement.SignedReceipt[] memory receipts = someReceipts(poolId, 1, 3, 3, 0);
        IReceiptSettlement.Receipt memory stage = receiptFor(poolId, 1, 1, 0, 1).receipt;
        stage.stage = 1;
        receipts[1] = signReceipt(stage, workerKey(1), CREATOR_KEY);
        Epoch memory epoch = buildEpoch(noEpoch(poolId), receipts);
        post(epoch);
        bytes memory refusal = abi.encodeWithSelector(IReceiptSettlement.NotDoubleCounted.selector);
        for (uint256 i = 0; i < 3; i++) {
            for (uint256 j = 0; j < 3; j++) {
                refuse(epoch, i, epoch, j, refusal);
            }
        }
    }

    function test_another_pools_work_proves_nothing() public {
        uint256 second = activePool(address(0), 1_000 ether);
        Epoch memory epoch = firstEpoch(poolId, 2, 1);
        Epoch memory other = firstEpoch(second, 2, 1);
        post(epoch);
        post(other);
        bytes memory refusal = abi.encodeWithSelector(IReceiptSettlement.NotDoubleCounted.selector);
        for (uint256 i = 0; i < 4; i++) {
            refuse(epoch, i % 2, other, i / 2, refusal);
        }
    }

    function test_receipts_must_be_the_leaves() public {
        Epoch memory epoch = firstEpoch(poolId, 2, 1);
        post(epoch);
        bytes memory refusal = abi.encodeWithSelector(IReceiptSettlement.NotDoubleCounted.selector);
        IReceiptSettlement.SignedReceipt memory first = epoch.receipts[0];
        epoch.receipts[0] = epoch.receipts[1];
        refuse(epoch, 0, epoch, 1, refusal);
        epoch.receipts[0] = first;
        epoch.receipts[1] = first;
        refuse(epoch, 0, epoch, 1, refusal);
    }

    function test_leaves_must_be_in_roots_that_stand() public {
        Epoch memory bad = twice(0, 1);
        refuse(bad, 0, bad, 1, unknownRoot());
        post(bad);
        bytes memory noProof = abi.encodeWithSelector(IReceiptSettlement.InvalidProof.selector);
        IReceiptSettlement.ProvenLeaf memory leaf = leafOf(bad, 0);
        leaf.leaf.index = 1;
        vm.expectRevert(noProof);
        settlement.proveDoubleCount(
            postedOf(bad),
            bad.signers,
            leafOf(bad, 0),
            bad.receipts[0].receipt,
            postedOf(bad),
            leaf,
            bad.receipts[0].receipt
        );
        vm.expectRevert(noProof);
        settlement.proveDoubleCount(
            postedOf(bad),
            bad.signers,
            leaf,
            bad.receipts[0].receipt,
            postedOf(bad),
            leafOf(bad, 0),
            bad.receipts[0].receipt
        );
        setSigners(bad, 3);
        refuse(bad, 0, bad, 1, unknownRoot());
        IReceiptSettlement.Posted memory posted = postedOf(bad);
        setSigners(bad, 2);
        posted.signersHash = postedOf(bad).signersHash;
        address[] memory others = new address[](2);
        vm.expectRevert(IReceiptSettlement.WrongSigners.selector);
        settlement.proveDoubleCount(
            posted,
            others,
            leafOf(bad, 0),
            bad.receipts[0].receipt,
            posted,
            leafOf(bad, 1),
            bad.receipts[1].receipt
        );
    }

    function test_final_roots_are_past_proving() public {
        Epoch memory bad = twice(0, 1);
        settle(bad);
        bytes memory refusal =
            abi.encodeWithSelector(IReceiptSettlement.RootIsFinal.selector, poolId, 1);
        refuse(bad, 0, bad, 1, refusal);
        // A later root must not be voided for what an earlier one has done alone.
        Epoch memory next = buildEpoch(bad, someReceipts(poolId, 2, 1, 1, 50));
        post(next);
        refuse(bad, 0, bad, 1, refusal);
    }

    // --- helpers ---

    /// @dev Two workers' receipts for one work unit.
    function twice(uint256 one, uint256 other) private view returns (Epoch memory) {
        IReceiptSettlement.SignedReceipt[] memory receipts =
            new IReceiptSettlement.SignedReceipt[](2);
        receipts[0] = receiptFor(poolId, 1, one, 7, 5);
        receipts[1] = receiptFor(poolId, 1, other, 7, 5);
        return buildEpoch(noEpoch(poolId), receipts);
    }

    function prove(Epoch memory epoch, uint256 index, Epoch memory other, uint256 otherIndex)
        private
    {
        settlement.proveDoubleCount(
            postedOf(epoch),
            epoch.signers,
            leafOf(epoch, index),
            epoch.receipts[index].receipt,
            postedOf(other),
            leafOf(other, otherIndex),
            other.receipts[otherIndex].receipt
        );
    }

    function refuse(
        Epoch memory epoch,
        uint256 index,
        Epoch memory other,
        uint256 otherIndex,
        bytes memory refusal
    ) private {
        vm.expectRevert(refusal);
        prove(epoch, index, other, otherIndex);
    }

    function unknownRoot() private view returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.UnknownRoot.selector, poolId, 1);
    }
}
