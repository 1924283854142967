// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRewardsDistributor} from "./IRewardsDistributor.sol";

/// @title Compute pools
/// @notice A pool gathers nodes for one creator's work: PENDING -> ACTIVE -> COMPLETED. Nodes join
/// and leave while it is active; a pool with an inviter asks for the inviter's signature, one
/// without is open to every node whose provider's stake suffices. A node is in at most one pool.
/// How it rewards (IRewardsDistributor.Strategy) and who settles its work are fixed at creation.
interface IComputePool {
    enum PoolState {
        NONE,
        PENDING,
        ACTIVE,
        COMPLETED
    }

    /// @param creator Who starts, ends and funds it, and may eject.
    /// @param state NONE for an id that was never created.
    /// @param createdAt Unix seconds, as `startedAt` and `endedAt`; 0 while it has not happened.
    /// @param inviter Whose signature admits nodes; zero in a permissionless pool.
    /// @param memberCount Number of member nodes now.
    /// @param computeUnits Their declared capacity now.
    /// @param domainId What kind of work it does.
    /// @param settlement The contract that settles its work: its domain's when it was created.
    struct Pool {
        address creator;
        PoolState state;
        uint64 createdAt;
        address inviter;
        uint64 startedAt;
        uint32 memberCount;
        uint64 endedAt;
        uint64 computeUnits;
        uint256 domainId;
        address settlement;
        string name;
        string uri;
    }

    /// @notice What a pool is created with.
    /// @param domainId An existing domain.
    /// @param name 1 to 64 bytes.
    /// @param uri Where the pool is described, at most 512 bytes.
    /// @param inviter Whose signature admits nodes, or zero for a permissionless pool.
    /// @param rate Wei of the token; see IRewardsDistributor.Strategy.
    struct NewPool {
        uint256 domainId;
        string name;
        string uri;
        address inviter;
        IRewardsDistributor.Strategy strategy;
        uint88 rate;
    }

    event PoolCreated(
        uint256 indexed poolId,
        uint256 indexed domainId,
        address indexed creator,
        address inviter,
        string name,
        string uri
    );
    event PoolFunded(uint256 indexed poolId, address indexed from, uint256 amount);
    event PoolStarted(uint256 indexed poolId);
    event PoolEnded(uint256 indexed poolId);
    event PoolReclaimed(uint256 indexed poolId, uint256 amount);
    event NodeJoined(uint256 indexed poolId, address indexed node, address indexed provider);
    /// @param activeSeconds All of the node's active time in this pool so far.
    event NodeLeft(
        uint256 indexed poolId, address indexed node, uint64 activeSeconds, bool ejected
    );
    event NodeReadmitted(uint256 indexed poolId, address indexed node);

    error WrongPoolState(uint256 poolId, PoolState state);
    error NotCreator(address caller);
    error NotProviderOrNode(address caller);
    error NotMember(uint256 poolId, address node);
    /// @notice The node was ejected; the creator can readmit it.
    error NodeEjected(uint256 poolId, address node);
    error NodeNotEjected(uint256 poolId, address node);
    /// @notice The provider must stake more before its nodes can join.
    error StakeBelowMinimum(uint256 stake, uint256 minimum);
    error InviteExpired(uint256 deadline);
    /// @notice The signature is not the inviter's over the invite with its present nonce.
    error InvalidInvite(address inviter);
    /// @notice Too early; try again at `from` (Unix seconds).
    error ReclaimTooEarly(uint256 from);
    error ProviderBlacklisted(address provider);

    /// @notice Creates a pool of the caller's; ids count from 1.
    function createPool(NewPool calldata pool) external returns (uint256 poolId);

    /// @notice Adds to a pool's budget; approve the tokens to this contract first. Anyone may fund a
    /// pool that has not ended.
    function fund(uint256 poolId, uint256 amount) external;

    /// @notice Opens the pool for nodes. Creator only.
    function start(uint256 poolId) external;

    /// @notice Stops the clock of active time for good. Members then leave by themselves. Creator
    /// only.
    function end(uint256 poolId) external;

    /// @notice Pays what no reward root has claimed back to the creator, a while after the end, so
    /// that the last epochs can be settled first. Creator only.
    function reclaim(uint256 poolId) external;

    /// @notice Pays a provider what its nodes' time in a FIXED or SHARE pool has earned. Anyone may
    /// call; as often as one likes.
    function claimTime(uint256 poolId, address provider) external returns (uint256 amount);

    /// @notice Puts a node into an active pool. The node or its provider may call.
    /// @param deadline Unix seconds after which the invite no longer counts.
    /// @param inviteSignature 65 bytes r, s, v by the inviter over EIP-712
    /// PoolInvite(uint256 poolId,address node,uint256 nonce,uint256 deadline), where nonce is
    /// inviteNonce(poolId, node). Ignored, and may be empty, in a permissionless pool.
    function join(uint256 poolId, address node, uint256 deadline, bytes calldata inviteSignature)
        external;

    /// @notice Takes a node out of its pool. The node or its provider may call, at any time.
    function leave(uint256 poolId, address node) external;

    /// @notice Takes a node out and bars it from joining again. Creator only.
    function eject(uint256 poolId, address node) external;

    /// @notice Lifts an ejection. Creator only.
    function readmit(uint256 poolId, address node) external;

    /// @notice A pool's record; all zero, state NONE, when it does not exist.
    function poolInfo(uint256 poolId) external view returns (Pool memory);

    function poolState(uint256 poolId) external view returns (PoolState);
    function creatorOf(uint256 poolId) external view returns (address);
    function isMember(uint256 poolId, address node) external view returns (bool);
    function isEjected(uint256 poolId, address node) external view returns (bool);

    /// @notice Number of invites that the node has used in this pool; the nonce of the next one.
    function inviteNonce(uint256 poolId, address node) external view returns (uint256);

    /// @notice Seconds that a node has been a member while the pool was active, up to now.
    function activeSeconds(uint256 poolId, address node) external view returns (uint64);

    /// @notice Compute units times seconds of membership of all of a provider's nodes, up to now or
    /// the pool's end.
    function unitSeconds(uint256 poolId, address provider) external view returns (uint256);

    /// @notice The same, of all providers.
    function totalUnitSeconds(uint256 poolId) external view returns (uint256);
}
