// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputePool} from "src/interfaces/IComputePool.sol";
import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {HandlerState} from "./HandlerState.sol";

/// @notice The handler's actions on pools. Pools 1 (work), 3 and 4 (time) end now and then.
abstract contract HandlerPools is HandlerState {
    function join(uint256 which, uint256 pool) external rising {
        uint256 poolId = 1 + pool % POOLS;
        address node = nodes[which % NODES];
        (address provider,,, bool active,) = registry.nodeOf(node);
        if (provider == address(0) || active || pools.isEjected(poolId, node)) return;
        if (pools.poolState(poolId) != IComputePool.PoolState.ACTIVE) return;
        if (registry.isBlacklisted(provider)) return;
        if (stakes.stakeOf(provider) < stakes.requiredStake(provider)) return;
        bytes memory invite = signInvite(INVITER_KEY, poolId, node, block.timestamp);
        vm.prank(which % 2 == 0 ? node : provider);
        pools.join(poolId, node, block.timestamp, invite);
        done["join"]++;
    }

    function leave(uint256 which) external rising {
        address node = nodes[which % NODES];
        (,,, bool active, uint256 poolId) = registry.nodeOf(node);
        if (!active) return;
        vm.prank(node);
        pools.leave(poolId, node);
        done["leave"]++;
    }

    function ejectOrReadmit(uint256 which, uint256 pool) external rising {
        uint256 poolId = 1 + pool % POOLS;
        address node = nodes[which % NODES];
        if (pools.isMember(poolId, node)) {
            vm.prank(CREATOR);
            pools.eject(poolId, node);
            done["eject"]++;
        } else if (pools.isEjected(poolId, node)) {
            vm.prank(CREATOR);
            pools.readmit(poolId, node);
            done["readmit"]++;
        }
    }

    function fundPool(uint256 pool, uint96 amount) external rising {
        uint256 poolId = 1 + pool % POOLS;
        if (pools.poolState(poolId) == IComputePool.PoolState.COMPLETED) return;
        uint256 sum = 1 + amount % 10 ether;
        fund(poolId, sum);
        fundedNet[poolId] += sum;
        done["fund"]++;
    }

    function endPool(uint256 pool) external rising {
        uint256 poolId = 1 + pool % (4 * POOLS);
        if (poolId > POOLS || poolId == 2) return;
        if (pools.poolState(poolId) != IComputePool.PoolState.ACTIVE) return;
        vm.prank(CREATOR);
        pools.end(poolId);
        done["end"]++;
    }

    function reclaim(uint256 pool) external rising {
        uint256 poolId = 1 + pool % POOLS;
        IComputePool.Pool memory info = pools.poolInfo(poolId);
        if (info.state != IComputePool.PoolState.COMPLETED) return;
        if (block.timestamp < info.endedAt + RECLAIM_DELAY) return;
        uint256 owed = owedBy(poolId);
        if (owed >= fundedNet[poolId]) return;
        vm.prank(CREATOR);
        pools.reclaim(poolId);
        fundedNet[poolId] = owed;
        done["reclaim"]++;
    }

    function claimTime(uint256 pool, uint256 who) external rising {
        uint256 poolId = WORK_POOLS + 1 + pool % (POOLS - WORK_POOLS);
        address account = parties[who % PARTIES];
        IRewardsDistributor.Book memory book = purse.bookOf(poolId);
        bool share = book.strategy == IRewardsDistributor.Strategy.SHARE;
        if (share && pools.poolState(poolId) != IComputePool.PoolState.COMPLETED) return;
        uint256 mine = pools.unitSeconds(poolId, account);
        uint256 due = share && mine != 0
            ? book.funded * mine / pools.totalUnitSeconds(poolId)
            : book.rate * mine;
        uint256 before = purse.paidForTime(poolId, account);
        vm.assertGe(due, before, "paid more than was earned");
        uint256 left = book.funded - book.paid;
        uint256 amount = due - before < left ? due - before : left;
        if (amount == 0) return;
        vm.assertEq(pools.claimTime(poolId, account), amount, "time paid");
        done["claimTime"]++;
    }

    function owedBy(uint256 poolId) private view returns (uint256) {
        if (poolId <= WORK_POOLS) return promised[poolId];
        uint256 unitSeconds = pools.totalUnitSeconds(poolId);
        IRewardsDistributor.Book memory book = purse.bookOf(poolId);
        if (book.strategy == IRewardsDistributor.Strategy.FIXED) return book.rate * unitSeconds;
        return unitSeconds == 0 ? 0 : book.funded;
    }
}
