// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputePool} from "src/interfaces/IComputePool.sol";
import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {BadSettlement} from "../utils/BadSettlement.sol";
import {Fixture} from "../utils/Fixture.sol";

/// @notice Anyone may create a domain with a settlement of his own. What such a contract can do to
/// its own pools, and that it can do nothing to others.
contract ForeignSettlementTest is Fixture {
    function test_a_settlement_pays_from_its_own_pools_only() public {
        uint256 honest = activePool(address(0), 10 ether);
        BadSettlement bad = new BadSettlement(purse);
        uint256 poolId = poolOf(address(bad));
        bad.say(type(uint256).max);
        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.NotSettlement.selector, address(bad))
        );
        bad.pay(honest, STRANGER, 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRewardsDistributor.PaymentExceedsFunds.selector, 7 ether + 1, 7 ether
            )
        );
        bad.pay(poolId, STRANGER, 7 ether + 1);
        bad.pay(poolId, STRANGER, 7 ether);
        vm.assertEq(purse.totalHeld(), 10 ether);
        vm.assertEq(token.balanceOf(address(purse)), 10 ether);
    }

    function test_a_settlement_that_promises_too_much_keeps_its_own_pools_money() public {
        BadSettlement bad = new BadSettlement(purse);
        uint256 poolId = poolOf(address(bad));
        bad.say(type(uint256).max);
        vm.warp(end(poolId));
        refuseReclaim(poolId);
        bad.say(3 ether);
        vm.prank(CREATOR);
        pools.reclaim(poolId);
        vm.assertEq(token.balanceOf(CREATOR), 4 ether);
    }

    function test_a_settlement_that_denies_its_promise_still_paid_what_it_paid() public {
        BadSettlement bad = new BadSettlement(purse);
        uint256 poolId = poolOf(address(bad));
        bad.say(5 ether);
        bad.pay(poolId, STRANGER, 5 ether);
        bad.say(0);
        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.PaymentExceedsFunds.selector, 1, 0)
        );
        bad.pay(poolId, STRANGER, 1);
        vm.warp(end(poolId));
        vm.prank(CREATOR);
        pools.reclaim(poolId);
        vm.assertEq(token.balanceOf(CREATOR), 2 ether);
        vm.assertEq(purse.bookOf(poolId).funded, 5 ether);
        vm.assertEq(purse.totalHeld(), 0);
    }

    function test_a_settlement_that_reverts_or_reenters_hurts_its_own_pools_only() public {
        BadSettlement bad = new BadSettlement(purse);
        uint256 poolId = poolOf(address(bad));
        uint256 other = activePool(address(0), 1 ether);
        vm.warp(end(poolId));
        end(other);
        bad.refuse();
        vm.expectRevert(bytes("no"));
        vm.prank(CREATOR);
        pools.reclaim(poolId);
        bad.reenter(poolId);
        vm.prank(CREATOR);
        // A view is called as one: what it writes reverts.
        (bool done,) = address(pools).call(abi.encodeCall(pools.reclaim, (poolId)));
        vm.assertFalse(done);
        vm.warp(block.timestamp + RECLAIM_DELAY);
        vm.prank(CREATOR);
        pools.reclaim(other);
        vm.assertEq(token.balanceOf(CREATOR), 1 ether);
    }

    function testFuzz_purse_holds_what_pools_hold(
        uint96[3] calldata budgets,
        uint96[3] calldata promises,
        uint96[3] calldata payments
    ) public {
        uint256 sum = 0;
        for (uint256 i = 0; i < 3; i++) {
            BadSettlement bad = new BadSettlement(purse);
            uint256 poolId = poolOf(address(bad));
            fund(poolId, uint256(budgets[i]) + 1);
            uint256 funded = 7 ether + uint256(budgets[i]) + 1;
            bad.say(promises[i]);
            uint256 paid = 0;
            uint256 limit = promises[i] < funded ? promises[i] : funded;
            if (limit != 0) {
                paid = 1 + payments[i] % limit;
                bad.pay(poolId, STRANGER, paid);
            }
            vm.warp(end(poolId));
            if (limit < funded) {
                vm.prank(CREATOR);
                pools.reclaim(poolId);
            }
            sum += limit - paid;
        }
        vm.assertEq(purse.totalHeld(), sum);
        vm.assertEq(token.balanceOf(address(purse)), sum);
    }

    /// @dev An active pool with 7 ether that pays for work as `logic` says.
    function poolOf(address logic) private returns (uint256 poolId) {
        uint256 domainId = network.createDomain("other", logic, "");
        vm.prank(CREATOR);
        poolId = pools.createPool(
            IComputePool.NewPool(
                domainId, "pool", "", address(0), IRewardsDistributor.Strategy.WORK, 1
            )
        );
        fund(poolId, 7 ether);
        vm.prank(CREATOR);
        pools.start(poolId);
    }

    /// @dev Returns when its rest can be reclaimed.
    function end(uint256 poolId) private returns (uint256) {
        vm.prank(CREATOR);
        pools.end(poolId);
        return block.timestamp + RECLAIM_DELAY;
    }

    function refuseReclaim(uint256 poolId) private {
        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.NothingToRelease.selector, poolId)
        );
        vm.prank(CREATOR);
        pools.reclaim(poolId);
    }
}
