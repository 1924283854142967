// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {Fixture} from "../utils/Fixture.sol";

/// @notice Pools that pay by time: FIXED and SHARE, ComputePool.claimTime and what reclaim leaves.
contract TimeRewardsTest is Fixture {
    uint88 private constant PER_SECOND = 7;
    address private constant OTHER = address(0x0702);
    uint256 private constant LEDGER_NODES = 3;

    /// @dev The ledger that the fuzz tests compare with: kept second by second.
    uint256[2] private earned;
    bool[LEDGER_NODES] private inside;

    function setUp() public override {
        super.setUp();
        registerProvider(PROVIDER, 1_000 ether);
        registerNode(PROVIDER, NODE_KEY, 5);
        registerNode(PROVIDER, 2, 3);
        registerProvider(OTHER, 1_000 ether);
        registerNode(OTHER, 3, 4);
    }

    // --- FIXED ---

    function test_fixed_pays_units_times_seconds_as_often_as_asked() public {
        uint256 poolId = fixedPool(1 ether);
        joinOpen(poolId, NODE);
        vm.warp(START + 100);
        vm.prank(STRANGER);
        vm.assertEq(pools.claimTime(poolId, PROVIDER), 5 * 100 * 7);
        vm.assertEq(token.balanceOf(PROVIDER), 5 * 100 * 7);
        refuseClaim(poolId, PROVIDER);
        vm.warp(START + 101);
        vm.expectEmit(address(purse));
        emit IRewardsDistributor.Paid(poolId, PROVIDER, 35);
        pools.claimTime(poolId, PROVIDER);
        vm.assertEq(purse.paidForTime(poolId, PROVIDER), 5 * 101 * 7);
    }

    function test_fixed_pays_ejected_and_left_nodes_what_they_earned() public {
        uint256 poolId = fixedPool(1 ether);
        joinOpen(poolId, NODE);
        joinOpen(poolId, vm.addr(2));
        vm.warp(START + 10);
        vm.prank(CREATOR);
        pools.eject(poolId, NODE);
        vm.prank(PROVIDER);
        network.removeNode(NODE);
        vm.warp(START + 30);
        vm.prank(PROVIDER);
        pools.leave(poolId, vm.addr(2));
        vm.warp(START + 1_000);
        vm.assertEq(pools.claimTime(poolId, PROVIDER), (5 * 10 + 3 * 30) * 7);
    }

    /// @dev A node that returns with other units earns by those, and only from then on.
    function test_fixed_counts_the_units_of_each_membership() public {
        uint256 poolId = fixedPool(1 ether);
        joinOpen(poolId, NODE);
        vm.warp(START + 10);
        vm.prank(NODE);
        pools.leave(poolId, NODE);
        vm.prank(NODE);
        network.removeNode(NODE);
        registerNode(PROVIDER, NODE_KEY, 50);
        vm.assertEq(pools.unitSeconds(poolId, PROVIDER), 50);
        joinOpen(poolId, NODE);
        vm.warp(START + 12);
        vm.assertEq(pools.unitSeconds(poolId, PROVIDER), 150);
    }

    function test_fixed_owes_what_a_short_budget_cannot_pay() public {
        uint256 poolId = fixedPool(100);
        joinOpen(poolId, NODE);
        vm.warp(START + 10);
        vm.assertEq(pools.claimTime(poolId, PROVIDER), 100);
        refuseClaim(poolId, PROVIDER);
        fund(poolId, 1_000);
        vm.assertEq(pools.claimTime(poolId, PROVIDER), 250);
    }

    function test_fixed_reclaim_leaves_what_is_earned_and_unpaid() public {
        uint256 poolId = fixedPool(1 ether);
        joinOpen(poolId, NODE);
        joinOpen(poolId, vm.addr(3));
        vm.warp(START + 10);
        pools.claimTime(poolId, PROVIDER);
        end(poolId);
        vm.warp(START + 10 + RECLAIM_DELAY);
        vm.prank(CREATOR);
        pools.reclaim(poolId);
        vm.assertEq(token.balanceOf(CREATOR), 1 ether - 9 * 10 * 7);
        vm.assertEq(pools.claimTime(poolId, OTHER), 4 * 10 * 7);
        refuseClaim(poolId, OTHER);
        vm.assertEq(token.balanceOf(address(purse)), 0);
    }

    function test_fixed_reclaims_nothing_of_a_budget_that_is_all_owed() public {
        uint256 poolId = fixedPool(100);
        joinOpen(poolId, NODE);
        vm.warp(START + 10);
        end(poolId);
        vm.warp(START + 10 + RECLAIM_DELAY);
        refuseReclaim(poolId);
        vm.assertEq(pools.claimTime(poolId, PROVIDER), 100);
    }

    // --- SHARE ---

    function test_share_divides_the_budget_after_the_end() public {
        uint256 poolId = sharePool(900);
        joinOpen(poolId, NODE);
        joinOpen(poolId, vm.addr(3));
        vm.warp(START + 10);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRewardsDistributor.WrongStrategy.selector, IRewardsDistributor.Strategy.SHARE
            )
        );
        pools.claimTime(poolId, PROVIDER);
        end(poolId);
        vm.warp(START + 99);
        vm.assertEq(pools.claimTime(poolId, PROVIDER), 500);
        vm.assertEq(pools.claimTime(poolId, OTHER), 400);
        refuseClaim(poolId, OTHER);
        refuseClaim(poolId, STRANGER);
    }

    function test_share_keeps_everything_for_those_who_were_there() public {
        uint256 poolId = sharePool(1 ether);
        joinOpen(poolId, NODE);
        vm.warp(START + 1);
        end(poolId);
        vm.warp(START + 1 + RECLAIM_DELAY);
        refuseReclaim(poolId);
        pools.claimTime(poolId, PROVIDER);
        refuseReclaim(poolId);
    }

    function test_share_returns_all_where_nobody_was_there() public {
        uint256 poolId = sharePool(1 ether);
        // There for no second at all.
        joinOpen(poolId, NODE);
        end(poolId);
        refuseClaim(poolId, PROVIDER);
        vm.warp(START + RECLAIM_DELAY);
        vm.prank(CREATOR);
        pools.reclaim(poolId);
        vm.assertEq(token.balanceOf(CREATOR), 1 ether);
        refuseReclaim(poolId);
        refuseClaim(poolId, PROVIDER);
    }

    function test_work_pools_pay_no_time() public {
        uint256 poolId = activePool(address(0), 1 ether);
        joinOpen(poolId, NODE);
        vm.warp(START + 1);
        bytes memory refusal = abi.encodeWithSelector(
            IRewardsDistributor.WrongStrategy.selector, IRewardsDistributor.Strategy.WORK
        );
        vm.expectRevert(refusal);
        pools.claimTime(poolId, PROVIDER);
        vm.expectRevert(refusal);
        pools.claimTime(99, PROVIDER);
    }

    // --- against the ledger ---

    function testFuzz_fixed_follows_the_ledger(uint8[24] calldata actions, uint16 budget) public {
        uint256 poolId = fixedPool(1 + uint256(budget));
        uint256[2] memory paid;
        uint256 funded = 1 + uint256(budget);
        for (uint256 i = 0; i < actions.length; i++) {
            live(poolId, actions[i]);
            uint256 who = i % 2;
            if (actions[i] % 5 == 0) {
                fund(poolId, 1_000);
                funded += 1_000;
            }
            uint256 due = earned[who] * PER_SECOND - paid[who];
            uint256 left = funded - paid[0] - paid[1];
            uint256 amount = due < left ? due : left;
            if (amount == 0) refuseClaim(poolId, account(who));
            else vm.assertEq(pools.claimTime(poolId, account(who)), amount);
            paid[who] += amount;
            checkSeconds(poolId);
        }
        end(poolId);
        vm.warp(block.timestamp + RECLAIM_DELAY);
        uint256 owed = (earned[0] + earned[1]) * PER_SECOND;
        if (owed >= funded) {
            refuseReclaim(poolId);
        } else {
            vm.prank(CREATOR);
            pools.reclaim(poolId);
            vm.assertEq(token.balanceOf(CREATOR), funded - owed);
            funded = owed;
        }
        claimRest(poolId);
        vm.assertEq(token.balanceOf(PROVIDER) + token.balanceOf(OTHER), funded);
        vm.assertEq(token.balanceOf(address(purse)), 0);
    }

    function testFuzz_share_follows_the_ledger(uint8[24] calldata actions, uint96 budget) public {
        uint256 funded = 1 + uint256(budget);
        uint256 poolId = sharePool(funded);
        for (uint256 i = 0; i < actions.length; i++) {
            live(poolId, actions[i]);
        }
        end(poolId);
        vm.warp(block.timestamp + RECLAIM_DELAY);
        checkSeconds(poolId);
        uint256 total = earned[0] + earned[1];
        if (total != 0) {
            refuseReclaim(poolId);
            claimRest(poolId);
        }
        for (uint256 who = 0; who < 2; who++) {
            uint256 share = total == 0 ? 0 : funded * earned[who] / total;
            vm.assertEq(token.balanceOf(account(who)), share);
        }
        // At most a wei for each account is lost to rounding.
        if (total != 0) vm.assertLe(purse.totalHeld(), 1, "all but the rounding");
    }

    // --- helpers ---

    /// @dev Some seconds pass, in the ledger too; then a node joins or leaves.
    function live(uint256 poolId, uint8 action) private {
        uint256[LEDGER_NODES] memory units = [uint256(5), 3, 4];
        for (uint256 second = 0; second < action % 16; second++) {
            for (uint256 i = 0; i < LEDGER_NODES; i++) {
                if (inside[i]) earned[i / 2] += units[i];
            }
        }
        vm.warp(block.timestamp + action % 16);
        uint256 which = (action / 16) % 4;
        if (which == LEDGER_NODES) return;
        address[LEDGER_NODES] memory nodes = [NODE, vm.addr(2), vm.addr(3)];
        if (inside[which]) {
            vm.prank(nodes[which]);
            pools.leave(poolId, nodes[which]);
        } else {
            joinOpen(poolId, nodes[which]);
        }
        inside[which] = !inside[which];
    }

    function checkSeconds(uint256 poolId) private view {
        vm.assertEq(pools.unitSeconds(poolId, PROVIDER), earned[0]);
        vm.assertEq(pools.unitSeconds(poolId, OTHER), earned[1]);
        vm.assertEq(pools.totalUnitSeconds(poolId), earned[0] + earned[1]);
    }

    function claimRest(uint256 poolId) private {
        for (uint256 who = 0; who < 2; who++) {
            try pools.claimTime(poolId, account(who)) {} catch {}
        }
    }

    function account(uint256 who) private pure returns (address) {
        return who == 0 ? PROVIDER : OTHER;
    }

    function fixedPool(uint256 budget) private returns (uint256) {
        return activePool(address(0), budget, IRewardsDistributor.Strategy.FIXED, PER_SECOND);
    }

    function sharePool(uint256 budget) private returns (uint256) {
        return activePool(address(0), budget, IRewardsDistributor.Strategy.SHARE, 0);
    }

    function end(uint256 poolId) private {
        vm.prank(CREATOR);
        pools.end(poolId);
    }

    function refuseClaim(uint256 poolId, address provider) private {
        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.NothingToClaim.selector, poolId, provider)
        );
        pools.claimTime(poolId, provider);
    }

    function refuseReclaim(uint256 poolId) private {
        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.NothingToRelease.selector, poolId)
        );
        vm.prank(CREATOR);
        pools.reclaim(poolId);
    }
}
