// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IComputePool} from "./interfaces/IComputePool.sol";
import {IComputeRegistry} from "./interfaces/IComputeRegistry.sol";
import {IDomainRegistry} from "./interfaces/IDomainRegistry.sol";
import {IPrimeNetwork} from "./interfaces/IPrimeNetwork.sol";
import {IRewardsDistributor} from "./interfaces/IRewardsDistributor.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {Text} from "./libraries/Text.sol";

/// @title Implementation of IComputePool, which describes the behaviour
/// @dev No administrator: every rule is fixed at deployment. An invite names pool, node, nonce and
/// deadline and the nonce is used up by joining, so an invite admits once. It holds no tokens; a
/// pool's money is in RewardsDistributor.
contract ComputePool is IComputePool, EIP712 {
    using SafeERC20 for IERC20;

    /// @param joinedAt Unix seconds when the present membership began; 0 for no member.
    /// @param pastSeconds Active time of earlier memberships.
    struct Membership {
        uint64 joinedAt;
        uint64 pastSeconds;
        bool ejected;
        uint64 inviteNonce;
    }

    /// @dev Compute units over time: `unitSeconds` up to `since`, and `units` ever since.
    struct Capacity {
        uint64 units;
        uint64 since;
        uint128 unitSeconds;
    }

    bytes32 private constant POOL_INVITE_TYPEHASH =
        keccak256("PoolInvite(uint256 poolId,address node,uint256 nonce,uint256 deadline)");

    IERC20 public immutable token;
    IStakeManager public immutable stakeManager;
    IComputeRegistry public immutable computeRegistry;
    IDomainRegistry public immutable domainRegistry;
    IRewardsDistributor public immutable distributor;
    /// @notice Seconds between a pool's end and the creator's right to the rest of its budget.
    uint64 public immutable reclaimDelay;

    /// @notice Number of pools; also the latest id.
    uint256 public poolCount;
    mapping(uint256 poolId => Pool) private _pools;
    mapping(uint256 poolId => mapping(address node => Membership)) private _memberships;
    mapping(uint256 poolId => Capacity) private _capacities;
    mapping(uint256 poolId => mapping(address provider => Capacity)) private _providers;

    constructor(
        IERC20 token_,
        IPrimeNetwork network,
        IRewardsDistributor distributor_,
        uint64 reclaimDelay_
    ) EIP712("PrimeNode", "1") {
        token = token_;
        stakeManager = network.stakeManager();
        computeRegistry = network.computeRegistry();
        domainRegistry = network.domainRegistry();
        distributor = distributor_;
        reclaimDelay = reclaimDelay_;
    }

    modifier onlyCreator(uint256 poolId) {
        if (msg.sender != _pools[poolId].creator) revert NotCreator(msg.sender);
        _;
    }

    /// @inheritdoc IComputePool
    function createPool(NewPool calldata wanted) external returns (uint256 poolId) {
        Text.checkName(wanted.name);
        Text.checkUri(wanted.uri);
        address settlement = domainRegistry.domainOf(wanted.domainId).validationLogic;
        poolId = ++poolCount;
        Pool storage pool = _pools[poolId];
        pool.creator = msg.sender;
        pool.state = PoolState.PENDING;
        pool.createdAt = uint64(block.timestamp);
        pool.inviter = wanted.inviter;
        pool.domainId = wanted.domainId;
        pool.settlement = settlement;
        pool.name = wanted.name;
        pool.uri = wanted.uri;
        emit PoolCreated(
            poolId, wanted.domainId, msg.sender, wanted.inviter, wanted.name, wanted.uri
        );
        distributor.open(poolId, wanted.strategy, settlement, wanted.rate);
    }

    /// @inheritdoc IComputePool
    function fund(uint256 poolId, uint256 amount) external {
        PoolState state = _pools[poolId].state;
        if (state != PoolState.PENDING && state != PoolState.ACTIVE) {
            revert WrongPoolState(poolId, state);
        }
        emit PoolFunded(poolId, msg.sender, amount);
        token.safeTransferFrom(msg.sender, address(distributor), amount);
        distributor.deposit(poolId, amount);
    }

    /// @inheritdoc IComputePool
    function start(uint256 poolId) external onlyCreator(poolId) {
        Pool storage pool = _inState(poolId, PoolState.PENDING);
        pool.state = PoolState.ACTIVE;
        pool.startedAt = uint64(block.timestamp);
        emit PoolStarted(poolId);
    }

    /// @inheritdoc IComputePool
    function end(uint256 poolId) external onlyCreator(poolId) {
        Pool storage pool = _inState(poolId, PoolState.ACTIVE);
        pool.state = PoolState.COMPLETED;
        pool.endedAt = uint64(block.timestamp);
        emit PoolEnded(poolId);
    }

    /// @inheritdoc IComputePool
    function reclaim(uint256 poolId) external onlyCreator(poolId) {
        uint256 from = uint256(_inState(poolId, PoolState.COMPLETED).endedAt) + reclaimDelay;
        if (block.timestamp < from) revert ReclaimTooEarly(from);
        emit PoolReclaimed(
            poolId, distributor.release(poolId, msg.sender, totalUnitSeconds(poolId))
        );
    }

    /// @inheritdoc IComputePool
    function claimTime(uint256 poolId, address provider) external returns (uint256 amount) {
        return distributor.payTime(
            poolId,
            provider,
            unitSeconds(poolId, provider),
            totalUnitSeconds(poolId),
            _pools[poolId].state == PoolState.COMPLETED
        );
    }

    /// @inheritdoc IComputePool
    function join(uint256 poolId, address node, uint256 deadline, bytes calldata inviteSignature)
        external
    {
        Pool storage pool = _inState(poolId, PoolState.ACTIVE);
        Membership storage membership = _memberships[poolId][node];
        (address provider, uint32 computeUnits) = _callerControls(node);
        if (membership.ejected) revert NodeEjected(poolId, node);
        if (computeRegistry.isBlacklisted(provider)) revert ProviderBlacklisted(provider);
        uint256 stake = stakeManager.stakeOf(provider);
        uint256 minimum = stakeManager.requiredStake(provider);
        if (stake < minimum) revert StakeBelowMinimum(stake, minimum);
        if (pool.inviter != address(0)) {
            _useInvite(pool.inviter, poolId, node, deadline, inviteSignature);
        }

        membership.joinedAt = uint64(block.timestamp);
        pool.memberCount += 1;
        pool.computeUnits += computeUnits;
        _tick(_capacities[poolId], poolId).units += computeUnits;
        _tick(_providers[poolId][provider], poolId).units += computeUnits;
        emit NodeJoined(poolId, node, provider);
        computeRegistry.enterPool(node, poolId);
    }

    /// @inheritdoc IComputePool
    function leave(uint256 poolId, address node) external {
        (address provider, uint32 computeUnits) = _callerControls(node);
        _remove(poolId, node, provider, computeUnits, false);
    }

    /// @inheritdoc IComputePool
    function eject(uint256 poolId, address node) external onlyCreator(poolId) {
        (address provider, uint32 computeUnits,,,) = computeRegistry.nodeOf(node);
        _memberships[poolId][node].ejected = true;
        _remove(poolId, node, provider, computeUnits, true);
    }

    /// @inheritdoc IComputePool
    function readmit(uint256 poolId, address node) external onlyCreator(poolId) {
        if (!_memberships[poolId][node].ejected) revert NodeNotEjected(poolId, node);
        _memberships[poolId][node].ejected = false;
        emit NodeReadmitted(poolId, node);
    }

    /// @inheritdoc IComputePool
    function poolInfo(uint256 poolId) external view returns (Pool memory) {
        return _pools[poolId];
    }

    /// @inheritdoc IComputePool
    function poolState(uint256 poolId) external view returns (PoolState) {
        return _pools[poolId].state;
    }

    /// @inheritdoc IComputePool
    function creatorOf(uint256 poolId) external view returns (address) {
        return _pools[poolId].creator;
    }

    /// @inheritdoc IComputePool
    function isMember(uint256 poolId, address node) public view returns (bool) {
        return _memberships[poolId][node].joinedAt != 0;
    }

    /// @inheritdoc IComputePool
    function isEjected(uint256 poolId, address node) external view returns (bool) {
        return _memberships[poolId][node].ejected;
    }

    /// @inheritdoc IComputePool
    function inviteNonce(uint256 poolId, address node) external view returns (uint256) {
        return _memberships[poolId][node].inviteNonce;
    }

    /// @inheritdoc IComputePool
    function activeSeconds(uint256 poolId, address node) public view returns (uint64) {
        Membership memory membership = _memberships[poolId][node];
        if (membership.joinedAt == 0) return membership.pastSeconds;
        return membership.pastSeconds + _clock(poolId) - membership.joinedAt;
    }

    /// @inheritdoc IComputePool
    function unitSeconds(uint256 poolId, address provider) public view returns (uint256) {
        return _upToNow(_providers[poolId][provider], poolId);
    }

    /// @inheritdoc IComputePool
    function totalUnitSeconds(uint256 poolId) public view returns (uint256) {
        return _upToNow(_capacities[poolId], poolId);
    }

    function _useInvite(
        address inviter,
        uint256 poolId,
        address node,
        uint256 deadline,
        bytes calldata signature
    ) private {
        if (block.timestamp > deadline) revert InviteExpired(deadline);
        uint256 nonce = _memberships[poolId][node].inviteNonce++;
        bytes32 digest = _hashTypedDataV4(
            keccak256(abi.encode(POOL_INVITE_TYPEHASH, poolId, node, nonce, deadline))
        );
        (address signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (signer != inviter) revert InvalidInvite(inviter);
    }

    function _remove(
        uint256 poolId,
        address node,
        address provider,
        uint32 computeUnits,
        bool ejected
    ) private {
        if (!isMember(poolId, node)) revert NotMember(poolId, node);
        uint64 total = activeSeconds(poolId, node);
        Membership storage membership = _memberships[poolId][node];
        membership.pastSeconds = total;
        membership.joinedAt = 0;
        _pools[poolId].memberCount -= 1;
        _pools[poolId].computeUnits -= computeUnits;
        _tick(_capacities[poolId], poolId).units -= computeUnits;
        _tick(_providers[poolId][provider], poolId).units -= computeUnits;
        emit NodeLeft(poolId, node, total, ejected);
        computeRegistry.exitPool(node);
    }

    /// @dev Now, or when the pool's clock stopped.
    function _clock(uint256 poolId) private view returns (uint64) {
        uint64 endedAt = _pools[poolId].endedAt;
        return endedAt == 0 ? uint64(block.timestamp) : endedAt;
    }

    function _upToNow(Capacity storage capacity, uint256 poolId) private view returns (uint256) {
        uint256 elapsed = _clock(poolId) - capacity.since;
        return capacity.units == 0
            ? capacity.unitSeconds
            : capacity.unitSeconds + capacity.units * elapsed;
    }

    function _tick(Capacity storage capacity, uint256 poolId) private returns (Capacity storage) {
        capacity.unitSeconds = SafeCast.toUint128(_upToNow(capacity, poolId));
        capacity.since = _clock(poolId);
        return capacity;
    }

    function _inState(uint256 poolId, PoolState wanted) private view returns (Pool storage pool) {
        pool = _pools[poolId];
        if (pool.state != wanted) revert WrongPoolState(poolId, pool.state);
    }

    function _callerControls(address node)
        private
        view
        returns (address provider, uint32 computeUnits)
    {
        (provider, computeUnits,,,) = computeRegistry.nodeOf(node);
        if (provider == address(0)) revert IComputeRegistry.UnknownNode(node);
        if (msg.sender != node && msg.sender != provider) revert NotProviderOrNode(msg.sender);
    }
}
