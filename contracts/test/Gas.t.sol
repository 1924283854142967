// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Epochs} from "./utils/Epochs.sol";

/// @notice Gas of the calls that recur each epoch and of what a dispute costs. Each call is a
/// transaction of its own, so the figures hold calldata and the base fee of 21,000. They are written
/// to snapshots/Gas.json, which is committed: a change of cost is a reviewed difference
/// (FORGE_SNAPSHOT_CHECK=true fails on one).
/// forge-config: default.isolate = true
contract GasTest is Epochs {
    uint256 private constant ACCOUNTS = 64;
    uint256 private poolId;

    function setUp() public override {
        super.setUp();
        settlement.setQuorum(10_000);
        registerWorkers(ACCOUNTS);
        poolId = activePool(address(0), 1_000_000 ether);
    }

    function test_gas_of_an_epoch() public {
        Epoch memory first = build(noEpoch(poolId), 256, 0);
        post(first);
        vm.snapshotGasLastCall("Gas", "postRoot, 3 validators, first epoch");
        vm.warp(block.timestamp + WINDOW);
        claim(first, workerProvider(7));
        vm.snapshotGasLastCall("Gas", "claim, 64 accounts, first of the account");
        vm.assertEq(token.balanceOf(workerProvider(7)), paidTo(first, workerProvider(7)));

        Epoch memory second = build(first, 256, 2_000);
        post(second);
        vm.snapshotGasLastCall("Gas", "postRoot, 3 validators, later epoch");
        vm.warp(block.timestamp + WINDOW);
        claim(second, workerProvider(7));
        vm.snapshotGasLastCall("Gas", "claim, 64 accounts, later");
    }

    function test_gas_of_disputes() public {
        Epoch memory first = build(noEpoch(poolId), 256, 0);
        settle(first);
        Epoch memory second = build(first, 256, 2_000);
        post(second);
        address account = workerProvider(7);
        uint256 receipt = disputeReceipt(second, 128, STRANGER);
        vm.snapshotGasLastCall("Gas", "disputeReceipt");
        uint256 payout = disputePayout(second, account, STRANGER);
        vm.snapshotGasLastCall("Gas", "disputePayout, 64 accounts");
        uint256 omission = disputeOmission(second, first, account, STRANGER);
        vm.snapshotGasLastCall("Gas", "disputeOmission, 64 accounts");
        uint256 ignored = disputeReceipt(second, 129, STRANGER);
        answerReceipt(receipt, second, 128);
        vm.snapshotGasLastCall("Gas", "answerReceipt, 256 receipts");
        answerPayout(payout, second, first, account);
        vm.snapshotGasLastCall("Gas", "answerPayout, 256 receipts, 64 accounts");
        answerPayout(omission, second, first, account);
        vm.snapshotGasLastCall("Gas", "answerPayout to an omission");
        vm.warp(block.timestamp + ANSWER_WINDOW + 1);
        settlement.uphold(ignored, postedOf(second), second.signers);
        vm.snapshotGasLastCall("Gas", "uphold, 3 signers");
    }

    /// @dev The first epoch of a pool, which costs the most. Only a root is posted, whatever is below.
    function test_gas_for_each_receipt() public {
        uint256[4] memory counts = [uint256(1), 16, 256, 4_096];
        for (uint256 i = 0; i < 4; i++) {
            poolId = activePool(address(0), 1_000_000 ether);
            Epoch memory epoch = unsigned(counts[i]);
            post(epoch);
            uint256 gas = vm.lastCallGas().gasTotalUsed;
            vm.snapshotValue(
                "Gas",
                string.concat("postRoot for each of ", vm.toString(counts[i]), " receipts"),
                gas / counts[i]
            );
            if (counts[i] == 4_096) vm.assertLe(gas, 40 * counts[i], "gas a receipt");
        }
    }

    function unsigned(uint256 count) private view returns (Epoch memory epoch) {
        uint256 accounts = count < ACCOUNTS ? count : ACCOUNTS;
        epoch.leaves = new IReceiptSettlement.WorkLeaf[](count);
        epoch.accounts = new address[](accounts);
        epoch.cumulative = new uint256[](accounts);
        uint256 each = count / accounts;
        for (uint256 i = 0; i < count; i++) {
            uint256 who = i / each;
            epoch.accounts[who] = workerProvider(who);
            epoch.cumulative[who] += 1_000 * uint256(RATE);
            epoch.leaves[i] = IReceiptSettlement.WorkLeaf({
                index: SafeCast.toUint64(i),
                account: epoch.accounts[who],
                accountUnits: SafeCast.toUint128(1_000 * (i % each + 1)),
                epochUnits: SafeCast.toUint128(1_000 * (i + 1)),
                receipt: keccak256(abi.encode(i))
            });
        }
        epoch.root.poolId = poolId;
        epoch.root.epoch = 1;
        epoch.root.rate = RATE;
        epoch.root.dataHash = keccak256("data");
        restate(epoch);
        epoch.root.totalPayout = epoch.root.totalUnits * RATE;
        plant(epoch);
        setSigners(epoch, 3);
    }

    /// @dev An epoch of `count` receipts by all workers.
    function build(Epoch memory previous, uint256 count, uint256 firstJob)
        private
        view
        returns (Epoch memory epoch)
    {
        uint64 number = previous.root.epoch + 1;
        IReceiptSettlement.SignedReceipt[] memory receipts =
            someReceipts(poolId, number, count, count < ACCOUNTS ? count : ACCOUNTS, firstJob);
        epoch = buildEpoch(previous, receipts);
        setSigners(epoch, 3);
    }
}
