// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Epochs} from "./Epochs.sol";
import {Merkle} from "./Merkle.sol";

/// @notice Asks every question about a posted root and answers, if at all possible, as signers would
/// who know everything: all leaves, all receipts, and every way to combine them.
abstract contract Adversary is Epochs {
    /// @dev Whether some question about `epoch`, which is pending, cannot be answered.
    function isExposed(Epoch memory epoch, Epoch memory previous) internal returns (bool) {
        for (uint64 i = 0; i < epoch.root.receiptCount; i++) {
            if (!canAnswerReceipt(disputeReceipt(epoch, i, STRANGER), epoch, i)) return true;
        }
        for (uint256 i = 0; i < epoch.accounts.length; i++) {
            address account = epoch.accounts[i];
            uint256 disputeId = askPayout(epoch, account, epoch.cumulative[i]);
            if (!canAnswerPayout(disputeId, epoch, previous, account)) return true;
        }
        for (uint256 i = 0; i < previous.accounts.length; i++) {
            address account = previous.accounts[i];
            uint256 disputeId = disputeOmission(epoch, previous, account, STRANGER);
            if (!canAnswerPayout(disputeId, epoch, previous, account)) return true;
        }
        for (uint256 i = 0; i < epoch.leaves.length; i++) {
            address account = epoch.leaves[i].account;
            uint256 disputeId = disputeOmission(epoch, noEpoch(0), account, STRANGER);
            if (!canAnswerPayout(disputeId, epoch, previous, account)) return true;
        }
        return isDoubleCounted(epoch, previous);
    }

    function askPayout(Epoch memory epoch, address account, uint256 cumulative)
        private
        returns (uint256)
    {
        IReceiptSettlement.ProvenPayout memory payout = proven(epoch, account, cumulative);
        giveTokens(STRANGER, address(settlement), BOND);
        vm.prank(STRANGER);
        return settlement.disputePayout(postedOf(epoch), account, payout);
    }

    /// @dev Tries every leaf with any leaf before it and any receipt.
    function canAnswerReceipt(uint256 disputeId, Epoch memory epoch, uint64 index)
        private
        returns (bool)
    {
        IReceiptSettlement.Posted memory posted = postedOf(epoch);
        for (uint256 i = 0; i < epoch.leaves.length; i++) {
            if (epoch.leaves[i].index != index) continue;
            for (uint256 j = 0; j < epoch.leaves.length; j++) {
                if (index != 0 && epoch.leaves[j].index + 1 != index) continue;
                for (uint256 k = 0; k < epoch.receipts.length; k++) {
                    try settlement.answerReceipt(
                        disputeId, posted, leafOf(epoch, i), leafOf(epoch, j), epoch.receipts[k]
                    ) {
                        return true;
                    } catch {}
                }
            }
        }
        return false;
    }

    /// @dev Tries every payout of the account with any payout before and all leaves around its end.
    function canAnswerPayout(
        uint256 disputeId,
        Epoch memory epoch,
        Epoch memory previous,
        address account
    ) private returns (bool) {
        IReceiptSettlement.PayoutAnswer memory answer;
        for (uint256 i = 0; i <= epoch.accounts.length; i++) {
            // Without a leaf: that nothing is due, or that no proof is needed.
            answer.payout.cumulative = 0;
            if (i != 0 && epoch.accounts[i - 1] != account) continue;
            if (i != 0) answer.payout = proven(epoch, account, epoch.cumulative[i - 1]);
            for (uint256 j = 0; j <= previous.accounts.length; j++) {
                answer.previous.cumulative = 0;
                if (j != 0 && previous.accounts[j - 1] != account) continue;
                if (j != 0) {
                    answer.previous = proven(previous, account, previous.cumulative[j - 1]);
                }
                if (canPlace(disputeId, epoch, previous, answer)) return true;
                if (i != 0) continue;
                answer.payout.cumulative =
                    answer.previous.cumulative + uint256(unitsOf(epoch, account)) * epoch.root.rate;
                if (canPlace(disputeId, epoch, previous, answer)) return true;
                answer.payout.cumulative = 0;
            }
        }
        return false;
    }

    function canPlace(
        uint256 disputeId,
        Epoch memory epoch,
        Epoch memory previous,
        IReceiptSettlement.PayoutAnswer memory answer
    ) private returns (bool) {
        IReceiptSettlement.Posted memory posted = postedOf(epoch);
        IReceiptSettlement.Posted memory before = postedOf(previous);
        uint256 count = epoch.leaves.length;
        for (uint256 last = 0; last <= count; last++) {
            answer.hasLast = last != count;
            if (answer.hasLast) answer.last = leafOf(epoch, last);
            uint64 wanted = answer.hasLast ? epoch.leaves[last].index + 1 : 0;
            for (uint256 next = 0; next < count; next++) {
                // Where no next leaf is needed any will do; else only the one with that index can.
                bool needed = wanted != epoch.root.receiptCount;
                if (needed ? epoch.leaves[next].index != wanted : next != 0) continue;
                answer.next = leafOf(epoch, next);
                try settlement.answerPayout(disputeId, posted, before, answer) {
                    return true;
                } catch {}
            }
        }
        return false;
    }

    function isDoubleCounted(Epoch memory epoch, Epoch memory previous) private returns (bool) {
        uint256 count = epoch.leaves.length;
        for (uint256 i = 0; i < count; i++) {
            for (uint256 j = 0; j < count + previous.leaves.length; j++) {
                Epoch memory other = j < count ? epoch : previous;
                uint256 place = j < count ? j : j - count;
                try settlement.proveDoubleCount(
                    postedOf(epoch),
                    epoch.signers,
                    leafOf(epoch, i),
                    epoch.receipts[i].receipt,
                    postedOf(other),
                    leafOf(other, place),
                    other.receipts[place].receipt
                ) {
                    return true;
                } catch {}
            }
        }
        return false;
    }

    function proven(Epoch memory epoch, address account, uint256 cumulative)
        private
        pure
        returns (IReceiptSettlement.ProvenPayout memory)
    {
        bytes32 leaf = Merkle.payoutLeaf(account, cumulative);
        return IReceiptSettlement.ProvenPayout(cumulative, Merkle.proofIn(epoch.payoutTree, leaf));
    }
}
