// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Leaves} from "../libraries/Leaves.sol";
import {EpochRoots} from "./EpochRoots.sol";

/// @title What the answer to a dispute must show
/// @dev Why these questions suffice. Every index has exactly one leaf (see Leaves.inReceipts). A
/// receipt's answer shows that its leaf follows from the one before, that it is sorted after it by
/// account, and that both sides signed. So by induction over indices all sums are right, and the last
/// leaf of an account and the one after it show its units. A payout is right when it is the account's
/// payout before plus its units times the rate. Every leaf, every payout and every account can be
/// asked about alone, at a cost that grows with the trees' depth only. That work was done at all no
/// chain can see: this is what the quorum vouches for.
abstract contract AnswerChecks is EpochRoots {
    function _checkPrevious(Posted calldata posted, Posted calldata previous) internal view {
        _checkPosted(previous);
        bool before = previous.root.poolId == posted.root.poolId
            && previous.root.epoch + 1 == posted.root.epoch;
        if (!before) revert UnknownRoot(previous.root.poolId, previous.root.epoch);
    }

    function _checkReceipt(
        EpochRoot calldata root,
        WorkLeaf calldata leaf,
        SignedReceipt calldata signed
    ) internal view {
        Receipt calldata receipt = signed.receipt;
        if (receiptDigest(receipt) != leaf.receipt) revert InvalidAnswer("receipt");
        if (receipt.poolId != root.poolId) revert InvalidAnswer("pool");
        if (receipt.epoch > root.epoch) revert InvalidAnswer("epoch");
        if (receipt.units == 0) revert InvalidAnswer("units");
        if (!verifyReceipt(signed)) revert InvalidAnswer("signature");
        address owner = computeRegistry.ownerOf(receipt.worker);
        if (owner == address(0) || owner != leaf.account) revert InvalidAnswer("account");
        // A countersignature by anybody at all would be worth nothing.
        bool known = computeRegistry.ownerOf(receipt.counterparty) != address(0)
            || receipt.counterparty == pools.creatorOf(root.poolId);
        if (!known) revert InvalidAnswer("counterparty");
    }

    function _checkChain(
        EpochRoot calldata root,
        WorkLeaf calldata leaf,
        ProvenLeaf calldata before,
        uint128 units
    ) internal pure {
        uint128 accountUnits = units;
        uint128 epochUnits = units;
        if (leaf.index != 0) {
            _checkLeaf(root, before);
            WorkLeaf calldata prior = before.leaf;
            if (prior.index + 1 != leaf.index) revert InvalidAnswer("leaf before");
            bool same = prior.account == leaf.account;
            bool ordered = same ? prior.receipt < leaf.receipt : prior.account < leaf.account;
            if (!ordered) revert InvalidAnswer("order");
            if (same) accountUnits += prior.accountUnits;
            epochUnits += prior.epochUnits;
        }
        if (leaf.accountUnits != accountUnits) revert InvalidAnswer("account units");
        if (leaf.epochUnits != epochUnits) revert InvalidAnswer("epoch units");
        if (leaf.index + 1 == root.receiptCount && leaf.epochUnits != root.totalUnits) {
            revert InvalidAnswer("total units");
        }
    }

    /// @dev The account's units in the epoch, which the two leaves around its end show.
    function _unitsOf(address account, EpochRoot calldata root, PayoutAnswer calldata answer)
        internal
        pure
        returns (uint128 units)
    {
        uint64 nextIndex = 0;
        if (answer.hasLast) {
            WorkLeaf calldata last = answer.last.leaf;
            _checkLeaf(root, answer.last);
            if (last.account > account) revert InvalidAnswer("last leaf");
            if (last.account == account) units = last.accountUnits;
            nextIndex = last.index + 1;
        }
        if (nextIndex == root.receiptCount) return units;
        _checkLeaf(root, answer.next);
        bool beyond = answer.next.leaf.index == nextIndex && answer.next.leaf.account > account;
        if (!beyond) revert InvalidAnswer("next leaf");
    }

    function _checkLeaf(EpochRoot calldata root, ProvenLeaf calldata proven) internal pure {
        if (!Leaves.inReceipts(root.receiptsRoot, root.receiptCount, proven)) {
            revert InvalidProof();
        }
    }

    function _checkPayout(bytes32 root, address account, ProvenPayout calldata payout)
        internal
        pure
    {
        if (!Leaves.inPayouts(root, account, payout.cumulative, payout.proof)) {
            revert InvalidProof();
        }
    }
}
