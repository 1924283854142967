// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputeRegistry} from "src/interfaces/IComputeRegistry.sol";
import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Epochs} from "../utils/Epochs.sol";

/// @notice What an answer about a receipt must show: each fault that a root can have makes the one
/// answer that there is fail, with its reason.
contract AnswerReceiptTest is Epochs {
    uint256 private poolId;

    function setUp() public override {
        super.setUp();
        registerWorkers(3);
        poolId = activePool(address(0), 1_000 ether);
    }

    function test_the_leaf_and_the_one_before_must_be_in_the_tree() public {
        Epoch memory epoch = firstEpoch(poolId, 5, 2);
        post(epoch);
        uint256 disputeId = disputeReceipt(epoch, 2, STRANGER);
        IReceiptSettlement.ProvenLeaf memory leaf = leafOf(epoch, 2);
        IReceiptSettlement.ProvenLeaf memory before = leafOf(epoch, 1);
        leaf.leaf.accountUnits++;
        refuse(disputeId, epoch, leaf, before, noProof());
        leaf = leafOf(epoch, 2);
        before.leaf.accountUnits--;
        refuse(disputeId, epoch, leaf, before, noProof());
        before = leafOf(epoch, 1);
        before.proof = new bytes32[](0);
        refuse(disputeId, epoch, leaf, before, noProof());
        refuse(disputeId, epoch, leaf, leafOf(epoch, 2), invalid("leaf before"));
        refuse(disputeId, epoch, leaf, leafOf(epoch, 0), invalid("leaf before"));
        answerReceipt(disputeId, epoch, 2);
    }

    function test_the_receipt_must_be_the_leafs() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 2);
        post(epoch);
        uint256 disputeId = disputeReceipt(epoch, 1, STRANGER);
        epoch.receipts[1] = epoch.receipts[0];
        refuse(disputeId, epoch, 1, "receipt");
    }

    function test_of_another_pool() public {
        IReceiptSettlement.Receipt memory receipt = someReceipt();
        receipt.poolId++;
        refuseReceipt(receipt, workerKey(0), CREATOR_KEY, "pool");
    }

    function test_of_a_later_epoch() public {
        IReceiptSettlement.Receipt memory receipt = someReceipt();
        receipt.epoch = 2;
        refuseReceipt(receipt, workerKey(0), CREATOR_KEY, "epoch");
    }

    function test_of_an_earlier_epoch_is_fine() public {
        Epoch memory first = firstEpoch(poolId, 1, 1);
        settle(first);
        Epoch memory second = buildEpoch(first, someReceipts(poolId, 0, 2, 1, 10));
        post(second);
        answerReceipt(disputeReceipt(second, 1, STRANGER), second, 1);
    }

    function test_for_no_work() public {
        IReceiptSettlement.SignedReceipt[] memory receipts = someReceipts(poolId, 1, 2, 1, 0);
        receipts[0] = receiptFor(poolId, 1, 0, 0, 0);
        Epoch memory epoch = buildEpoch(noEpoch(poolId), receipts);
        post(epoch);
        uint64 bad = epoch.receipts[0].receipt.units == 0 ? 0 : 1;
        refuse(disputeReceipt(epoch, bad, STRANGER), epoch, bad, "units");
    }

    function test_not_signed_by_both() public {
        refuseReceipt(someReceipt(), workerKey(1), CREATOR_KEY, "signature");
        refuseReceipt(someReceipt(), workerKey(0), workerKey(1), "signature");
        IReceiptSettlement.Receipt memory receipt = someReceipt();
        receipt.counterparty = receipt.worker;
        refuseReceipt(receipt, workerKey(0), workerKey(0), "signature");
    }

    function test_by_a_worker_that_nobody_registered() public {
        IReceiptSettlement.Receipt memory receipt = someReceipt();
        receipt.worker = worker(9);
        refuseReceipt(receipt, workerKey(9), CREATOR_KEY, "account");
    }

    function test_for_another_account_than_the_owner_of_the_worker() public {
        Epoch memory epoch = firstEpoch(poolId, 1, 1);
        epoch.leaves[0].account = STRANGER;
        plant(epoch);
        post(epoch);
        refuse(disputeReceipt(epoch, 0, STRANGER), epoch, 0, "account");
    }

    function test_countersigned_by_a_stranger() public {
        IReceiptSettlement.Receipt memory receipt = someReceipt();
        receipt.counterparty = worker(9);
        refuseReceipt(receipt, workerKey(0), workerKey(9), "counterparty");
        receipt.counterparty = worker(1);
        Epoch memory epoch = epochWith(receipt, workerKey(0), workerKey(1));
        post(epoch);
        answerReceipt(disputeReceipt(epoch, 0, STRANGER), epoch, 0);
    }

    /// @dev Where a node goes later changes nothing about what it did.
    function test_a_node_that_left_or_came_back_belongs_to_its_first_owner() public {
        Epoch memory epoch = firstEpoch(poolId, 2, 1);
        post(epoch);
        uint256 one = disputeReceipt(epoch, 0, STRANGER);
        uint256 two = disputeReceipt(epoch, 1, STRANGER);
        vm.prank(workerProvider(0));
        network.removeNode(worker(0));
        network.setBlacklisted(workerProvider(0), true);
        answerReceipt(one, epoch, 0);
        network.setBlacklisted(workerProvider(0), false);
        bytes memory signature = signNode(workerKey(0), workerProvider(1), block.timestamp);
        vm.expectRevert(
            abi.encodeWithSelector(
                IComputeRegistry.NodeOwnedBy.selector, worker(0), workerProvider(0)
            )
        );
        vm.prank(workerProvider(1));
        network.registerNode(worker(0), "", 1, block.timestamp, signature);
        registerNode(workerProvider(0), workerKey(0), 1);
        answerReceipt(two, epoch, 1);
        vm.warp(START + WINDOW);
        claim(epoch, workerProvider(0));
    }

    function test_out_of_order_by_receipt_or_twice() public {
        Epoch memory epoch = firstEpoch(poolId, 2, 1);
        (epoch.receipts[0], epoch.receipts[1]) = (epoch.receipts[1], epoch.receipts[0]);
        sumLeaves(epoch);
        refuseLeaf(epoch, 1, "order");
        epoch = firstEpoch(poolId, 2, 1);
        epoch.receipts[1] = epoch.receipts[0];
        sumLeaves(epoch);
        restate(epoch);
        refuseLeaf(epoch, 1, "order");
    }

    function test_out_of_order_by_account() public {
        Epoch memory epoch = firstEpoch(poolId, 2, 2);
        (epoch.receipts[0], epoch.receipts[1]) = (epoch.receipts[1], epoch.receipts[0]);
        sumLeaves(epoch);
        refuseLeaf(epoch, 1, "order");
    }

    function test_wrong_sums() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 1);
        epoch.leaves[1].accountUnits++;
        refuseLeaf(epoch, 1, "account units");
        epoch = firstEpoch(poolId, 3, 1);
        epoch.leaves[1].epochUnits++;
        refuseLeaf(epoch, 1, "epoch units");
        epoch = firstEpoch(poolId, 1, 1);
        epoch.leaves[0].accountUnits++;
        refuseLeaf(epoch, 0, "account units");
        epoch = firstEpoch(poolId, 1, 1);
        epoch.leaves[0].epochUnits++;
        refuseLeaf(epoch, 0, "epoch units");
        // Each leaf answers for itself only: the one after an inflated one is fine.
        epoch = firstEpoch(poolId, 2, 1);
        epoch.leaves[0].accountUnits += 5;
        epoch.leaves[1].accountUnits += 5;
        plant(epoch);
        uint256 state = vm.snapshotState();
        post(epoch);
        answerReceipt(disputeReceipt(epoch, 1, STRANGER), epoch, 1);
        refuse(disputeReceipt(epoch, 0, STRANGER), epoch, 0, "account units");
        vm.revertToState(state);
    }

    function test_a_total_that_the_last_leaf_does_not_state() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 2);
        epoch.root.totalUnits++;
        epoch.root.totalPayout += RATE;
        refuseLeaf(epoch, 2, "total units");
    }

    /// @dev An index of the root that has no leaf, and one whose leaf says another index.
    function test_indices_without_a_leaf() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 2);
        epoch.root.receiptCount = 4;
        post(epoch);
        uint256 disputeId = disputeReceipt(epoch, 3, STRANGER);
        for (uint256 i = 0; i < 3; i++) {
            refuse(disputeId, epoch, i, "index");
        }
    }

    /// @dev A second leaf with the last index, beside the first: it would lie deeper in the tree than
    /// its index says.
    function test_no_index_has_two_leaves() public {
        Epoch memory epoch = firstEpoch(poolId, 3, 1);
        IReceiptSettlement.WorkLeaf memory leaf = epoch.leaves[2];
        leaf.accountUnits = 1_000;
        IReceiptSettlement.WorkLeaf[] memory leaves = new IReceiptSettlement.WorkLeaf[](4);
        Epoch memory honest = firstEpoch(poolId, 3, 1);
        for (uint256 i = 0; i < 3; i++) {
            leaves[i] = honest.leaves[i];
        }
        leaves[3] = leaf;
        epoch.leaves = leaves;
        plant(epoch);
        epoch.root.receiptCount = 3;
        post(epoch);
        // Of four places in a balanced tree, three indices may use two of depth 2 and one of depth 1.
        IReceiptSettlement.ProvenLeaf memory forged = leafOf(epoch, 3);
        vm.assertEq(forged.proof.length, 2);
        uint256 disputeId = disputeReceipt(epoch, 2, STRANGER);
        epoch.receipts = honest.receipts;
        refuse(disputeId, epoch, forged, leafOf(epoch, 1), noProof());
        refuse(disputeId, epoch, leafOf(epoch, 2), leafOf(epoch, 1), noProof());
    }

    // --- helpers ---

    function someReceipt() private view returns (IReceiptSettlement.Receipt memory) {
        return receiptFor(poolId, 1, 0, 0, 7).receipt;
    }

    function epochWith(
        IReceiptSettlement.Receipt memory receipt,
        uint256 keyOfWorker,
        uint256 keyOfCounterparty
    ) private view returns (Epoch memory) {
        IReceiptSettlement.SignedReceipt[] memory receipts =
            new IReceiptSettlement.SignedReceipt[](1);
        receipts[0] = signReceipt(receipt, keyOfWorker, keyOfCounterparty);
        return buildEpoch(noEpoch(poolId), receipts);
    }

    /// @dev A root of this one receipt, which cannot be answered for.
    function refuseReceipt(
        IReceiptSettlement.Receipt memory receipt,
        uint256 keyOfWorker,
        uint256 keyOfCounterparty,
        string memory reason
    ) private {
        refuseLeaf(epochWith(receipt, keyOfWorker, keyOfCounterparty), 0, reason);
    }

    function refuseLeaf(Epoch memory epoch, uint64 index, string memory reason) private {
        plant(epoch);
        uint256 state = vm.snapshotState();
        post(epoch);
        refuse(disputeReceipt(epoch, index, STRANGER), epoch, index, reason);
        vm.revertToState(state);
    }

    function refuse(uint256 disputeId, Epoch memory epoch, uint256 index, string memory reason)
        private
    {
        vm.expectRevert(invalid(reason));
        answerReceipt(disputeId, epoch, index);
    }

    function refuse(
        uint256 disputeId,
        Epoch memory epoch,
        IReceiptSettlement.ProvenLeaf memory leaf,
        IReceiptSettlement.ProvenLeaf memory before,
        bytes memory refusal
    ) private {
        vm.expectRevert(refusal);
        settlement.answerReceipt(
            disputeId, postedOf(epoch), leaf, before, epoch.receipts[leaf.leaf.index]
        );
    }

    function noProof() private pure returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.InvalidProof.selector);
    }

    function invalid(string memory reason) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.InvalidAnswer.selector, reason);
    }
}
