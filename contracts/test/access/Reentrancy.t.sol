// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {PrimeToken} from "src/PrimeToken.sol";
import {Epochs} from "../utils/Epochs.sol";
import {HookedToken} from "../utils/HookedToken.sol";

/// @notice ReceiptSettlement with a token that calls it again before and after every transfer. The
/// project's own token does not; nothing may depend on it.
contract ReentrancyTest is Epochs {
    uint256 private poolId;

    function setUp() public override {
        super.setUp();
        registerWorkers(3);
        poolId = activePool(address(0), 1_000 ether);
        // Somebody else's bond, which nobody may touch.
        uint256 other = activePool(address(0), 1_000 ether);
        Epoch memory epoch = firstEpoch(other, 1, 1);
        post(epoch);
        disputeReceipt(epoch, 0, CREATOR);
    }

    function newToken() internal override returns (PrimeToken) {
        return new HookedToken(address(this), 1_000_000 ether);
    }

    function test_a_claim_is_paid_once() public {
        Epoch memory epoch = firstEpoch(poolId, 4, 2);
        settle(epoch);
        address account = workerProvider(0);
        IReceiptSettlement.ProvenPayout memory payout = payoutOf(epoch, account);
        arm(
            abi.encodeCall(
                settlement.claim, (postedOf(epoch), account, payout.cumulative, payout.proof)
            )
        );
        claim(epoch, account);
        refused(2, IReceiptSettlement.NothingToClaim.selector);
        vm.assertEq(token.balanceOf(account), payout.cumulative);
    }

    /// @dev Another account's claim in the middle of one's own is that account's money only.
    function test_claims_may_nest() public {
        Epoch memory epoch = firstEpoch(poolId, 4, 2);
        settle(epoch);
        address inner = workerProvider(1);
        IReceiptSettlement.ProvenPayout memory payout = payoutOf(epoch, inner);
        arm(
            abi.encodeCall(
                settlement.claim, (postedOf(epoch), inner, payout.cumulative, payout.proof)
            )
        );
        claim(epoch, workerProvider(0));
        vm.assertEq(hooked().successes(), 1);
        vm.assertEq(token.balanceOf(inner), payout.cumulative);
        vm.assertEq(purse.bookOf(poolId).paid, epoch.root.totalPayout);
    }

    function test_a_dispute_is_answered_once() public {
        Epoch memory epoch = firstEpoch(poolId, 4, 2);
        post(epoch);
        uint256 disputeId = disputeReceipt(epoch, 1, STRANGER);
        arm(answerCall(disputeId, epoch));
        uint256 before = token.balanceOf(address(this));
        answerReceipt(disputeId, epoch, 1);
        refused(4, IReceiptSettlement.UnknownDispute.selector);
        vm.assertEq(token.balanceOf(address(this)), before + BOND / 2);
        vm.assertEq(token.balanceOf(TREASURY), BOND - BOND / 2);
        onlyTheOtherBondIsLeft();
    }

    /// @dev Answered before the bond has come in: all the same it comes, or all is undone.
    function test_an_answer_in_the_middle_of_its_dispute() public {
        Epoch memory epoch = firstEpoch(poolId, 4, 2);
        post(epoch);
        arm(answerCall(2, epoch));
        giveTokensQuietly(STRANGER, BOND);
        vm.prank(STRANGER);
        settlement.disputeReceipt(postedOf(epoch), 1);
        vm.assertEq(hooked().successes(), 1);
        vm.assertEq(settlement.epochsOf(poolId).openDisputes, 0);
        vm.assertEq(token.balanceOf(address(token)), BOND / 2);
        onlyTheOtherBondIsLeft();

        // Without the money for the bond there is no dispute, and nothing was paid out.
        arm(answerCall(3, epoch));
        vm.prank(STRANGER);
        (bool success,) = address(settlement)
            .call(abi.encodeCall(settlement.disputeReceipt, (postedOf(epoch), 1)));
        vm.assertFalse(success);
        vm.assertEq(settlement.disputeCount(), 2);
        onlyTheOtherBondIsLeft();
    }

    function test_a_dispute_is_upheld_once() public {
        Epoch memory bad = badEpoch();
        post(bad);
        uint256 disputeId = disputeReceipt(bad, 0, STRANGER);
        vm.warp(START + ANSWER_WINDOW + 1);
        arm(abi.encodeCall(settlement.uphold, (disputeId, postedOf(bad), bad.signers)));
        settlement.uphold(disputeId, postedOf(bad), bad.signers);
        vm.assertEq(hooked().successes(), 0);
        uint256 fine = VALIDATOR_STAKE * SIGNER_SLASH / 10_000;
        vm.assertEq(stakes.stakeOf(validatorProvider(0)), VALIDATOR_STAKE - fine);
        uint256 bounty = fine * BOUNTY_SHARE / 10_000;
        vm.assertEq(token.balanceOf(STRANGER), BOND + 2 * bounty);
        onlyTheOtherBondIsLeft();
    }

    function test_two_disputes_upheld_one_within_the_other() public {
        Epoch memory bad = badEpoch();
        post(bad);
        uint256 one = disputeReceipt(bad, 0, STRANGER);
        uint256 two = disputeReceipt(bad, 1, STRANGER);
        vm.warp(START + ANSWER_WINDOW + 1);
        arm(abi.encodeCall(settlement.uphold, (two, postedOf(bad), bad.signers)));
        settlement.uphold(one, postedOf(bad), bad.signers);
        vm.assertEq(hooked().successes(), 1);
        uint256 fine = VALIDATOR_STAKE * SIGNER_SLASH / 10_000;
        vm.assertEq(stakes.stakeOf(validatorProvider(1)), VALIDATOR_STAKE - fine);
        uint256 bounty = fine * BOUNTY_SHARE / 10_000;
        vm.assertEq(token.balanceOf(STRANGER), 2 * BOND + 2 * bounty);
        onlyTheOtherBondIsLeft();
    }

    function test_a_proof_voids_once() public {
        IReceiptSettlement.SignedReceipt[] memory receipts = someReceipts(poolId, 1, 2, 2, 0);
        receipts[1] = receiptFor(poolId, 1, 1, 0, 5);
        Epoch memory bad = buildEpoch(noEpoch(poolId), receipts);
        post(bad);
        bytes memory proof = abi.encodeCall(
            settlement.proveDoubleCount,
            (
                postedOf(bad),
                bad.signers,
                leafOf(bad, 0),
                bad.receipts[0].receipt,
                postedOf(bad),
                leafOf(bad, 1),
                bad.receipts[1].receipt
            )
        );
        arm(proof);
        (bool success,) = address(settlement).call(proof);
        vm.assertTrue(success);
        vm.assertEq(hooked().successes(), 0);
        uint256 fine = VALIDATOR_STAKE * SIGNER_SLASH / 10_000;
        vm.assertEq(stakes.stakeOf(validatorProvider(0)), VALIDATOR_STAKE - fine);
        onlyTheOtherBondIsLeft();
    }

    // --- helpers ---

    function hooked() private view returns (HookedToken) {
        return HookedToken(address(token));
    }

    function arm(bytes memory data) private {
        hooked().arm(address(settlement), data);
    }

    function giveTokensQuietly(address account, uint256 amount) private {
        bytes memory data = hooked().data();
        hooked().disarm();
        giveTokens(account, address(settlement), amount);
        hooked().arm(address(settlement), data);
    }

    function refused(uint256 calls, bytes4 selector) private view {
        vm.assertEq(hooked().calls(), calls);
        vm.assertEq(hooked().successes(), 0);
        // forge-lint: disable-next-line(unsafe-typecast)
        vm.assertEq(bytes32(bytes4(hooked().lastRefusal())), bytes32(selector));
    }

    function answerCall(uint256 disputeId, Epoch memory epoch) private view returns (bytes memory) {
        return abi.encodeCall(
            settlement.answerReceipt,
            (disputeId, postedOf(epoch), leafOf(epoch, 1), leafOf(epoch, 0), epoch.receipts[1])
        );
    }

    function badEpoch() private view returns (Epoch memory) {
        IReceiptSettlement.SignedReceipt[] memory receipts = someReceipts(poolId, 1, 3, 2, 100);
        receipts[0].counterSignature = receipts[1].counterSignature;
        return buildEpoch(noEpoch(poolId), receipts);
    }

    function onlyTheOtherBondIsLeft() private view {
        vm.assertEq(token.balanceOf(address(settlement)), BOND);
    }
}
