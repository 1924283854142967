// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {HandlerPools} from "./HandlerPools.sol";
import {HandlerStakes} from "./HandlerStakes.sol";
import {HandlerState} from "./HandlerState.sol";

/// @notice What the invariant tests do: every entry point, in any order. An action whose precondition
/// does not hold does nothing, so no call may revert: what reverts under its precondition is a bug.
/// Here are the actions on epochs. One root in four is wrong in some way, whoever signed it; there is
/// one honest watcher, who asks or proves before the window ends.
contract Handler is HandlerStakes, HandlerPools {
    uint256 private nextJob;
    /// @dev Work of voided roots, to be counted anew.
    mapping(uint256 poolId => uint256[]) private uncounted;
    /// @dev The number behind a work unit's id.
    mapping(bytes32 jobId => uint256) private jobOf;

    function pass(uint16 time) external rising {
        for (uint256 poolId = 1; poolId <= WORK_POOLS; poolId++) {
            watch(poolId);
        }
        vm.warp(block.timestamp + (time % 4 == 0 ? uint256(time) * 4 : time / 8));
    }

    function postRoot(uint256 pool, uint256 seed) external rising {
        uint256 poolId = 1 + pool % WORK_POOLS;
        uint64 last = settlement.epochsOf(poolId).epoch;
        if (last != 0 && !settlement.isFinal(poolId, last)) return;
        if (purse.bookOf(poolId).funded - settlement.committed(poolId) < 1e4) return;
        Fault fault = seed % 4 == 0 ? Fault(1 + (seed >> 8) % 3) : Fault.NONE;
        Epoch memory previous = load(poolId, last);
        Epoch memory epoch = buildEpoch(previous, newReceipts(previous, seed >> 16, fault));
        spoil(epoch, seed >> 16, fault);
        epoch.root.dataHash = keccak256(abi.encode(seed, block.timestamp, nextJob));
        epoch.signers = voices(seed >> 200);
        bytes32 digest = rootDigestOf(epoch.root);
        if (!haveQuorum(epoch.signers)) {
            bytes memory data =
                abi.encodeCall(settlement.postRoot, (epoch.root, signAll(epoch.signers, digest)));
            (bool posted,) = address(settlement).call(data);
            vm.assertFalse(posted, "posted without a quorum");
            done["noQuorum"]++;
            epoch.signers = voices(type(uint256).max);
            if (!haveQuorum(epoch.signers)) return;
        }
        settlement.postRoot(epoch.root, signAll(epoch.signers, digest));
        bookRoot(epoch, fault);
        done["post"]++;
    }

    /// @dev The watcher: proves what proves itself, and asks about what is wrong otherwise.
    function watch(uint256 poolId) private {
        Fault fault = faultOf[poolId];
        IReceiptSettlement.PoolEpochs memory last = settlement.epochsOf(poolId);
        if (fault == Fault.NONE || last.openDisputes != 0) return;
        Epoch memory epoch = load(poolId, last.epoch);
        if (fault == Fault.TWICE) {
            prove(epoch, load(poolId, last.epoch - 1));
        } else if (fault == Fault.PAYOUT) {
            expectNoAnswer(disputePayout(epoch, epoch.accounts[0], STRANGER));
        } else {
            expectNoAnswer(disputeReceipt(epoch, 0, STRANGER));
        }
    }

    function expectNoAnswer(uint256 id) private {
        try this.answerNow(id) {
            vm.assertTrue(false, "a wrong root was answered for");
        } catch {
            done["noAnswer"]++;
        }
    }

    function dispute(uint256 pool, uint256 seed) external rising {
        uint256 poolId = 1 + pool % WORK_POOLS;
        IReceiptSettlement.PoolEpochs memory last = settlement.epochsOf(poolId);
        if (last.epoch == 0 || block.timestamp >= last.claimableAt) return;
        if (faultOf[poolId] != Fault.NONE) return watch(poolId);
        Epoch memory epoch = load(poolId, last.epoch);
        Epoch memory previous = load(poolId, last.epoch - 1);
        uint256 place = seed >> 8;
        if (seed % 3 == 0) {
            // forge-lint: disable-next-line(unsafe-typecast)
            disputeReceipt(epoch, uint64(place % epoch.leaves.length), STRANGER);
            done["disputeReceipt"]++;
        } else if (seed % 3 == 1 || previous.accounts.length == 0) {
            disputePayout(epoch, epoch.accounts[place % epoch.accounts.length], STRANGER);
            done["disputePayout"]++;
        } else {
            address account = previous.accounts[place % previous.accounts.length];
            disputeOmission(epoch, previous, account, STRANGER);
            done["disputeOmission"]++;
        }
    }

    /// @dev Right roots can be answered for, and wrong ones not where they are wrong.
    function answer(uint256 seed) external rising {
        (uint256 id, IReceiptSettlement.Dispute memory asked) = someDispute(seed);
        if (id == 0 || block.timestamp > asked.answerBy) return;
        if (settlement.rootHash(asked.poolId, asked.epoch) != asked.root) return;
        if (faultOf[asked.poolId] != Fault.NONE) return expectNoAnswer(id);
        this.answerNow(id);
        toTreasury += BOND - BOND / 2;
        done["answer"]++;
    }

    function answerNow(uint256 id) external {
        IReceiptSettlement.Dispute memory asked = settlement.disputeOf(id);
        Epoch memory epoch = load(asked.poolId, asked.epoch);
        if (asked.kind == IReceiptSettlement.DisputeKind.RECEIPT) {
            answerReceipt(id, epoch, asked.subject);
        } else {
            Epoch memory previous = load(asked.poolId, asked.epoch - 1);
            // forge-lint: disable-next-line(unsafe-typecast)
            answerPayout(id, epoch, previous, address(uint160(asked.subject)));
        }
    }

    function uphold(uint256 seed) external rising {
        (uint256 id, IReceiptSettlement.Dispute memory asked) = someDispute(seed);
        if (id == 0) return;
        bool moot = settlement.rootHash(asked.poolId, asked.epoch) != asked.root;
        if (!moot && block.timestamp <= asked.answerBy) return;
        Epoch memory epoch = load(asked.poolId, asked.epoch);
        uint256[PARTIES] memory before = heldBy();
        settlement.uphold(id, postedOf(epoch), epoch.signers);
        bookSlashes(before, true);
        if (!moot) forget(epoch);
        done[moot ? bytes32("moot") : bytes32("uphold")]++;
    }

    function cancelRoot(uint256 pool, uint256 seed) external rising {
        uint256 poolId = 1 + pool % WORK_POOLS;
        uint64 last = settlement.epochsOf(poolId).epoch;
        if (seed % 4 != 0 || last == 0 || settlement.isFinal(poolId, last)) return;
        Epoch memory epoch = load(poolId, last);
        settlement.cancelRoot(postedOf(epoch));
        forget(epoch);
        done["cancel"]++;
    }

    function claimWork(uint256 pool) external rising {
        uint256 poolId = 1 + pool % WORK_POOLS;
        uint64 last = settlement.epochsOf(poolId).epoch;
        if (last != 0 && !settlement.isFinal(poolId, last)) last--;
        Epoch memory epoch = load(poolId, last);
        for (uint256 i = 0; i < epoch.accounts.length; i++) {
            address account = epoch.accounts[i];
            if (epoch.cumulative[i] <= settlement.claimed(poolId, account)) continue;
            claim(epoch, account);
            done["claim"]++;
        }
    }

    // --- helpers ---

    function newReceipts(Epoch memory previous, uint256 seed, Fault fault)
        private
        returns (IReceiptSettlement.SignedReceipt[] memory receipts)
    {
        (uint256 poolId, uint64 epoch) = (previous.root.poolId, previous.root.epoch + 1);
        uint256 count = 1 + seed % 4;
        receipts = new IReceiptSettlement.SignedReceipt[](fault == Fault.TWICE ? count + 1 : count);
        for (uint256 i = 0; i < count; i++) {
            seed = uint256(keccak256(abi.encode(seed)));
            uint256 job = nextJob++;
            uint256[] storage waiting = uncounted[poolId];
            if (waiting.length != 0) {
                job = waiting[waiting.length - 1];
                waiting.pop();
            }
            // forge-lint: disable-next-line(unsafe-typecast)
            uint128 units = uint128(1 + (seed >> 8) % 1_000);
            receipts[i] = receiptFor(poolId, epoch, seed % WORKERS, job, units);
            jobOf[receipts[i].receipt.jobId] = job;
        }
        if (fault != Fault.TWICE) return receipts;
        IReceiptSettlement.Receipt memory first = receipts[0].receipt;
        receipts[count] = previous.receipts.length != 0
            ? previous.receipts[0]
            : receiptFor(poolId, epoch, seed % WORKERS, jobOf[first.jobId], first.units + 1);
    }

    function spoil(Epoch memory epoch, uint256 seed, Fault fault) private pure {
        if (fault == Fault.PAYOUT) epoch.cumulative[0] += 1 + seed % 1 ether;
        if (fault == Fault.LEAF) epoch.leaves[0].accountUnits += 1;
        if (fault == Fault.PAYOUT || fault == Fault.LEAF) plant(epoch);
    }

    /// @dev A root was voided: its work waits to be counted again.
    function forget(Epoch memory epoch) private {
        unbookRoot(epoch);
        uint256 poolId = epoch.root.poolId;
        for (uint256 i = 0; i < epoch.receipts.length; i++) {
            bytes32 jobId = epoch.receipts[i].receipt.jobId;
            bool again = false;
            for (uint256 j = 0; j < i; j++) {
                if (epoch.receipts[j].receipt.jobId == jobId) again = true;
            }
            if (!again && times[poolId][jobId] == 0) uncounted[poolId].push(jobOf[jobId]);
        }
    }

    function prove(Epoch memory epoch, Epoch memory previous) private {
        for (uint256 i = 0; i < epoch.receipts.length; i++) {
            bytes32 jobId = epoch.receipts[i].receipt.jobId;
            for (uint256 j = 0; j < i; j++) {
                if (epoch.receipts[j].receipt.jobId == jobId) return proveBy(epoch, i, epoch, j);
            }
            for (uint256 j = 0; j < previous.receipts.length; j++) {
                if (previous.receipts[j].receipt.jobId == jobId) {
                    return proveBy(epoch, i, previous, j);
                }
            }
        }
        vm.assertTrue(false, "nothing is counted twice");
    }

    function proveBy(Epoch memory epoch, uint256 i, Epoch memory other, uint256 j) private {
        uint256[PARTIES] memory before = heldBy();
        settlement.proveDoubleCount(
            postedOf(epoch),
            epoch.signers,
            leafOf(epoch, i),
            epoch.receipts[i].receipt,
            postedOf(other),
            leafOf(other, j),
            other.receipts[j].receipt
        );
        bookSlashes(before, true);
        forget(epoch);
        done["prove"]++;
    }

    function someDispute(uint256 seed)
        private
        view
        returns (uint256 id, IReceiptSettlement.Dispute memory asked)
    {
        uint256 count = settlement.disputeCount();
        for (uint256 i = 0; i < count; i++) {
            id = 1 + (seed % count + i) % count;
            asked = settlement.disputeOf(id);
            if (asked.kind != IReceiptSettlement.DisputeKind.NONE) return (id, asked);
        }
        return (0, asked);
    }
}
