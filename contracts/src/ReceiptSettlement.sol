// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IComputePool} from "./interfaces/IComputePool.sol";
import {IPrimeNetwork} from "./interfaces/IPrimeNetwork.sol";
import {IReceiptSettlement} from "./interfaces/IReceiptSettlement.sol";
import {IRewardsDistributor} from "./interfaces/IRewardsDistributor.sol";

/// @title Implementation of IReceiptSettlement, which describes the behaviour
/// @dev Two roots a pool are enough: epoch e may be posted only when e-1 is claimable, so roots live
/// in two slots by the parity of their epoch and posting e overwrites e-2. Whichever of the two is
/// claimable and newer serves claims; nothing has to be "finalised" by a transaction.
///
/// There is no dispute by proof yet. What guards a payout is the validators' quorum, the pool's
/// budget, and a federator's cancellation within the window.
contract ReceiptSettlement is IReceiptSettlement, EIP712 {
    bytes32 private constant EPOCH_ROOT_TYPEHASH = keccak256(
        "EpochRoot(uint256 poolId,uint64 epoch,bytes32 receiptsRoot,bytes32 payoutsRoot,uint256 totalPayout,bytes32 dataHash)"
    );
    bytes32 private constant RECEIPT_TYPEHASH = keccak256(
        "Receipt(bytes32 jobId,address worker,uint256 poolId,uint32 stage,uint32 seq,address counterparty,uint64 epoch,uint128 units,bytes32 commitment)"
    );

    IPrimeNetwork public immutable network;
    IComputePool public immutable pools;
    IRewardsDistributor public immutable distributor;
    /// @notice Seconds between posting a root and the first claim on it.
    uint64 public immutable challengeWindow;

    /// @inheritdoc IReceiptSettlement
    uint16 public quorum;
    /// @inheritdoc IReceiptSettlement
    mapping(uint256 poolId => mapping(address account => uint256)) public claimed;

    mapping(uint256 poolId => uint64) private _lastEpoch;
    mapping(uint256 poolId => SettledRoot[2]) private _roots;
    mapping(uint256 poolId => bytes32) private _lastDigest;
    mapping(bytes32 digest => bool) private _cancelled;

    constructor(
        IPrimeNetwork network_,
        IComputePool pools_,
        IRewardsDistributor distributor_,
        uint16 quorum_,
        uint64 challengeWindow_
    ) EIP712("PrimeNode", "1") {
        network = network_;
        pools = pools_;
        distributor = distributor_;
        challengeWindow = challengeWindow_;
        _setQuorum(quorum_);
    }

    modifier onlyFederator() {
        if (!network.isFederator(msg.sender)) revert NotFederator(msg.sender);
        _;
    }

    /// @inheritdoc IReceiptSettlement
    function postRoot(EpochRoot calldata root, bytes[] calldata signatures) external {
        uint256 poolId = root.poolId;
        if (pools.poolState(poolId) == IComputePool.PoolState.NONE) revert UnknownPool(poolId);
        uint64 last = _lastEpoch[poolId];
        if (root.epoch != last + 1) revert WrongEpoch(root.epoch, last + 1);
        SettledRoot storage previous = _roots[poolId][last & 1];
        if (block.timestamp < previous.claimableAt) revert RootPending(previous.claimableAt);
        if (root.totalPayout < previous.totalPayout) {
            revert TotalPayoutFell(root.totalPayout, previous.totalPayout);
        }
        bytes32 digest = rootDigest(root);
        if (_cancelled[digest]) revert RootWasCancelled(digest);
        _checkQuorum(digest, signatures);

        uint64 claimableAt = uint64(block.timestamp) + challengeWindow;
        _lastEpoch[poolId] = root.epoch;
        _lastDigest[poolId] = digest;
        _roots[poolId][root.epoch & 1] = SettledRoot(
            root.epoch,
            claimableAt,
            SafeCast.toUint128(root.totalPayout),
            root.receiptsRoot,
            root.payoutsRoot
        );
        emit RootPosted(
            poolId,
            root.epoch,
            root.receiptsRoot,
            root.payoutsRoot,
            root.totalPayout,
            root.dataHash,
            claimableAt
        );
        distributor.commit(poolId, root.totalPayout);
    }

    /// @inheritdoc IReceiptSettlement
    function cancelRoot(uint256 poolId) external onlyFederator {
        uint64 last = _lastEpoch[poolId];
        if (block.timestamp >= _roots[poolId][last & 1].claimableAt) revert NoPendingRoot(poolId);
        _cancelled[_lastDigest[poolId]] = true;
        delete _roots[poolId][last & 1];
        _lastEpoch[poolId] = last - 1;
        emit RootCancelled(poolId, last, msg.sender);
        distributor.commit(poolId, _roots[poolId][(last - 1) & 1].totalPayout);
    }

    /// @inheritdoc IReceiptSettlement
    function claim(uint256 poolId, address account, uint256 cumulative, bytes32[] calldata proof)
        external
    {
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(account, cumulative))));
        SettledRoot storage root = _claimable(poolId);
        if (root.epoch == 0 || !MerkleProof.verifyCalldata(proof, root.payoutsRoot, leaf)) {
            revert InvalidProof();
        }
        uint256 before = claimed[poolId][account];
        if (cumulative <= before) revert NothingToClaim(poolId, account);
        claimed[poolId][account] = cumulative;
        emit Claimed(poolId, account, cumulative - before, cumulative);
        // All or nothing: where the purse cannot pay in full, this reverts and nothing is consumed.
        distributor.pay(poolId, account, cumulative - before);
    }

    /// @inheritdoc IReceiptSettlement
    function setQuorum(uint16 quorum_) external onlyFederator {
        _setQuorum(quorum_);
    }

    /// @inheritdoc IReceiptSettlement
    function latestRoot(uint256 poolId) external view returns (SettledRoot memory) {
        return _claimable(poolId);
    }

    /// @inheritdoc IReceiptSettlement
    function pendingRoot(uint256 poolId) external view returns (SettledRoot memory pending) {
        SettledRoot memory newest = _roots[poolId][_lastEpoch[poolId] & 1];
        if (block.timestamp < newest.claimableAt) return newest;
    }

    /// @inheritdoc IReceiptSettlement
    function nextEpoch(uint256 poolId) external view returns (uint64) {
        return _lastEpoch[poolId] + 1;
    }

    /// @inheritdoc IReceiptSettlement
    function verifyReceipt(
        Receipt calldata receipt,
        bytes calldata workerSignature,
        bytes calldata counterSignature
    ) external view returns (bool) {
        if (receipt.worker == receipt.counterparty) return false;
        bytes32 digest = receiptDigest(receipt);
        return _signedBy(receipt.worker, digest, workerSignature)
            && _signedBy(receipt.counterparty, digest, counterSignature);
    }

    /// @inheritdoc IReceiptSettlement
    function rootDigest(EpochRoot calldata root) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(EPOCH_ROOT_TYPEHASH, root)));
    }

    /// @inheritdoc IReceiptSettlement
    function receiptDigest(Receipt calldata receipt) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(RECEIPT_TYPEHASH, receipt)));
    }

    function _setQuorum(uint16 quorum_) private {
        if (quorum_ == 0) revert InvalidQuorum();
        quorum = quorum_;
        emit QuorumChanged(quorum_);
    }

    function _checkQuorum(bytes32 digest, bytes[] calldata signatures) private view {
        if (signatures.length < quorum) revert QuorumNotMet(signatures.length, quorum);
        address previous = address(0);
        for (uint256 i = 0; i < signatures.length; ++i) {
            (address signer,,) = ECDSA.tryRecoverCalldata(digest, signatures[i]);
            if (signer == address(0)) revert MalformedSignature(i);
            if (signer <= previous) revert SignersNotAscending(signer, previous);
            if (!network.isValidator(signer)) revert NotValidator(signer);
            previous = signer;
        }
    }

    /// @dev Before the first epoch this is the empty slot 0, whose epoch is 0.
    function _claimable(uint256 poolId) private view returns (SettledRoot storage) {
        uint64 last = _lastEpoch[poolId];
        SettledRoot storage newest = _roots[poolId][last & 1];
        return block.timestamp >= newest.claimableAt ? newest : _roots[poolId][(last - 1) & 1];
    }

    function _signedBy(address account, bytes32 digest, bytes calldata signature)
        private
        pure
        returns (bool)
    {
        (address signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
        return signer != address(0) && signer == account;
    }
}
