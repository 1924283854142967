// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Merkle} from "./Merkle.sol";
import {Receipts} from "./Receipts.sol";

/// @notice Epochs of two-signed receipts with both trees, how they are posted, and every question and
/// answer about them. An `Epoch` lives in memory; to keep one, store `abi.encode(epoch)`.
abstract contract Epochs is Receipts {
    /// @dev Work leaves and receipts stand in the order of their index.
    struct Epoch {
        IReceiptSettlement.EpochRoot root;
        address[] signers;
        IReceiptSettlement.SignedReceipt[] receipts;
        IReceiptSettlement.WorkLeaf[] leaves;
        address[] accounts;
        uint256[] cumulative;
        bytes32[] workTree;
        bytes32[] payoutTree;
    }

    // --- epochs ---

    /// @dev An epoch before the first, to build the first upon.
    function noEpoch(uint256 poolId) internal pure returns (Epoch memory epoch) {
        epoch.root.poolId = poolId;
    }

    /// @dev The right root of these receipts, which it sorts, after `previous`, at the rate that the
    /// contract asks for. Its signers are the first two validators.
    function buildEpoch(Epoch memory previous, IReceiptSettlement.SignedReceipt[] memory receipts)
        internal
        view
        returns (Epoch memory epoch)
    {
        epoch.receipts = receipts;
        sortReceipts(receipts);
        sumLeaves(epoch);
        IReceiptSettlement.EpochRoot memory root = epoch.root;
        root.poolId = previous.root.poolId;
        root.epoch = previous.root.epoch + 1;
        // forge-lint: disable-next-line(unsafe-typecast)
        root.receiptCount = uint64(receipts.length);
        root.totalUnits = epoch.leaves[receipts.length - 1].epochUnits;
        root.rate = rateFor(previous.root, root.totalUnits);
        root.totalPayout = previous.root.totalPayout + root.totalUnits * root.rate;
        root.dataHash = sha256(abi.encode(receipts));
        payAccounts(previous, epoch);
        plant(epoch);
        setSigners(epoch, 2);
    }

    /// @dev The first epoch of a pool: `count` receipts by `workers` registered workers.
    function firstEpoch(uint256 poolId, uint256 count, uint256 workers)
        internal
        view
        returns (Epoch memory)
    {
        return buildEpoch(noEpoch(poolId), someReceipts(poolId, 1, count, workers, 0));
    }

    /// @dev The root's totals from the last leaf, at its rate.
    function restate(Epoch memory epoch) internal pure {
        IReceiptSettlement.EpochRoot memory root = epoch.root;
        uint128 before = root.totalPayout - root.totalUnits * root.rate;
        // forge-lint: disable-next-line(unsafe-typecast)
        root.receiptCount = uint64(epoch.leaves.length);
        root.totalUnits = epoch.leaves[epoch.leaves.length - 1].epochUnits;
        root.totalPayout = before + root.totalUnits * root.rate;
    }

    /// @dev One more payout, whoever's.
    function addPayout(Epoch memory epoch, address account, uint256 cumulative) internal pure {
        uint256 count = epoch.accounts.length;
        address[] memory accounts = new address[](count + 1);
        uint256[] memory sums = new uint256[](count + 1);
        for (uint256 i = 0; i < count; i++) {
            (accounts[i], sums[i]) = (epoch.accounts[i], epoch.cumulative[i]);
        }
        (accounts[count], sums[count]) = (account, cumulative);
        (epoch.accounts, epoch.cumulative) = (accounts, sums);
        plant(epoch);
    }

    /// @dev Without one payout; there must be another one left.
    function dropPayout(Epoch memory epoch, uint256 place) internal pure {
        uint256 count = epoch.accounts.length - 1;
        address[] memory accounts = new address[](count);
        uint256[] memory sums = new uint256[](count);
        for (uint256 i = 0; i < count; i++) {
            uint256 from = i < place ? i : i + 1;
            (accounts[i], sums[i]) = (epoch.accounts[from], epoch.cumulative[from]);
        }
        (epoch.accounts, epoch.cumulative) = (accounts, sums);
        plant(epoch);
    }

    /// @dev Both roots from leaves and payouts, whatever these are.
    function plant(Epoch memory epoch) internal pure {
        bytes32[] memory work = new bytes32[](epoch.leaves.length);
        for (uint256 i = 0; i < work.length; i++) {
            work[i] = Merkle.workLeaf(epoch.leaves[i]);
        }
        epoch.workTree = Merkle.unsortedTree(work);
        epoch.root.receiptsRoot = epoch.workTree[0];
        bytes32[] memory pay = new bytes32[](epoch.accounts.length);
        for (uint256 i = 0; i < pay.length; i++) {
            pay[i] = Merkle.payoutLeaf(epoch.accounts[i], epoch.cumulative[i]);
        }
        epoch.payoutTree = Merkle.tree(pay);
        epoch.root.payoutsRoot = epoch.payoutTree[0];
    }

    function setSigners(Epoch memory epoch, uint256 count) internal view {
        epoch.signers = new address[](count);
        for (uint256 i = 0; i < count; i++) {
            epoch.signers[i] = validator(i);
        }
    }

    /// @dev Leaves with right sums for the receipts in their present order.
    function sumLeaves(Epoch memory epoch) internal view {
        uint256 count = epoch.receipts.length;
        epoch.leaves = new IReceiptSettlement.WorkLeaf[](count);
        address account;
        uint128 accountUnits;
        uint128 epochUnits;
        for (uint256 i = 0; i < count; i++) {
            IReceiptSettlement.Receipt memory receipt = epoch.receipts[i].receipt;
            address owner = registry.ownerOf(receipt.worker);
            accountUnits = owner == account ? accountUnits + receipt.units : receipt.units;
            epochUnits += receipt.units;
            account = owner;
            // forge-lint: disable-next-line(unsafe-typecast)
            uint64 index = uint64(i);
            epoch.leaves[i] = IReceiptSettlement.WorkLeaf(
                index, account, accountUnits, epochUnits, digestOf(receipt)
            );
        }
    }

    function rateFor(IReceiptSettlement.EpochRoot memory previous, uint128 units)
        internal
        view
        returns (uint128)
    {
        uint128 affordable =
            (purse.bookOf(previous.poolId).funded - previous.totalPayout) / units;
        uint88 rate = purse.bookOf(previous.poolId).rate;
        return affordable < rate ? affordable : rate;
    }

    function unitsOf(Epoch memory epoch, address account) internal pure returns (uint128 units) {
        for (uint256 i = 0; i < epoch.leaves.length; i++) {
            if (epoch.leaves[i].account == account) units = epoch.leaves[i].accountUnits;
        }
    }

    function paidTo(Epoch memory epoch, address account) internal pure returns (uint256) {
        for (uint256 i = 0; i < epoch.accounts.length; i++) {
            if (epoch.accounts[i] == account) return epoch.cumulative[i];
        }
        return 0;
    }

    // --- roots on chain ---

    function rootDigestOf(IReceiptSettlement.EpochRoot memory root)
        internal
        view
        returns (bytes32)
    {
        return typedDigest(address(settlement), rootStructHash(root));
    }

    /// @dev Signatures of the first `count` validators, in order.
    function signRoot(IReceiptSettlement.EpochRoot memory root, uint256 count)
        internal
        view
        returns (bytes[] memory signatures)
    {
        signatures = new bytes[](count);
        for (uint256 i = 0; i < count; i++) {
            signatures[i] = signDigest(validatorKeys[i], rootDigestOf(root));
        }
    }

    function post(Epoch memory epoch) internal {
        bytes[] memory signatures = signRoot(epoch.root, epoch.signers.length);
        settlement.postRoot(epoch.root, signatures);
    }

    /// @dev Posts it and waits for the end of its window.
    function settle(Epoch memory epoch) internal {
        post(epoch);
        vm.warp(block.timestamp + WINDOW);
    }

    function postedOf(Epoch memory epoch) internal pure returns (IReceiptSettlement.Posted memory) {
        return IReceiptSettlement.Posted(epoch.root, keccak256(abi.encode(epoch.signers)));
    }

    function leafOf(Epoch memory epoch, uint256 place)
        internal
        pure
        returns (IReceiptSettlement.ProvenLeaf memory proven)
    {
        // A copy, which tests may falsify.
        proven.leaf = abi.decode(abi.encode(epoch.leaves[place]), (IReceiptSettlement.WorkLeaf));
        proven.proof = Merkle.proofIn(epoch.workTree, Merkle.workLeaf(proven.leaf));
    }

    /// @dev The account's leaf; cumulative 0 without proof where it has none.
    function payoutOf(Epoch memory epoch, address account)
        internal
        pure
        returns (IReceiptSettlement.ProvenPayout memory payout)
    {
        uint256 cumulative = paidTo(epoch, account);
        if (cumulative == 0) return payout;
        bytes32 leaf = Merkle.payoutLeaf(account, cumulative);
        return IReceiptSettlement.ProvenPayout(cumulative, Merkle.proofIn(epoch.payoutTree, leaf));
    }

    function claim(Epoch memory epoch, address account) internal {
        IReceiptSettlement.ProvenPayout memory payout = payoutOf(epoch, account);
        settlement.claim(postedOf(epoch), account, payout.cumulative, payout.proof);
    }

    // --- questions and answers ---

    function disputeReceipt(Epoch memory epoch, uint64 index, address challenger)
        internal
        returns (uint256)
    {
        IReceiptSettlement.Posted memory posted = postedOf(epoch);
        giveTokens(challenger, address(settlement), BOND);
        vm.prank(challenger);
        return settlement.disputeReceipt(posted, index);
    }

    function disputePayout(Epoch memory epoch, address account, address challenger)
        internal
        returns (uint256)
    {
        IReceiptSettlement.ProvenPayout memory payout = payoutOf(epoch, account);
        IReceiptSettlement.Posted memory posted = postedOf(epoch);
        giveTokens(challenger, address(settlement), BOND);
        vm.prank(challenger);
        return settlement.disputePayout(posted, account, payout);
    }

    function disputeOmission(
        Epoch memory epoch,
        Epoch memory previous,
        address account,
        address challenger
    ) internal returns (uint256) {
        IReceiptSettlement.ProvenPayout memory payout = payoutOf(previous, account);
        giveTokens(challenger, address(settlement), BOND);
        vm.prank(challenger);
        return settlement.disputeOmission(postedOf(epoch), postedOf(previous), account, payout);
    }

    function answerReceipt(uint256 disputeId, Epoch memory epoch, uint256 index) internal {
        IReceiptSettlement.ProvenLeaf memory before;
        if (index != 0) before = leafOf(epoch, index - 1);
        settlement.answerReceipt(
            disputeId, postedOf(epoch), leafOf(epoch, index), before, epoch.receipts[index]
        );
    }

    function answerPayout(
        uint256 disputeId,
        Epoch memory epoch,
        Epoch memory previous,
        address account
    ) internal {
        IReceiptSettlement.PayoutAnswer memory answer = payoutAnswer(epoch, previous, account);
        settlement.answerPayout(disputeId, postedOf(epoch), postedOf(previous), answer);
    }

    /// @dev What shows that the account's payout is right, where it is.
    function payoutAnswer(Epoch memory epoch, Epoch memory previous, address account)
        internal
        pure
        returns (IReceiptSettlement.PayoutAnswer memory answer)
    {
        answer.payout = payoutOf(epoch, account);
        answer.previous = payoutOf(previous, account);
        uint256 next = 0;
        while (next < epoch.leaves.length && epoch.leaves[next].account <= account) next++;
        if (next != 0) {
            answer.hasLast = true;
            answer.last = leafOf(epoch, next - 1);
        }
        if (next != epoch.leaves.length) answer.next = leafOf(epoch, next);
    }

    // --- pieces of buildEpoch ---

    function payAccounts(Epoch memory previous, Epoch memory epoch) private pure {
        uint256 most = previous.accounts.length + epoch.leaves.length;
        address[] memory accounts = new address[](most);
        uint256[] memory cumulative = new uint256[](most);
        uint256 count = 0;
        for (uint256 i = 0; i < previous.accounts.length; i++) {
            address account = previous.accounts[i];
            accounts[count] = account;
            cumulative[count++] =
                previous.cumulative[i] + uint256(unitsOf(epoch, account)) * epoch.root.rate;
        }
        for (uint256 i = 0; i < epoch.leaves.length; i++) {
            address account = epoch.leaves[i].account;
            bool last = i + 1 == epoch.leaves.length || epoch.leaves[i + 1].account != account;
            if (!last || paidTo(previous, account) != 0) continue;
            accounts[count] = account;
            cumulative[count++] = uint256(epoch.leaves[i].accountUnits) * epoch.root.rate;
        }
        epoch.accounts = new address[](count);
        epoch.cumulative = new uint256[](count);
        for (uint256 i = 0; i < count; i++) {
            epoch.accounts[i] = accounts[i];
            epoch.cumulative[i] = cumulative[i];
        }
    }
}
