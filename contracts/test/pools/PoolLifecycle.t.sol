// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputePool} from "src/interfaces/IComputePool.sol";
import {IDomainRegistry} from "src/interfaces/IDomainRegistry.sol";
import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {Text} from "src/libraries/Text.sol";
import {Epochs} from "../utils/Epochs.sol";

/// @notice ComputePool.createPool, fund, start, end and reclaim.
contract PoolLifecycleTest is Epochs {
    function test_creation_records_a_pending_pool() public {
        network.createDomain("inference", address(settlement), "");
        vm.expectEmit(address(pools));
        emit IComputePool.PoolCreated(1, 1, CREATOR, address(9), "smol", "ipfs://pool");
        vm.expectEmit(address(purse));
        emit IRewardsDistributor.BookOpened(
            1, IRewardsDistributor.Strategy.WORK, address(settlement), RATE
        );
        vm.prank(CREATOR);
        uint256 poolId = pools.createPool(wanted(1, IRewardsDistributor.Strategy.WORK, RATE));

        vm.assertEq(poolId, 1);
        IComputePool.Pool memory pool = pools.poolInfo(poolId);
        vm.assertTrue(pool.state == IComputePool.PoolState.PENDING);
        vm.assertEq(pool.creator, CREATOR);
        vm.assertEq(pool.inviter, address(9));
        vm.assertEq(pool.domainId, 1);
        vm.assertEq(pool.settlement, address(settlement));
        vm.assertEq(pool.createdAt, START);
        vm.assertEq(pool.startedAt, 0);
        vm.assertEq(pool.name, "smol");
        vm.assertEq(pool.uri, "ipfs://pool");
        vm.assertTrue(pools.poolState(2) == IComputePool.PoolState.NONE);
        IRewardsDistributor.Book memory book = purse.bookOf(poolId);
        vm.assertTrue(book.strategy == IRewardsDistributor.Strategy.WORK);
        vm.assertEq(book.settlement, address(settlement));
        vm.assertEq(book.rate, RATE);
    }

    function test_creation_refuses_unknown_domains_and_bad_text() public {
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.UnknownDomain.selector, 2));
        pools.createPool(wanted(2, IRewardsDistributor.Strategy.WORK, RATE));
        network.createDomain("inference", address(settlement), "");
        IComputePool.NewPool memory pool = wanted(1, IRewardsDistributor.Strategy.WORK, RATE);
        pool.name = "";
        vm.expectRevert(abi.encodeWithSelector(Text.EmptyName.selector));
        pools.createPool(pool);
        pool.name = "x";
        pool.uri = string(new bytes(513));
        vm.expectRevert(abi.encodeWithSelector(Text.TextTooLong.selector, 513, 512));
        pools.createPool(pool);
    }

    function test_rate_and_settlement_fit_the_strategy() public {
        network.createDomain("work", address(settlement), "");
        network.createDomain("time", address(0), "");
        network.createDomain("nobody there", STRANGER, "");
        refuseRate(1, IRewardsDistributor.Strategy.WORK, 0);
        refuseRate(1, IRewardsDistributor.Strategy.FIXED, 0);
        refuseRate(1, IRewardsDistributor.Strategy.SHARE, 1);
        for (uint256 domainId = 2; domainId <= 3; domainId++) {
            vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.NoSettlement.selector));
            pools.createPool(wanted(domainId, IRewardsDistributor.Strategy.WORK, 1));
        }
        vm.assertEq(pools.createPool(wanted(2, IRewardsDistributor.Strategy.FIXED, 1)), 1);
        vm.assertEq(pools.createPool(wanted(2, IRewardsDistributor.Strategy.SHARE, 0)), 2);
        // What pays by time gives a settlement no power.
        vm.assertEq(pools.createPool(wanted(1, IRewardsDistributor.Strategy.SHARE, 0)), 3);
        vm.assertEq(purse.bookOf(3).settlement, address(0));
    }

    /// @dev A second ComputePool with the same role counts from 1, too.
    function test_a_book_is_opened_once() public {
        access.grantRole(access.POOLS(), address(this), 0);
        newPool(address(0), IRewardsDistributor.Strategy.WORK, RATE);
        newPool(address(0), IRewardsDistributor.Strategy.FIXED, RATE);
        newPool(address(0), IRewardsDistributor.Strategy.SHARE, 0);
        for (uint256 poolId = 1; poolId <= 3; poolId++) {
            vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.BookExists.selector, poolId));
            purse.open(poolId, IRewardsDistributor.Strategy.WORK, address(pools), 1);
        }
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
        vm.assertEq(purse.bookOf(poolId).funded, 8 ether);
        vm.assertEq(purse.bookOf(poolId).paid, 0);
        vm.assertEq(purse.totalHeld(), 8 ether);
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
        registerWorkers(1);
        uint256 poolId = activePool(address(0), 10 ether);
        Epoch memory epoch = firstEpoch(poolId, 3, 1);
        settle(epoch);
        uint256 promised = epoch.root.totalPayout;
        vm.expectRevert(wrongState(poolId, IComputePool.PoolState.ACTIVE));
        vm.prank(CREATOR);
        pools.reclaim(poolId);
        uint256 from = end(poolId);
        vm.warp(from - 1);
        vm.expectRevert(abi.encodeWithSelector(IComputePool.ReclaimTooEarly.selector, from));
        vm.prank(CREATOR);
        pools.reclaim(poolId);

        vm.warp(from);
        vm.expectEmit(address(pools));
        emit IComputePool.PoolReclaimed(poolId, 10 ether - promised);
        vm.prank(CREATOR);
        pools.reclaim(poolId);
        vm.assertEq(token.balanceOf(CREATOR), 10 ether - promised);
        refuseReclaim(poolId);
        // What a root has promised stays and is paid.
        claim(epoch, workerProvider(0));
        vm.assertEq(token.balanceOf(workerProvider(0)), promised);
        vm.assertEq(token.balanceOf(address(purse)), 0);
    }

    function test_a_voided_roots_promise_returns_too() public {
        registerWorkers(1);
        uint256 poolId = activePool(address(0), 10 ether);
        end(poolId);
        vm.warp(START + RECLAIM_DELAY);
        Epoch memory epoch = firstEpoch(poolId, 3, 1);
        post(epoch);
        vm.prank(CREATOR);
        pools.reclaim(poolId);
        settlement.cancelRoot(postedOf(epoch));
        vm.prank(CREATOR);
        pools.reclaim(poolId);
        vm.assertEq(token.balanceOf(CREATOR), 10 ether);
        vm.assertEq(purse.totalHeld(), 0);
    }

    /// @dev Payouts may add up to more than the root says; the purse pays what was promised.
    function test_a_root_pays_no_more_than_its_total() public {
        registerWorkers(1);
        uint256 poolId = activePool(address(0), 10 ether);
        Epoch memory epoch = firstEpoch(poolId, 3, 1);
        uint256 promised = epoch.root.totalPayout;
        epoch.cumulative[0] = promised + 1;
        plant(epoch);
        settle(epoch);
        IReceiptSettlement.ProvenPayout memory payout = payoutOf(epoch, workerProvider(0));
        vm.expectRevert(
            abi.encodeWithSelector(
                IRewardsDistributor.PaymentExceedsFunds.selector, promised + 1, promised
            )
        );
        settlement.claim(postedOf(epoch), workerProvider(0), payout.cumulative, payout.proof);
    }

    // --- helpers ---

    function wanted(uint256 domainId, IRewardsDistributor.Strategy strategy, uint88 rate)
        private
        pure
        returns (IComputePool.NewPool memory)
    {
        return IComputePool.NewPool(domainId, "smol", "ipfs://pool", address(9), strategy, rate);
    }

    function refuseRate(uint256 domainId, IRewardsDistributor.Strategy strategy, uint88 rate)
        private
    {
        vm.expectRevert(abi.encodeWithSelector(IRewardsDistributor.InvalidRate.selector, rate));
        pools.createPool(wanted(domainId, strategy, rate));
    }

    function create() private returns (uint256) {
        return newPool(address(0), IRewardsDistributor.Strategy.WORK, RATE);
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
