// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Adversary} from "../utils/Adversary.sol";

/// @notice The two properties that the settlement stands on. Whoever tells the truth can answer every
/// question; whoever does not, however much they know, cannot answer all of them.
contract SoundnessTest is Adversary {
    uint256 private constant ACCOUNTS = 5;
    uint256 private constant FAULTS = 24;
    uint256 private poolId;

    function setUp() public override {
        super.setUp();
        registerWorkers(ACCOUNTS);
        poolId = activePool(address(0), 1_000_000 ether);
    }

    function testFuzz_an_honest_root_has_an_answer_to_every_question(
        uint256 seed,
        uint256 count,
        uint256 accounts,
        bool later
    ) public {
        Epoch memory previous = noEpoch(poolId);
        if (later) {
            previous = randomEpoch(previous, seed, 1 + (seed >> 8) % 12, ACCOUNTS);
            settle(previous);
        }
        Epoch memory epoch = randomEpoch(
            previous, uint256(keccak256(abi.encode(seed))), 1 + count % 12, 1 + accounts % ACCOUNTS
        );
        post(epoch);
        for (uint64 i = 0; i < epoch.root.receiptCount; i++) {
            answerReceipt(disputeReceipt(epoch, i, STRANGER), epoch, i);
        }
        for (uint256 i = 0; i < epoch.accounts.length; i++) {
            address account = epoch.accounts[i];
            answerPayout(disputePayout(epoch, account, STRANGER), epoch, previous, account);
        }
        // Everyone who may have been left out, and some who certainly were.
        for (uint256 i = 0; i < ACCOUNTS + 3; i++) {
            address account = i < ACCOUNTS ? workerProvider(i) : anyone(seed >> i);
            uint256 disputeId = disputeOmission(epoch, previous, account, STRANGER);
            answerPayout(disputeId, epoch, previous, account);
            disputeId = disputeOmission(epoch, noEpoch(0), account, STRANGER);
            answerPayout(disputeId, epoch, previous, account);
        }
        vm.assertEq(settlement.epochsOf(poolId).openDisputes, 0);
        vm.assertEq(token.balanceOf(address(settlement)), 0);
        vm.warp(block.timestamp + WINDOW);
        for (uint256 i = 0; i < epoch.accounts.length; i++) {
            claim(epoch, epoch.accounts[i]);
        }
        vm.assertEq(purse.bookOf(poolId).paid, settlement.committed(poolId));
    }

    /// @dev The adversary finds nothing against an honest root, so what it finds below is the fault.
    function testFuzz_an_honest_root_is_never_exposed(uint256 seed, bool later) public {
        (Epoch memory previous, Epoch memory epoch) = honest(seed, later);
        post(epoch);
        vm.assertFalse(isExposed(epoch, previous));
    }

    function testFuzz_a_root_with_one_fault_is_exposed(uint256 seed, uint256 fault, bool later)
        public
    {
        fault %= FAULTS;
        (Epoch memory previous, Epoch memory epoch) = honest(seed, later);
        if (!corrupt(epoch, previous, uint256(keccak256(abi.encode(seed))), fault)) return;
        post(epoch);
        vm.assertTrue(isExposed(epoch, previous), vm.toString(fault));
    }

    /// @dev Each fault at least once, whatever the fuzzer draws.
    function test_every_fault_is_exposed() public {
        for (uint256 fault = 0; fault < FAULTS; fault++) {
            uint256 state = vm.snapshotState();
            uint256 tried = 0;
            for (uint256 seed = 1; tried < 2; seed++) {
                (Epoch memory previous, Epoch memory epoch) =
                    honest(uint256(keccak256(abi.encode(seed, fault))), true);
                if (corrupt(epoch, previous, uint256(keccak256(abi.encode(seed))), fault)) {
                    tried++;
                    post(epoch);
                    vm.assertTrue(isExposed(epoch, previous), vm.toString(fault));
                }
                vm.revertToState(state);
                state = vm.snapshotState();
            }
        }
    }

    // --- roots ---

    function honest(uint256 seed, bool later)
        private
        returns (Epoch memory previous, Epoch memory epoch)
    {
        previous = noEpoch(poolId);
        if (later) {
            previous = randomEpoch(previous, seed, 1 + (seed >> 8) % 3, ACCOUNTS);
            settle(previous);
        }
        epoch = randomEpoch(previous, ~seed, 1 + (seed >> 16) % 5, 1 + (seed >> 24) % 3);
    }

    function randomEpoch(Epoch memory previous, uint256 seed, uint256 count, uint256 accounts)
        private
        view
        returns (Epoch memory)
    {
        IReceiptSettlement.SignedReceipt[] memory receipts =
            new IReceiptSettlement.SignedReceipt[](count);
        for (uint256 i = 0; i < count; i++) {
            uint256 random = uint256(keccak256(abi.encode(seed, i)));
            receipts[i] = receiptFor(
                poolId,
                SafeCast.toUint64(random % (previous.root.epoch + 2)),
                (random >> 16) % accounts,
                random,
                upTo(random, 1_000)
            );
        }
        return buildEpoch(previous, receipts);
    }

    /// @dev Puts one fault into an honest epoch. False where it cannot have this one.
    function corrupt(Epoch memory epoch, Epoch memory previous, uint256 random, uint256 fault)
        private
        view
        returns (bool)
    {
        uint256 count = epoch.leaves.length;
        uint256 at = random % count;
        IReceiptSettlement.WorkLeaf memory leaf = epoch.leaves[at];
        IReceiptSettlement.SignedReceipt memory signed = epoch.receipts[at];
        if (fault < 6) {
            if (fault == 0) leaf.accountUnits += upTo(random, 1_000);
            if (fault == 1) leaf.epochUnits += upTo(random, 1_000);
            if (fault == 2) leaf.account = anyone(random);
            if (fault == 3) leaf.index += SafeCast.toUint64(upTo(random, 8));
            if (fault == 4) leaf.receipt = keccak256(abi.encode(random));
            if (fault == 5) {
                for (uint256 i = at; i < count; i++) {
                    if (epoch.leaves[i].account == leaf.account) epoch.leaves[i].accountUnits += 7;
                }
                payDifference(epoch, leaf.account, 7 * uint256(epoch.root.rate));
            }
            plant(epoch);
            return true;
        }
        if (fault < 9) {
            bytes memory forged = signDigest(workerKey(9), digestOf(signed.receipt));
            if (fault == 6) signed.workerSignature = forged;
            if (fault == 7) signed.counterSignature = forged;
            if (fault == 8) signed.workerSignature = signed.counterSignature;
            return true;
        }
        if (fault < 13) {
            IReceiptSettlement.Receipt memory receipt = signed.receipt;
            if (fault == 9) receipt.poolId++;
            if (fault == 10) receipt.epoch = epoch.root.epoch + 1;
            if (fault == 11) receipt.worker = worker(9);
            if (fault == 12) receipt.counterparty = worker(9);
            epoch.receipts[at] = signReceipt(
                receipt,
                fault == 11 ? workerKey(9) : keyOf(receipt.worker),
                fault == 12 ? workerKey(9) : CREATOR_KEY
            );
            rebuild(epoch, previous, epoch.receipts);
            return true;
        }
        return corruptWhole(epoch, previous, random, fault);
    }

    function corruptWhole(Epoch memory epoch, Epoch memory previous, uint256 random, uint256 fault)
        private
        view
        returns (bool)
    {
        uint256 count = epoch.leaves.length;
        uint256 at = random % count;
        uint256 payout = random % epoch.accounts.length;
        if (fault == 13) epoch.cumulative[payout] += upTo(random, 1 ether);
        if (fault == 14) epoch.cumulative[payout] -= upTo(random, epoch.cumulative[payout]);
        if (fault == 15) {
            if (epoch.accounts.length == 1) return false;
            dropPayout(epoch, payout);
        }
        if (fault == 16) addPayout(epoch, epoch.accounts[payout], upTo(random, 1 ether));
        if (fault == 17) addPayout(epoch, address(0xDEAD), upTo(random, 1 ether));
        if (fault == 18) {
            epoch.root.totalUnits += upTo(random, 1_000);
            epoch.root.totalPayout =
                previous.root.totalPayout + epoch.root.totalUnits * epoch.root.rate;
        }
        if (fault == 19) epoch.root.receiptCount += SafeCast.toUint64(upTo(random, 8));
        if (fault == 20) {
            if (count == 1) return false;
            epoch.root.receiptCount -= SafeCast.toUint64(upTo(random, count - 1));
        }
        if (fault == 21) {
            // Two neighbours change places, with right sums.
            if (count == 1) return false;
            at %= count - 1;
            (epoch.receipts[at], epoch.receipts[at + 1]) =
            (epoch.receipts[at + 1], epoch.receipts[at]);
            sumLeaves(epoch);
        }
        if (fault == 22) {
            // A receipt of the epoch before, or of this one, again.
            bool again = previous.receipts.length != 0 && random & 1 == 0;
            IReceiptSettlement.SignedReceipt[] memory receipts =
                new IReceiptSettlement.SignedReceipt[](count + 1);
            for (uint256 i = 0; i < count; i++) {
                receipts[i] = epoch.receipts[i];
            }
            receipts[count] = again ? previous.receipts[0] : epoch.receipts[at];
            rebuild(epoch, previous, receipts);
        }
        if (fault == 23) {
            // The account is set back by what it had.
            uint256 had = paidTo(previous, epoch.accounts[payout]);
            if (had == 0) return false;
            epoch.cumulative[payout] -= had;
        }
        plant(epoch);
        return true;
    }

    /// @dev From 1 to `most`.
    function upTo(uint256 random, uint256 most) private pure returns (uint128) {
        return SafeCast.toUint128(1 + (random >> 64) % most);
    }

    function anyone(uint256 random) private pure returns (address) {
        // forge-lint: disable-next-line(unsafe-typecast)
        return address(uint160(random));
    }

    function rebuild(
        Epoch memory epoch,
        Epoch memory previous,
        IReceiptSettlement.SignedReceipt[] memory receipts
    ) private view {
        Epoch memory other = buildEpoch(previous, receipts);
        (epoch.root, epoch.receipts, epoch.leaves) = (other.root, other.receipts, other.leaves);
        (epoch.accounts, epoch.cumulative) = (other.accounts, other.cumulative);
        (epoch.workTree, epoch.payoutTree) = (other.workTree, other.payoutTree);
    }

    function payDifference(Epoch memory epoch, address account, uint256 amount) private pure {
        for (uint256 i = 0; i < epoch.accounts.length; i++) {
            if (epoch.accounts[i] == account) epoch.cumulative[i] += amount;
        }
    }

    function keyOf(address account) private pure returns (uint256) {
        for (uint256 i = 0; i < ACCOUNTS; i++) {
            if (worker(i) == account) return workerKey(i);
        }
        return 0;
    }
}
