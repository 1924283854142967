// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStakeManager} from "src/interfaces/IStakeManager.sol";
import {StakeManager} from "src/StakeManager.sol";
import {Fixture} from "./utils/Fixture.sol";

/// @notice StakeManager.unstake and withdraw, and its constructor's checks.
contract StakeTest is Fixture {
    uint256 private constant STAKE = 400 ether;

    function setUp() public override {
        super.setUp();
        registerProvider(PROVIDER, STAKE);
    }

    function test_unstaked_tokens_wait_and_then_return() public {
        vm.expectEmit(address(stakes));
        emit IStakeManager.Unstaked(PROVIDER, 150 ether, START + UNBONDING);
        vm.prank(PROVIDER);
        stakes.unstake(150 ether);
        (uint256 unbonding, uint64 releaseTime) = stakes.unbondingOf(PROVIDER);
        vm.assertEq(unbonding, 150 ether);
        vm.assertEq(stakes.stakeOf(PROVIDER), STAKE - 150 ether);

        vm.warp(releaseTime - 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.StillUnbonding.selector, releaseTime));
        vm.prank(PROVIDER);
        stakes.withdraw();

        vm.warp(releaseTime);
        vm.prank(PROVIDER);
        stakes.withdraw();
        vm.assertEq(token.balanceOf(PROVIDER), 150 ether);
        vm.assertEq(stakes.totalUnbonding(), 0);
        vm.assertEq(stakes.totalActive(), STAKE - 150 ether);

        vm.expectRevert(abi.encodeWithSelector(IStakeManager.NothingUnbonding.selector));
        vm.prank(PROVIDER);
        stakes.withdraw();
    }

    function test_asking_for_more_restarts_the_clock() public {
        vm.prank(PROVIDER);
        stakes.unstake(10 ether);
        vm.warp(START + UNBONDING - 1);
        vm.prank(PROVIDER);
        stakes.unstake(5 ether);
        vm.warp(START + UNBONDING);
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.StillUnbonding.selector, START + 2 * UNBONDING - 1)
        );
        vm.prank(PROVIDER);
        stakes.withdraw();
    }

    function test_what_the_nodes_need_stays() public {
        registerNode(PROVIDER, NODE_KEY, 5);
        uint256 minimum = BASE_STAKE + 5 * UNIT_STAKE;
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.BelowMinimumStake.selector, minimum - 1, minimum)
        );
        vm.prank(PROVIDER);
        stakes.unstake(STAKE - minimum + 1);

        vm.prank(PROVIDER);
        stakes.unstake(STAKE - minimum);
        vm.prank(PROVIDER);
        network.removeNode(NODE);
        vm.prank(PROVIDER);
        stakes.unstake(minimum);
        vm.assertEq(stakes.stakeOf(PROVIDER), 0);
    }

    function test_refuses_nothing_and_too_much() public {
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.ZeroAmount.selector));
        vm.prank(PROVIDER);
        stakes.unstake(0);
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.InsufficientStake.selector, STAKE, STAKE + 1)
        );
        vm.prank(PROVIDER);
        stakes.unstake(STAKE + 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.InsufficientStake.selector, 0, 1));
        vm.prank(STRANGER);
        stakes.unstake(1);
    }

    function test_minimum_grows_with_units() public view {
        vm.assertEq(stakes.minimumStake(0), BASE_STAKE);
        vm.assertEq(stakes.minimumStake(3), BASE_STAKE + 3 * UNIT_STAKE);
        vm.assertEq(stakes.requiredStake(PROVIDER), 0);
    }

    function test_constructor_refuses_bad_terms() public {
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.ZeroAddress.selector));
        new StakeManager(address(this), token, registry, address(0), 0, 0, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.InvalidShare.selector, 10_001));
        new StakeManager(address(this), token, registry, TREASURY, 0, 0, 0, 10_001);
    }
}
