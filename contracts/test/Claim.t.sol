// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {Fixture} from "./utils/Fixture.sol";
import {Merkle} from "./utils/Merkle.sol";

/// @notice ReceiptSettlement.claim, and the purse behind it.
contract ClaimTest is Fixture {
    uint256 private constant BUDGET = 1_000 ether;
    bytes32[] private noProof;
    uint256 private poolId;

    function setUp() public override {
        super.setUp();
        poolId = activePool(address(0), BUDGET);
    }

    function test_pays_the_account_whoever_calls() public {
        settle(1, NODE, 10 ether);
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.Claimed(poolId, NODE, 10 ether, 10 ether);
        vm.prank(STRANGER);
        settlement.claim(poolId, NODE, 10 ether, noProof);
        vm.assertEq(token.balanceOf(NODE), 10 ether);
        vm.assertEq(token.balanceOf(STRANGER), 0);
        vm.assertEq(settlement.claimed(poolId, NODE), 10 ether);
        (,, uint256 paid) = purse.accountOf(poolId);
        vm.assertEq(paid, 10 ether);
    }

    function test_later_claims_pay_the_difference_and_skipped_epochs_cost_nothing() public {
        settle(1, NODE, 10 ether);
        settlement.claim(poolId, NODE, 10 ether, noProof);
        settle(2, NODE, 15 ether);
        settle(3, NODE, 22 ether);
        settlement.claim(poolId, NODE, 22 ether, noProof);
        vm.assertEq(token.balanceOf(NODE), 22 ether);
        vm.assertEq(settlement.claimed(poolId, NODE), 22 ether);
    }

    function test_nothing_is_paid_twice() public {
        settle(1, NODE, 10 ether);
        settlement.claim(poolId, NODE, 10 ether, noProof);
        bytes memory refusal =
            abi.encodeWithSelector(IReceiptSettlement.NothingToClaim.selector, poolId, NODE);
        vm.expectRevert(refusal);
        settlement.claim(poolId, NODE, 10 ether, noProof);
        settle(2, NODE, 10 ether);
        vm.expectRevert(refusal);
        settlement.claim(poolId, NODE, 10 ether, noProof);
    }

    function test_refuses_what_the_root_does_not_say() public {
        refuse(NODE, 0, noProof);
        settle(1, NODE, 10 ether);
        refuse(NODE, 11 ether, noProof);
        refuse(STRANGER, 10 ether, noProof);
        bytes32[] memory extra = new bytes32[](1);
        refuse(NODE, 10 ether, extra);
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.InvalidProof.selector));
        settlement.claim(poolId + 1, NODE, 10 ether, noProof);
    }

    function test_refuses_before_the_window_has_passed() public {
        postSingle(poolId, 1, NODE, 10 ether);
        refuse(NODE, 10 ether, noProof);
        vm.warp(START + WINDOW);
        postSingle(poolId, 2, NODE, 20 ether);
        refuse(NODE, 20 ether, noProof);
        settlement.claim(poolId, NODE, 10 ether, noProof);
    }

    function test_an_outdated_leaf_no_longer_counts() public {
        settle(1, NODE, 10 ether);
        settle(2, NODE, 20 ether);
        refuse(NODE, 10 ether, noProof);
    }

    function test_leaves_beyond_the_total_are_not_consumed() public {
        // A root that lies about its sum: 10 ether promised, a leaf of 11.
        IReceiptSettlement.EpochRoot memory root =
            epochRoot(poolId, 1, Merkle.payoutLeaf(NODE, 11 ether), 10 ether);
        settlement.postRoot(root, signRoot(root, 2));
        vm.warp(START + WINDOW);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRewardsDistributor.PaymentExceedsCommitment.selector, 11 ether, 10 ether
            )
        );
        settlement.claim(poolId, NODE, 11 ether, noProof);
        vm.assertEq(settlement.claimed(poolId, NODE), 0);
    }

    function test_pools_do_not_share_a_purse() public {
        uint256 poor = activePool(address(0), 1 ether);
        IReceiptSettlement.EpochRoot memory root =
            epochRoot(poor, 1, Merkle.payoutLeaf(NODE, 2 ether), 2 ether);
        bytes[] memory signatures = signRoot(root, 2);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRewardsDistributor.CommitmentExceedsFunds.selector, 2 ether, 1 ether
            )
        );
        settlement.postRoot(root, signatures);
    }

    function test_the_purse_obeys_only_its_roles() public {
        bytes32 settlementRole = purse.SETTLEMENT_ROLE();
        bytes32 poolRole = purse.POOL_ROLE();
        vm.expectRevert(missingRole(address(this), settlementRole));
        purse.pay(poolId, address(this), 1);
        vm.expectRevert(missingRole(address(this), settlementRole));
        purse.commit(poolId, 1);
        vm.expectRevert(missingRole(address(this), poolRole));
        purse.deposit(poolId, 1);
        vm.expectRevert(missingRole(address(this), poolRole));
        purse.release(poolId, address(this));
    }

    function test_the_purse_keeps_its_limits_against_its_own_role_holders() public {
        settle(1, NODE, 10 ether);
        settlement.claim(poolId, NODE, 10 ether, noProof);
        purse.grantRole(purse.SETTLEMENT_ROLE(), address(this));
        purse.grantRole(purse.POOL_ROLE(), address(this));
        vm.expectRevert(
            abi.encodeWithSelector(
                IRewardsDistributor.CommitmentBelowPaid.selector, 9 ether, 10 ether
            )
        );
        purse.commit(poolId, 9 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.PaymentExceedsCommitment.selector, 1, 0)
        );
        purse.pay(poolId, address(this), 1);
        uint256 held = token.balanceOf(address(purse));
        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.FundsNotReceived.selector, held, held + 1)
        );
        purse.deposit(poolId, 1);
    }

    /// @dev Any number of accounts, any rewards: each is paid its leaf, in any order, and all
    /// together exactly the total.
    function testFuzz_every_leaf_is_paid_once(uint64[] calldata rewards, uint256 first) public {
        uint256 count = rewards.length % 33 + 1;
        bytes32[] memory leaves = new bytes32[](count);
        uint256[] memory amounts = new uint256[](count);
        uint256 total = 0;
        for (uint256 i = 0; i < count; i++) {
            amounts[i] = i < rewards.length ? uint256(rewards[i]) + 1 : 1;
            leaves[i] = Merkle.payoutLeaf(account(i), amounts[i]);
            total += amounts[i];
        }
        IReceiptSettlement.EpochRoot memory root = epochRoot(poolId, 1, Merkle.root(leaves), total);
        settlement.postRoot(root, signRoot(root, 2));
        vm.warp(START + WINDOW);
        for (uint256 i = 0; i < count; i++) {
            uint256 leaf = addmod(first, i, count);
            bytes32[] memory proof = Merkle.proof(leaves, leaf);
            refuse(account(leaf), amounts[leaf] + 1, proof);
            settlement.claim(poolId, account(leaf), amounts[leaf], proof);
            vm.assertEq(token.balanceOf(account(leaf)), amounts[leaf]);
        }
        (, uint256 committed, uint256 paid) = purse.accountOf(poolId);
        vm.assertEq(paid, committed);
    }

    function account(uint256 index) private pure returns (address) {
        return vm.addr(0xACC0000 + index);
    }

    function settle(uint64 epoch, address to, uint256 cumulative) private {
        postSingle(poolId, epoch, to, cumulative);
        vm.warp(block.timestamp + WINDOW);
    }

    function refuse(address to, uint256 cumulative, bytes32[] memory proof) private {
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.InvalidProof.selector));
        settlement.claim(poolId, to, cumulative, proof);
    }
}
