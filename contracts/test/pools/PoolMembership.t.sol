// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputePool} from "src/interfaces/IComputePool.sol";
import {IComputeRegistry} from "src/interfaces/IComputeRegistry.sol";
import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {Fixture} from "../utils/Fixture.sol";

/// @notice ComputePool.join, leave, eject and readmit.
contract PoolMembershipTest is Fixture {
    uint256 private open;
    uint256 private invited;

    function setUp() public override {
        super.setUp();
        registeredNode();
        open = activePool(address(0), 0);
        invited = activePool(vm.addr(INVITER_KEY), 0);
    }

    function test_an_open_pool_takes_any_node() public {
        vm.expectEmit(address(pools));
        emit IComputePool.NodeJoined(open, NODE, PROVIDER);
        vm.prank(NODE);
        pools.join(open, NODE, 0, "");
        vm.assertTrue(pools.isMember(open, NODE));
        vm.assertFalse(pools.isMember(invited, NODE));
        (,,, bool active, uint256 poolId) = registry.nodeOf(NODE);
        vm.assertTrue(active);
        vm.assertEq(poolId, open);
        vm.assertEq(pools.poolInfo(open).memberCount, 1);
        vm.assertEq(pools.poolInfo(open).computeUnits, 5);
    }

    function test_an_invite_admits_node_or_provider_once() public {
        bytes memory invite = signInvite(INVITER_KEY, invited, NODE, START);
        vm.prank(PROVIDER);
        pools.join(invited, NODE, START, invite);
        vm.assertEq(pools.inviteNonce(invited, NODE), 1);
        vm.prank(NODE);
        pools.leave(invited, NODE);

        expectInvalidInvite();
        vm.prank(NODE);
        pools.join(invited, NODE, START, invite);
        invite = signInvite(INVITER_KEY, invited, NODE, START);
        vm.prank(NODE);
        pools.join(invited, NODE, START, invite);
        vm.assertEq(pools.poolInfo(invited).memberCount, 1);
    }

    function test_refuses_invites_that_are_not_this_one() public {
        uint256 third = activePool(vm.addr(INVITER_KEY), 0);
        refuseInvite("");
        refuseInvite(new bytes(65));
        refuseInvite(signInvite(NODE_KEY, invited, NODE, START));
        refuseInvite(signInvite(INVITER_KEY, third, NODE, START));
        refuseInvite(signInvite(INVITER_KEY, invited, STRANGER, START));
        refuseInvite(signInvite(INVITER_KEY, invited, NODE, START + 1));
        bytes memory elsewhere = signInvite(INVITER_KEY, invited, NODE, START);
        vm.chainId(5);
        refuseInvite(elsewhere);
    }

    function test_refuses_a_late_invite() public {
        bytes memory invite = signInvite(INVITER_KEY, invited, NODE, START);
        vm.warp(START + 1);
        vm.expectRevert(abi.encodeWithSelector(IComputePool.InviteExpired.selector, START));
        vm.prank(NODE);
        pools.join(invited, NODE, START, invite);
    }

    function test_only_node_or_provider_joins_and_leaves() public {
        bytes memory refusal =
            abi.encodeWithSelector(IComputePool.NotProviderOrNode.selector, STRANGER);
        vm.expectRevert(refusal);
        vm.prank(STRANGER);
        pools.join(open, NODE, 0, "");
        joinOpen(open, NODE);
        vm.expectRevert(refusal);
        vm.prank(STRANGER);
        pools.leave(open, NODE);
        vm.expectRevert(abi.encodeWithSelector(IComputeRegistry.UnknownNode.selector, STRANGER));
        vm.prank(STRANGER);
        pools.join(open, STRANGER, 0, "");
    }

    function test_a_node_is_in_at_most_one_pool() public {
        joinOpen(open, NODE);
        uint256 second = activePool(address(0), 0);
        bytes memory refusal =
            abi.encodeWithSelector(IComputeRegistry.NodeInPool.selector, NODE, open);
        vm.expectRevert(refusal);
        joinOpen(second, NODE);
        vm.expectRevert(refusal);
        joinOpen(open, NODE);
        vm.assertEq(pools.poolInfo(open).memberCount, 1);
    }

    function test_only_active_pools_take_nodes() public {
        uint256 domainId = network.createDomain("x", address(0), "");
        uint256 pending = pools.createPool(
            IComputePool.NewPool(
                domainId, "pending", "", address(0), IRewardsDistributor.Strategy.SHARE, 0
            )
        );
        vm.expectRevert(wrongState(pending, IComputePool.PoolState.PENDING));
        joinOpen(pending, NODE);
        vm.prank(CREATOR);
        pools.end(open);
        vm.expectRevert(wrongState(open, IComputePool.PoolState.COMPLETED));
        joinOpen(open, NODE);
        vm.expectRevert(wrongState(99, IComputePool.PoolState.NONE));
        joinOpen(99, NODE);
    }

    function test_a_slashed_provider_tops_up_before_joining() public {
        uint256 minimum = BASE_STAKE + 5 * UNIT_STAKE;
        vm.prank(PROVIDER);
        stakes.unstake(minimum);
        access.grantRole(access.SLASHER(), address(this), 0);
        uint256 lost = stakes.slash(PROVIDER, 100, "", address(0));
        vm.expectRevert(
            abi.encodeWithSelector(IComputePool.StakeBelowMinimum.selector, minimum - lost, minimum)
        );
        joinOpen(open, NODE);
        giveTokens(PROVIDER, address(network), lost);
        vm.prank(PROVIDER);
        network.increaseStake(lost);
        joinOpen(open, NODE);
    }

    function test_active_time_adds_up_over_memberships() public {
        joinOpen(open, NODE);
        vm.warp(START + 100);
        vm.assertEq(pools.activeSeconds(open, NODE), 100);
        vm.expectEmit(address(pools));
        emit IComputePool.NodeLeft(open, NODE, 100, false);
        vm.prank(PROVIDER);
        pools.leave(open, NODE);
        vm.assertEq(pools.poolInfo(open).computeUnits, 0);

        vm.warp(START + 500);
        vm.assertEq(pools.activeSeconds(open, NODE), 100);
        joinOpen(open, NODE);
        vm.warp(START + 530);
        vm.prank(CREATOR);
        pools.end(open);
        vm.warp(START + 900);
        vm.assertEq(pools.activeSeconds(open, NODE), 130);
        vm.prank(NODE);
        pools.leave(open, NODE);
        vm.assertEq(pools.activeSeconds(open, NODE), 130);
        vm.assertEq(pools.poolInfo(open).memberCount, 0);
    }

    function test_leaving_a_pool_one_is_not_in_fails() public {
        joinOpen(open, NODE);
        vm.expectRevert(abi.encodeWithSelector(IComputePool.NotMember.selector, invited, NODE));
        vm.prank(NODE);
        pools.leave(invited, NODE);
        vm.expectRevert(abi.encodeWithSelector(IComputePool.NotMember.selector, invited, NODE));
        vm.prank(CREATOR);
        pools.eject(invited, NODE);
        vm.assertFalse(pools.isEjected(invited, NODE));
    }

    function test_the_ejected_stay_out_until_readmitted() public {
        joinOpen(open, NODE);
        vm.expectEmit(address(pools));
        emit IComputePool.NodeLeft(open, NODE, 0, true);
        vm.prank(CREATOR);
        pools.eject(open, NODE);
        vm.assertFalse(pools.isMember(open, NODE));
        vm.assertTrue(pools.isEjected(open, NODE));
        vm.expectRevert(abi.encodeWithSelector(IComputePool.NodeEjected.selector, open, NODE));
        joinOpen(open, NODE);

        vm.prank(CREATOR);
        pools.readmit(open, NODE);
        joinOpen(open, NODE);
        vm.expectRevert(abi.encodeWithSelector(IComputePool.NodeNotEjected.selector, open, NODE));
        vm.prank(CREATOR);
        pools.readmit(open, NODE);
    }

    function test_only_the_inviter_a_pool_was_created_with_admits() public {
        bytes memory invite = signInvite(CREATOR_KEY, invited, NODE, START);
        expectInvalidInvite();
        vm.prank(NODE);
        pools.join(invited, NODE, START, invite);
    }

    /// @dev Memberships at random: time, capacity and counts are the sum of what each node has.
    function testFuzz_counts_add_up(uint8[24] calldata actions) public {
        registerNode(PROVIDER, 2, 3);
        uint256[2] memory joined;
        uint256[2] memory active;
        for (uint256 i = 0; i < actions.length; i++) {
            uint256 which = actions[i] % 2;
            address node = which == 0 ? NODE : vm.addr(2);
            vm.warp(block.timestamp + actions[i]);
            if (joined[which] == 0) {
                joinOpen(open, node);
                joined[which] = block.timestamp;
            } else {
                vm.prank(node);
                pools.leave(open, node);
                active[which] += block.timestamp - joined[which];
                joined[which] = 0;
            }
            uint256 members = (joined[0] == 0 ? 0 : 1) + (joined[1] == 0 ? 0 : 1);
            vm.assertEq(pools.poolInfo(open).memberCount, members);
            uint256 units = (joined[0] == 0 ? 0 : 5) + (joined[1] == 0 ? 0 : 3);
            vm.assertEq(pools.poolInfo(open).computeUnits, units);
        }
        uint256[2] memory total;
        for (uint256 i = 0; i < 2; i++) {
            total[i] = active[i] + (joined[i] == 0 ? 0 : block.timestamp - joined[i]);
        }
        vm.assertEq(pools.activeSeconds(open, NODE), total[0]);
        vm.assertEq(pools.activeSeconds(open, vm.addr(2)), total[1]);
        vm.assertEq(pools.unitSeconds(open, PROVIDER), 5 * total[0] + 3 * total[1]);
        vm.assertEq(pools.totalUnitSeconds(open), 5 * total[0] + 3 * total[1]);
    }

    function refuseInvite(bytes memory invite) private {
        expectInvalidInvite();
        vm.prank(NODE);
        pools.join(invited, NODE, START, invite);
    }

    function expectInvalidInvite() private {
        vm.expectRevert(
            abi.encodeWithSelector(IComputePool.InvalidInvite.selector, vm.addr(INVITER_KEY))
        );
    }
}
