// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {IStakeManager} from "src/interfaces/IStakeManager.sol";
import {PrimeToken} from "src/PrimeToken.sol";
import {FeeToken, HookToken, Puppet} from "../utils/OddTokens.sol";
import {Fixture} from "../utils/Fixture.sol";

/// @notice A token that takes a fee on transfer is refused at deposit.
contract FeeTokenTest is Fixture {
    function setUp() public override {
        // Without the fixture's validators: they could not stake.
        vm.warp(START);
    }

    function test_stakes_and_budgets_are_refused() public {
        vm.expectRevert(
            abi.encodeWithSelector(
                IStakeManager.StakeNotReceived.selector, VALIDATOR_STAKE * 99 / 100, VALIDATOR_STAKE
            )
        );
        this.deploy();
    }

    function deploy() external {
        super.setUp();
    }

    function newToken() internal override returns (PrimeToken) {
        return new FeeToken(address(this));
    }
}

/// @notice A token that calls back in the middle of transfers gains nobody anything.
contract HookTokenTest is Fixture {
    Puppet private puppet;

    function setUp() public override {
        super.setUp();
        puppet = new Puppet();
    }

    /// @dev Both stakes are booked, each against tokens that came.
    function test_staking_while_staking() public {
        registerProvider(PROVIDER, BASE_STAKE);
        vm.prank(address(puppet));
        token.approve(address(network), BASE_STAKE);
        token.mint(address(puppet), BASE_STAKE);
        giveTokens(PROVIDER, address(network), 7);
        arm(address(network), abi.encodeCall(network.registerProvider, (BASE_STAKE)), true);
        vm.prank(PROVIDER);
        network.increaseStake(7);
        vm.assertTrue(hook().succeeded());
        vm.assertEq(stakes.stakeOf(address(puppet)), BASE_STAKE);
        vm.assertEq(stakes.stakeOf(PROVIDER), BASE_STAKE + 7);
        vm.assertEq(token.balanceOf(address(stakes)), stakes.totalActive());
    }

    function test_withdrawing_twice() public {
        registerProvider(address(puppet), BASE_STAKE);
        vm.prank(address(puppet));
        stakes.unstake(BASE_STAKE);
        vm.warp(START + UNBONDING);
        for (uint256 i = 0; i < 2; i++) {
            uint256 snapshot = vm.snapshotState();
            arm(address(stakes), abi.encodeCall(stakes.withdraw, ()), i == 0);
            vm.prank(address(puppet));
            stakes.withdraw();
            vm.assertFalse(hook().succeeded());
            vm.assertEq(token.balanceOf(address(puppet)), BASE_STAKE);
            vm.assertTrue(vm.revertToState(snapshot));
        }
    }

    function test_claiming_time_or_the_rest_twice() public {
        uint256 poolId = activePool(address(0), 1_000, IRewardsDistributor.Strategy.FIXED, 1);
        registeredNode();
        joinOpen(poolId, NODE);
        vm.warp(START + 10);
        for (uint256 i = 0; i < 2; i++) {
            uint256 snapshot = vm.snapshotState();
            arm(address(pools), abi.encodeCall(pools.claimTime, (poolId, PROVIDER)), i == 0);
            vm.assertEq(pools.claimTime(poolId, PROVIDER), 50);
            vm.assertFalse(hook().succeeded());
            vm.assertEq(token.balanceOf(address(purse)), 950);
            vm.assertEq(purse.totalHeld(), 950);
            vm.assertTrue(vm.revertToState(snapshot));
        }
    }

    /// @dev Funding from within a payment is booked against tokens that came, not against those going.
    function test_funding_while_paying() public {
        uint256 poolId = activePool(address(0), 1_000, IRewardsDistributor.Strategy.FIXED, 1);
        registeredNode();
        joinOpen(poolId, NODE);
        vm.warp(START + 10);
        token.mint(address(puppet), 30);
        vm.prank(address(puppet));
        token.approve(address(pools), 30);
        arm(address(pools), abi.encodeCall(pools.fund, (poolId, 30)), true);
        pools.claimTime(poolId, PROVIDER);
        vm.assertTrue(hook().succeeded());
        vm.assertEq(purse.bookOf(poolId).funded, 1_030);
        vm.assertEq(purse.totalHeld(), 980);
        vm.assertEq(token.balanceOf(address(purse)), 980);
    }

    function arm(address target, bytes memory data, bool early) private {
        address[] memory targets = new address[](1);
        bytes[] memory calls = new bytes[](1);
        (targets[0], calls[0]) = (target, data);
        hook().arm(address(puppet), abi.encodeCall(puppet.act, (targets, calls)), early);
    }

    function hook() private view returns (HookToken) {
        return HookToken(address(token));
    }

    function newToken() internal override returns (PrimeToken) {
        return new HookToken(address(this));
    }
}
