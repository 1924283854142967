// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Settlement of receipts by epoch
/// @notice Work is receipted off chain. Per pool and epoch a quorum of validators signs two Merkle
/// roots: of the epoch's receipts, and of every account's rewards in the pool since its beginning.
/// Rewards being cumulative, an account that claims late misses nothing and its newest leaf is all
/// it needs. A posted root pays after the challenge window; until then a federator can cancel it,
/// and nothing else can be posted for the pool.
interface IReceiptSettlement {
    /// @param epoch Exactly one more than the pool's last; the first is 1.
    /// @param receiptsRoot Merkle root of the receipts' digests.
    /// @param payoutsRoot Merkle root of (account, cumulative reward).
    /// @param totalPayout Sum of the payouts' leaves in wei of the token; never falls.
    /// @param dataHash Content hash under which the leaves are published.
    struct EpochRoot {
        uint256 poolId;
        uint64 epoch;
        bytes32 receiptsRoot;
        bytes32 payoutsRoot;
        uint256 totalPayout;
        bytes32 dataHash;
    }

    /// @param jobId The work unit.
    /// @param worker The node that did it, as `stage` of its group.
    /// @param seq Number of the receipt within the job and stage.
    /// @param counterparty The neighbour that received the output and signs too.
    /// @param units Work done, in the pool's unit.
    /// @param commitment Hash of the stage's evidence.
    struct Receipt {
        bytes32 jobId;
        address worker;
        uint256 poolId;
        uint32 stage;
        uint32 seq;
        address counterparty;
        uint64 epoch;
        uint128 units;
        bytes32 commitment;
    }

    /// @param epoch 0 when there is no such root.
    /// @param claimableAt Unix seconds from which claims verify against it.
    struct SettledRoot {
        uint64 epoch;
        uint64 claimableAt;
        uint128 totalPayout;
        bytes32 receiptsRoot;
        bytes32 payoutsRoot;
    }

    event RootPosted(
        uint256 indexed poolId,
        uint64 indexed epoch,
        bytes32 receiptsRoot,
        bytes32 payoutsRoot,
        uint256 totalPayout,
        bytes32 dataHash,
        uint64 claimableAt
    );
    event RootCancelled(uint256 indexed poolId, uint64 indexed epoch, address indexed by);
    event Claimed(
        uint256 indexed poolId, address indexed account, uint256 amount, uint256 cumulative
    );
    event QuorumChanged(uint16 quorum);

    error InvalidQuorum();
    error NotFederator(address caller);
    error UnknownPool(uint256 poolId);
    error WrongEpoch(uint64 epoch, uint64 expected);
    /// @notice The pool's last root can still be cancelled; post the next one from `claimableAt`.
    error RootPending(uint64 claimableAt);
    error NoPendingRoot(uint256 poolId);
    /// @notice Exactly this root was cancelled before.
    error RootWasCancelled(bytes32 digest);
    error TotalPayoutFell(uint256 total, uint256 previous);
    error QuorumNotMet(uint256 signatures, uint256 quorum);
    /// @notice Signature number `index` does not recover to any address.
    error MalformedSignature(uint256 index);
    /// @notice Signers must be given strictly ascending, so none counts twice.
    error SignersNotAscending(address signer, address previous);
    error NotValidator(address signer);
    error InvalidProof();
    error NothingToClaim(uint256 poolId, address account);

    /// @notice Posts a pool's next root. Anyone may relay it; the signatures decide.
    /// @param signatures 65 bytes r, s, v each, over EIP-712
    /// EpochRoot(uint256 poolId,uint64 epoch,bytes32 receiptsRoot,bytes32 payoutsRoot,
    /// uint256 totalPayout,bytes32 dataHash) (one line, no space after commas); at least `quorum`,
    /// all by validators, strictly ascending by signer address.
    function postRoot(EpochRoot calldata root, bytes[] calldata signatures) external;

    /// @notice Cancels a root that is not claimable yet; its epoch can be posted anew, with another
    /// root. Federators only. This stops a payment and can never make or redirect one.
    function cancelRoot(uint256 poolId) external;

    /// @notice Pays `account` what the latest claimable root grants it beyond its earlier claims.
    /// Anyone may call.
    /// @param cumulative The account's reward in this pool since its beginning.
    /// @param proof Merkle proof of (account, cumulative), leaves as OpenZeppelin's
    /// StandardMerkleTree makes them: keccak256(keccak256(abi.encode(account, cumulative))).
    function claim(uint256 poolId, address account, uint256 cumulative, bytes32[] calldata proof)
        external;

    /// @notice Changes how many validators must sign a root, at least 1. Federators only.
    function setQuorum(uint16 quorum) external;

    function quorum() external view returns (uint16);

    /// @notice Total that `account` has been paid in this pool.
    function claimed(uint256 poolId, address account) external view returns (uint256);

    /// @notice The root that claims verify against now; epoch 0 when there is none.
    function latestRoot(uint256 poolId) external view returns (SettledRoot memory);

    /// @notice The root that waits for its challenge window; epoch 0 when there is none.
    function pendingRoot(uint256 poolId) external view returns (SettledRoot memory);

    /// @notice The epoch that `postRoot` expects next.
    function nextEpoch(uint256 poolId) external view returns (uint64);

    /// @notice Whether both parties signed a receipt: EIP-712
    /// Receipt(bytes32 jobId,address worker,uint256 poolId,uint32 stage,uint32 seq,
    /// address counterparty,uint64 epoch,uint128 units,bytes32 commitment) (one line, no space after
    /// commas). False, too, when worker and counterparty are one.
    function verifyReceipt(
        Receipt calldata receipt,
        bytes calldata workerSignature,
        bytes calldata counterSignature
    ) external view returns (bool);

    /// @notice The EIP-712 digest that validators sign.
    function rootDigest(EpochRoot calldata root) external view returns (bytes32);

    /// @notice The EIP-712 digest that worker and counterparty sign.
    function receiptDigest(Receipt calldata receipt) external view returns (bytes32);
}
