// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputePool} from "src/interfaces/IComputePool.sol";
import {IComputeRegistry} from "src/interfaces/IComputeRegistry.sol";
import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {Epochs} from "../utils/Epochs.sol";

/// @notice PrimeNetwork.setBlacklisted, and what it bars and what it leaves.
contract BlacklistTest is Epochs {
    function setUp() public override {
        super.setUp();
        registeredNode();
    }

    function test_is_recorded_and_lifted() public {
        vm.expectEmit(address(registry));
        emit IComputeRegistry.ProviderBlacklisted(PROVIDER, true);
        network.setBlacklisted(PROVIDER, true);
        vm.assertTrue(registry.isBlacklisted(PROVIDER));
        network.setBlacklisted(PROVIDER, false);
        vm.assertFalse(registry.isBlacklisted(PROVIDER));
        // A name can be barred before it comes.
        network.setBlacklisted(STRANGER, true);
        registerProvider(STRANGER, BASE_STAKE);
        vm.assertTrue(registry.isBlacklisted(STRANGER));
    }

    function test_bars_from_joining_until_lifted() public {
        uint256 poolId = activePool(address(0), 0);
        network.setBlacklisted(PROVIDER, true);
        vm.expectRevert(abi.encodeWithSelector(IComputePool.ProviderBlacklisted.selector, PROVIDER));
        joinOpen(poolId, NODE);
        network.setBlacklisted(PROVIDER, false);
        joinOpen(poolId, NODE);
    }

    function test_a_member_stays_until_it_leaves_or_is_ejected() public {
        uint256 poolId = activePool(address(0), 0);
        joinOpen(poolId, NODE);
        network.setBlacklisted(PROVIDER, true);
        vm.assertTrue(pools.isMember(poolId, NODE));
        vm.prank(CREATOR);
        pools.eject(poolId, NODE);
        vm.prank(CREATOR);
        pools.readmit(poolId, NODE);
        vm.expectRevert(abi.encodeWithSelector(IComputePool.ProviderBlacklisted.selector, PROVIDER));
        joinOpen(poolId, NODE);
    }

    function test_time_earned_stays_claimable() public {
        uint256 poolId = activePool(address(0), 1 ether, IRewardsDistributor.Strategy.FIXED, 1_000);
        joinOpen(poolId, NODE);
        vm.warp(START + 10);
        network.setBlacklisted(PROVIDER, true);
        vm.prank(NODE);
        pools.leave(poolId, NODE);
        vm.assertEq(pools.claimTime(poolId, PROVIDER), 5 * 10 * 1_000);
    }

    function test_work_done_stays_claimable() public {
        registerWorkers(2);
        uint256 poolId = activePool(address(0), 1 ether);
        Epoch memory epoch = firstEpoch(poolId, 4, 2);
        settle(epoch);
        network.setBlacklisted(workerProvider(0), true);
        claim(epoch, workerProvider(0));
        vm.assertEq(token.balanceOf(workerProvider(0)), paidTo(epoch, workerProvider(0)));
    }

    function test_the_stake_is_not_held_back() public {
        network.setBlacklisted(PROVIDER, true);
        vm.prank(PROVIDER);
        network.removeNode(NODE);
        uint256 stake = stakes.stakeOf(PROVIDER);
        vm.prank(PROVIDER);
        stakes.unstake(stake);
        vm.warp(START + UNBONDING);
        vm.prank(PROVIDER);
        stakes.withdraw();
        vm.assertEq(token.balanceOf(PROVIDER), stake);
    }
}
