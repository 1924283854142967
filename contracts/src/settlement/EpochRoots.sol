// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IComputePool} from "../interfaces/IComputePool.sol";
import {IComputeRegistry} from "../interfaces/IComputeRegistry.sol";
import {IPrimeNetwork} from "../interfaces/IPrimeNetwork.sol";
import {IReceiptSettlement} from "../interfaces/IReceiptSettlement.sol";
import {IRewardsDistributor} from "../interfaces/IRewardsDistributor.sol";
import {IStakeManager} from "../interfaces/IStakeManager.sol";
import {Leaves} from "../libraries/Leaves.sol";
import {TypedMessages} from "./TypedMessages.sol";

/// @title Epoch roots: posted by quorum, final after their window, claimed against
/// @dev Of a root only one hash is stored, for good: whoever refers to a root brings it, and the
/// event of its posting has all of it. Epoch e can be posted only when e - 1 is final, so at most one
/// root of a pool is pending, and it is the newest.
abstract contract EpochRoots is TypedMessages, AccessManaged {
    uint16 internal constant ONE = 10_000;

    IPrimeNetwork public immutable network;
    IComputePool public immutable pools;
    IRewardsDistributor public immutable distributor;
    IStakeManager public immutable stakeManager;
    IComputeRegistry public immutable computeRegistry;
    /// @inheritdoc IReceiptSettlement
    uint64 public immutable challengeWindow;

    /// @inheritdoc IReceiptSettlement
    uint16 public quorum;
    /// @inheritdoc IReceiptSettlement
    mapping(uint256 poolId => mapping(address account => uint256)) public claimed;
    /// @inheritdoc IReceiptSettlement
    mapping(uint256 poolId => mapping(uint64 epoch => bytes32)) public rootHash;

    mapping(uint256 poolId => PoolEpochs) internal _epochs;
    mapping(bytes32 digest => bool) private _voided;

    constructor(
        address access,
        IPrimeNetwork network_,
        IComputePool pools_,
        IRewardsDistributor distributor_,
        uint64 challengeWindow_,
        uint16 quorum_
    ) AccessManaged(access) {
        network = network_;
        pools = pools_;
        distributor = distributor_;
        stakeManager = network_.stakeManager();
        computeRegistry = network_.computeRegistry();
        challengeWindow = challengeWindow_;
        _setQuorum(quorum_);
    }

    /// @inheritdoc IReceiptSettlement
    function postRoot(EpochRoot calldata root, bytes[] calldata signatures) external {
        PoolEpochs memory last = _epochs[root.poolId];
        if (root.epoch != last.epoch + 1) revert WrongEpoch(root.epoch, last.epoch + 1);
        if (!_isFinal(last)) revert RootNotFinal(last.claimableAt, last.openDisputes);
        _checkAmounts(root, last.totalPayout);
        bytes32 digest = rootDigest(root);
        if (_voided[digest]) revert RootWasVoided(digest);
        address[] memory signers = _checkQuorum(digest, signatures);

        uint48 claimableAt = SafeCast.toUint48(block.timestamp + challengeWindow);
        _epochs[root.poolId] = PoolEpochs(last.epoch + 1, claimableAt, 0, root.totalPayout);
        rootHash[root.poolId][root.epoch] = _hash(digest, keccak256(abi.encode(signers)));
        emit RootPosted(root.poolId, root.epoch, root, signers, claimableAt);
    }

    /// @inheritdoc IReceiptSettlement
    function claim(
        Posted calldata posted,
        address account,
        uint256 cumulative,
        bytes32[] calldata proof
    ) external {
        uint256 poolId = posted.root.poolId;
        _checkPosted(posted);
        if (!isFinal(poolId, posted.root.epoch)) {
            PoolEpochs storage last = _epochs[poolId];
            revert RootNotFinal(last.claimableAt, last.openDisputes);
        }
        if (!Leaves.inPayouts(posted.root.payoutsRoot, account, cumulative, proof)) {
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
    function cancelRoot(Posted calldata posted) external restricted {
        _checkPending(posted);
        _void(posted.root, msg.sender);
    }

    /// @inheritdoc IReceiptSettlement
    function setQuorum(uint16 basisPoints) external restricted {
        _setQuorum(basisPoints);
    }

    /// @inheritdoc IReceiptSettlement
    function epochsOf(uint256 poolId) external view returns (PoolEpochs memory) {
        return _epochs[poolId];
    }

    /// @inheritdoc IReceiptSettlement
    function committed(uint256 poolId) external view returns (uint256) {
        return _epochs[poolId].totalPayout;
    }

    /// @inheritdoc IReceiptSettlement
    function isFinal(uint256 poolId, uint64 epoch) public view returns (bool) {
        if (rootHash[poolId][epoch] == 0) return false;
        PoolEpochs memory last = _epochs[poolId];
        return epoch < last.epoch || _isFinal(last);
    }

    /// @dev The signers of a digest, who must hold the quorum's share of the validators' stake.
    function _checkQuorum(bytes32 digest, bytes[] calldata signatures)
        internal
        view
        returns (address[] memory signers)
    {
        signers = new address[](signatures.length);
        address previous = address(0);
        uint256 weight = 0;
        for (uint256 i = 0; i < signatures.length; ++i) {
            (address signer,,) = ECDSA.tryRecoverCalldata(digest, signatures[i]);
            if (signer == address(0)) revert MalformedSignature(i);
            if (signer <= previous) revert SignersNotAscending(signer, previous);
            // Fewer than 65 rounds: there are no more validators.
            // slither-disable-next-line calls-loop
            uint256 own = network.weightOf(signer);
            if (own == 0) revert NotValidator(signer);
            weight += own;
            signers[i] = signer;
            previous = signer;
        }
        uint256 needed = Math.mulDiv(network.totalWeight(), quorum, ONE, Math.Rounding.Ceil);
        if (weight == 0 || weight < needed) revert QuorumNotMet(weight, needed);
    }

    /// @dev Reverts unless exactly this root stands for its epoch. Returns its hash.
    function _checkPosted(Posted calldata posted) internal view returns (bytes32 hash) {
        hash = _hash(rootDigest(posted.root), posted.signersHash);
        if (rootHash[posted.root.poolId][posted.root.epoch] != hash) {
            revert UnknownRoot(posted.root.poolId, posted.root.epoch);
        }
    }

    /// @dev As _checkPosted, and reverts where the root is final.
    function _checkPending(Posted calldata posted) internal view returns (bytes32 hash) {
        hash = _checkPosted(posted);
        if (isFinal(posted.root.poolId, posted.root.epoch)) {
            revert RootIsFinal(posted.root.poolId, posted.root.epoch);
        }
    }

    /// @dev Takes a pending root away; its disputes are moot from now on.
    function _void(EpochRoot calldata root, address by) internal {
        PoolEpochs storage last = _epochs[root.poolId];
        delete rootHash[root.poolId][root.epoch];
        _voided[rootDigest(root)] = true;
        last.epoch -= 1;
        last.claimableAt = 0;
        last.openDisputes = 0;
        last.totalPayout -= root.totalUnits * root.rate;
        emit RootVoided(root.poolId, root.epoch, by);
    }

    function _checkAmounts(EpochRoot calldata root, uint128 before) private view {
        if (root.receiptCount == 0 || root.totalUnits == 0) revert EmptyEpoch();
        IRewardsDistributor.Book memory book = distributor.bookOf(root.poolId);
        if (book.settlement != address(this)) revert NotSettledHere(root.poolId);
        uint256 affordable = (book.funded - before) / root.totalUnits;
        if (affordable == 0) revert NoBudget(root.poolId);
        // Anyone may add to a short budget between signing and posting; a tenth less is right, too.
        bool fair = root.rate == book.rate || root.rate >= affordable - affordable / 10;
        if (!fair || root.rate > affordable || root.rate > book.rate) {
            revert WrongRate(root.rate, Math.min(book.rate, affordable));
        }
        uint256 total = before + uint256(root.totalUnits) * root.rate;
        if (root.totalPayout != total) revert WrongTotalPayout(root.totalPayout, total);
    }

    function _setQuorum(uint16 basisPoints) private {
        if (basisPoints <= ONE / 2 || basisPoints > ONE) revert InvalidQuorum(basisPoints);
        quorum = basisPoints;
        emit QuorumChanged(basisPoints);
    }

    function _isFinal(PoolEpochs memory last) private view returns (bool) {
        return block.timestamp >= last.claimableAt && last.openDisputes == 0;
    }

    function _hash(bytes32 digest, bytes32 signersHash) private pure returns (bytes32) {
        return keccak256(abi.encode(digest, signersHash));
    }
}
