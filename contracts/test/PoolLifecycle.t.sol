// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputePool} from "src/interfaces/IComputePool.sol";
import {IDomainRegistry} from "src/interfaces/IDomainRegistry.sol";
import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {Text} from "src/libraries/Text.sol";
import {Fixture} from "./utils/Fixture.sol";

/// @notice ComputePool.createPool, fund, start, end and reclaim.
contract PoolLifecycleTest is Fixture {
    function setUp() public override {
        super.setUp();
        network.createDomain("inference", address(0), "");
    }

    function test_creation_records_a_pending_pool() public {
        vm.expectEmit(address(pools));
        emit IComputePool.PoolCreated(1, 1, CREATOR, address(9), "smol", "ipfs://pool");
        vm.prank(CREATOR);
        uint256 poolId = pools.createPool(1, "smol", "ipfs://pool", address(9));

        vm.assertEq(poolId, 1);
        IComputePool.Pool memory pool = pools.poolInfo(poolId);
        vm.assertTrue(pool.state == IComputePool.PoolState.PENDING);
        vm.assertEq(pool.creator, CREATOR);
        vm.assertEq(pool.inviter, address(9));
        vm.assertEq(pool.domainId, 1);
        vm.assertEq(pool.createdAt, START);
        vm.assertEq(pool.startedAt, 0);
        vm.assertEq(pool.name, "smol");
        vm.assertEq(pool.uri, "ipfs://pool");
        vm.assertTrue(pools.poolState(2) == IComputePool.PoolState.NONE);
    }

    function test_creation_refuses_unknown_domains_and_bad_text() public {
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.UnknownDomain.selector, 2));
        pools.createPool(2, "x", "", address(0));
        vm.expectRevert(abi.encodeWithSelector(Text.EmptyName.selector));
        pools.createPool(1, "", "", address(0));
        vm.expectRevert(abi.encodeWithSelector(Text.TextTooLong.selector, 513, 512));
        pools.createPool(1, "x", string(new bytes(513)), address(0));
    }

    function test_states_follow_in_order() public {
        uint256 poolId = create();
        vm.expectRevert(wrongState(poolId, IComputePool.PoolState.PENDING));
        vm.prank(CREATOR);
        pools.end(poolId);

        vm.warp(START + 10);
        vm.expectEmit(address(pools));
        emit IComputePool.PoolStarted(poolId);
        vm.prank(CREATOR);
        pools.start(poolId);
        vm.assertEq(pools.poolInfo(poolId).startedAt, START + 10);
        vm.expectRevert(wrongState(poolId, IComputePool.PoolState.ACTIVE));
        vm.prank(CREATOR);
        pools.start(poolId);

        vm.warp(START + 20);
        vm.expectEmit(address(pools));
        emit IComputePool.PoolEnded(poolId);
        vm.prank(CREATOR);
        pools.end(poolId);
        vm.assertEq(pools.poolInfo(poolId).endedAt, START + 20);
        vm.expectRevert(wrongState(poolId, IComputePool.PoolState.COMPLETED));
        vm.prank(CREATOR);
        pools.end(poolId);
    }

    function test_only_the_creator_decides() public {
        uint256 poolId = create();
        bytes memory refusal =
            abi.encodeWithSelector(IComputePool.NotCreator.selector, address(this));
        vm.expectRevert(refusal);
        pools.start(poolId);
        vm.expectRevert(refusal);
        pools.end(poolId);
        vm.expectRevert(refusal);
        pools.reclaim(poolId);
        vm.expectRevert(refusal);
        pools.eject(poolId, NODE);
        vm.expectRevert(refusal);
        pools.readmit(poolId, NODE);
        vm.expectRevert(refusal);
        pools.start(99);
    }

    function test_anyone_funds_before_the_end() public {
        uint256 poolId = create();
        giveTokens(STRANGER, address(pools), 5 ether);
        vm.expectEmit(address(pools));
        emit IComputePool.PoolFunded(poolId, STRANGER, 5 ether);
        vm.prank(STRANGER);
        pools.fund(poolId, 5 ether);
        vm.prank(CREATOR);
        pools.start(poolId);
        fund(poolId, 3 ether);
        (uint256 funded, uint256 committed, uint256 paid) = purse.accountOf(poolId);
        vm.assertEq(funded, 8 ether);
        vm.assertEq(committed, 0);
        vm.assertEq(paid, 0);
        vm.assertEq(token.balanceOf(address(purse)), 8 ether);

        vm.prank(CREATOR);
        pools.end(poolId);
        vm.expectRevert(wrongState(poolId, IComputePool.PoolState.COMPLETED));
        pools.fund(poolId, 1);
        vm.expectRevert(wrongState(99, IComputePool.PoolState.NONE));
        pools.fund(99, 1);
        vm.expectRevert(wrongState(0, IComputePool.PoolState.NONE));
        pools.fund(0, 1);
    }

    function test_funding_nothing_is_refused() public {
        uint256 poolId = create();
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.ZeroAmount.selector));
        pools.fund(poolId, 0);
    }

    function test_the_rest_returns_after_the_delay() public {
        uint256 poolId = activePool(address(0), 10 ether);
        postSingle(poolId, 1, NODE, 4 ether);
        vm.expectRevert(wrongState(poolId, IComputePool.PoolState.ACTIVE));
        vm.prank(CREATOR);
        pools.reclaim(poolId);
        vm.prank(CREATOR);
        pools.end(poolId);

        uint256 from = START + RECLAIM_DELAY;
        vm.warp(from - 1);
        vm.expectRevert(abi.encodeWithSelector(IComputePool.ReclaimTooEarly.selector, from));
        vm.prank(CREATOR);
        pools.reclaim(poolId);

        vm.warp(from);
        vm.expectEmit(address(pools));
        emit IComputePool.PoolReclaimed(poolId, 6 ether);
        vm.prank(CREATOR);
        pools.reclaim(poolId);
        vm.assertEq(token.balanceOf(CREATOR), 6 ether);

        vm.expectRevert(
            abi.encodeWithSelector(IRewardsDistributor.NothingToRelease.selector, poolId)
        );
        vm.prank(CREATOR);
        pools.reclaim(poolId);
        // What a root has promised stays and is paid.
        settlement.claim(poolId, NODE, 4 ether, new bytes32[](0));
        vm.assertEq(token.balanceOf(NODE), 4 ether);
        vm.assertEq(token.balanceOf(address(purse)), 0);
    }

    function create() private returns (uint256) {
        vm.prank(CREATOR);
        return pools.createPool(1, "pool", "", address(0));
    }
}
