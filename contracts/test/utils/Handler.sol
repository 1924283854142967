// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputePool} from "src/interfaces/IComputePool.sol";
import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Fixture} from "./Fixture.sol";
import {Merkle} from "./Merkle.sol";

/// @notice What the invariant tests do: every entry point, by three providers with two nodes each,
/// in three pools. An action whose precondition does not hold does nothing, so no call may revert:
/// what reverts under its precondition is a bug. It starts with all staked and registered, since short
/// sequences would hardly get there by chance.
contract Handler is Fixture {
    uint256 public constant POOLS = 3;
    uint256 public constant PROVIDERS = 3;
    uint256 public constant NODES = 6;
    uint256 private constant MAX_ROOT = 5 ether;

    /// @dev Everything ever staked, less what was withdrawn.
    uint256 public stakedNet;
    /// @dev Everything ever paid into a pool, less what its creator took back.
    mapping(uint256 poolId => uint256) public fundedNet;
    /// @dev Rewards by the roots posted, those cancelled overwritten.
    mapping(uint256 poolId => mapping(uint64 epoch => uint256[PROVIDERS])) private _rewards;

    constructor() {
        setUp();
        for (uint256 i = 0; i < POOLS; i++) {
            uint256 budget = 100 ether;
            fundedNet[activePool(i == 0 ? address(0) : vm.addr(INVITER_KEY), budget)] = budget;
        }
        for (uint256 i = 0; i < PROVIDERS; i++) {
            registerProvider(provider(i), 1_000 ether);
            stakedNet += 1_000 ether;
            registerNode(provider(i), nodeKey(2 * i), 3);
            registerNode(provider(i), nodeKey(2 * i + 1), 4);
        }
    }

    /// @dev Rewards and the epochs that pay them only ever rise, whatever happens.
    modifier rising() {
        uint256[PROVIDERS][POOLS] memory claimed;
        uint64[POOLS] memory epochs;
        uint128[POOLS] memory totals;
        for (uint256 p = 0; p < POOLS; p++) {
            epochs[p] = settlement.latestRoot(p + 1).epoch;
            totals[p] = settlement.latestRoot(p + 1).totalPayout;
            for (uint256 i = 0; i < PROVIDERS; i++) {
                claimed[p][i] = settlement.claimed(p + 1, provider(i));
            }
        }
        _;
        for (uint256 p = 0; p < POOLS; p++) {
            vm.assertGe(settlement.latestRoot(p + 1).epoch, epochs[p], "epoch fell");
            vm.assertGe(settlement.latestRoot(p + 1).totalPayout, totals[p], "total fell");
            for (uint256 i = 0; i < PROVIDERS; i++) {
                vm.assertGe(settlement.claimed(p + 1, provider(i)), claimed[p][i], "claimed fell");
            }
        }
    }

    function provider(uint256 index) public pure returns (address) {
        address[PROVIDERS] memory providers = [address(0xAAA0), address(0xAAA1), address(0xAAA2)];
        return providers[index % PROVIDERS];
    }

    function node(uint256 index) public pure returns (address) {
        return vm.addr(nodeKey(index));
    }

    function pass(uint16 time) external rising {
        vm.warp(block.timestamp + uint256(time) * 8);
    }

    function stake(uint256 who, uint96 amount) external rising {
        address account = provider(who);
        uint256 sum = 1 + amount % 100 ether;
        giveTokens(account, address(network), sum);
        vm.prank(account);
        network.increaseStake(sum);
        stakedNet += sum;
    }

    function unstake(uint256 who, uint96 amount) external rising {
        address account = provider(who);
        uint256 required = stakes.requiredStake(account);
        uint256 held = stakes.stakeOf(account);
        if (held <= required) return;
        vm.prank(account);
        stakes.unstake(1 + amount % (held - required));
    }

    function withdraw(uint256 who) external rising {
        (uint256 amount, uint64 releaseTime) = stakes.unbondingOf(provider(who));
        if (amount == 0 || block.timestamp < releaseTime) return;
        stakedNet -= amount;
        vm.prank(provider(who));
        stakes.withdraw();
    }

    function slash(uint256 who, uint256 validator, uint96 amount) external rising {
        uint256 available = stakes.slashable(provider(who));
        if (available == 0) return;
        vm.prank(vm.addr(validatorKeys[validator % 3]));
        network.slash(provider(who), 1 + amount % available, "");
    }

    function addNode(uint256 which, uint256 who, uint8 units) external rising {
        address account = provider(who);
        (address owner,,,,) = registry.nodeOf(node(which));
        (, uint64 held,) = registry.providerOf(account);
        uint32 added = 1 + units % 16;
        if (owner != address(0)) return;
        if (stakes.stakeOf(account) < stakes.minimumStake(held + added)) return;
        registerNode(account, nodeKey(which), added);
    }

    function removeNode(uint256 which) external rising {
        (address owner,,, bool active,) = registry.nodeOf(node(which));
        if (owner == address(0) || active) return;
        vm.prank(owner);
        network.removeNode(node(which));
    }

    function join(uint256 which, uint256 pool) external rising {
        uint256 poolId = 1 + pool % POOLS;
        address member = node(which);
        (address owner,,, bool active,) = registry.nodeOf(member);
        if (owner == address(0) || active || pools.isEjected(poolId, member)) return;
        if (pools.poolState(poolId) != IComputePool.PoolState.ACTIVE) return;
        if (stakes.stakeOf(owner) < stakes.requiredStake(owner)) return;
        bytes memory invite = signInvite(INVITER_KEY, poolId, member, block.timestamp);
        vm.prank(which % 2 == 0 ? member : owner);
        pools.join(poolId, member, block.timestamp, invite);
    }

    function leave(uint256 which) external rising {
        (,,, bool active, uint256 poolId) = registry.nodeOf(node(which));
        if (!active) return;
        vm.prank(node(which));
        pools.leave(poolId, node(which));
    }

    function ejectOrReadmit(uint256 which, uint256 pool) external rising {
        uint256 poolId = 1 + pool % POOLS;
        if (pools.isMember(poolId, node(which))) {
            vm.prank(CREATOR);
            pools.eject(poolId, node(which));
        } else if (pools.isEjected(poolId, node(which))) {
            vm.prank(CREATOR);
            pools.readmit(poolId, node(which));
        }
    }

    function fundPool(uint256 pool, uint96 amount) external rising {
        uint256 poolId = 1 + pool % POOLS;
        if (pools.poolState(poolId) == IComputePool.PoolState.COMPLETED) return;
        uint256 sum = 1 + amount % 100 ether;
        fund(poolId, sum);
        fundedNet[poolId] += sum;
    }

    /// @dev The first pool ends now and then; the others go on.
    function endOrReclaim(uint256 pool) external rising {
        if (pool % 3 != 0) return;
        IComputePool.Pool memory info = pools.poolInfo(1);
        (uint256 funded, uint256 committed,) = purse.accountOf(1);
        if (info.state == IComputePool.PoolState.ACTIVE) {
            vm.prank(CREATOR);
            pools.end(1);
            return;
        }
        if (block.timestamp < info.endedAt + RECLAIM_DELAY || funded == committed) return;
        vm.prank(CREATOR);
        pools.reclaim(1);
        fundedNet[1] -= funded - committed;
    }

    function postRoot(uint256 pool, uint96[PROVIDERS] calldata added) external rising {
        uint256 poolId = 1 + pool % POOLS;
        if (settlement.pendingRoot(poolId).epoch != 0) return;
        uint64 epoch = settlement.nextEpoch(poolId);
        uint256[PROVIDERS] memory rewards = _rewards[poolId][epoch - 1];
        uint256 total = 0;
        for (uint256 i = 0; i < PROVIDERS; i++) {
            rewards[i] += added[i] % MAX_ROOT;
            total += rewards[i];
        }
        if (total > fundedNet[poolId]) return;
        _rewards[poolId][epoch] = rewards;
        IReceiptSettlement.EpochRoot memory root =
            epochRoot(poolId, epoch, Merkle.root(leavesOf(rewards)), total);
        // A root that was cancelled is dead; its data hash makes the next one another.
        root.dataHash = keccak256(abi.encode(block.timestamp, added));
        settlement.postRoot(root, signRoot(root, QUORUM));
    }

    function cancelRoot(uint256 pool) external rising {
        uint256 poolId = 1 + pool % POOLS;
        if (settlement.pendingRoot(poolId).epoch != 0) settlement.cancelRoot(poolId);
    }

    function claim(uint256 pool) external rising {
        uint256 poolId = 1 + pool % POOLS;
        uint256[PROVIDERS] memory rewards = _rewards[poolId][settlement.latestRoot(poolId).epoch];
        bytes32[] memory leaves = leavesOf(rewards);
        for (uint256 i = 0; i < PROVIDERS; i++) {
            if (rewards[i] <= settlement.claimed(poolId, provider(i))) continue;
            settlement.claim(poolId, provider(i), rewards[i], Merkle.proof(leaves, i));
        }
    }

    function leavesOf(uint256[PROVIDERS] memory rewards)
        private
        pure
        returns (bytes32[] memory leaves)
    {
        leaves = new bytes32[](PROVIDERS);
        for (uint256 i = 0; i < PROVIDERS; i++) {
            leaves[i] = Merkle.payoutLeaf(provider(i), rewards[i]);
        }
    }

    function nodeKey(uint256 index) private pure returns (uint256) {
        return 0xBBB0 + index % NODES;
    }
}
