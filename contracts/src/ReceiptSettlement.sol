// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {IComputePool} from "./interfaces/IComputePool.sol";
import {IPrimeNetwork} from "./interfaces/IPrimeNetwork.sol";
import {IReceiptSettlement} from "./interfaces/IReceiptSettlement.sol";
import {IRewardsDistributor} from "./interfaces/IRewardsDistributor.sol";
import {AnswerChecks} from "./settlement/AnswerChecks.sol";
import {EpochRoots} from "./settlement/EpochRoots.sol";

/// @title Implementation of IReceiptSettlement, which describes the behaviour
/// @dev Posting and claiming is in settlement/EpochRoots.sol, what an answer must show in
/// settlement/AnswerChecks.sol; here is who may ask what, and what follows.
contract ReceiptSettlement is AnswerChecks, Multicall {
    using SafeERC20 for IERC20;

    /// @param quorum Basis points of the validators' stake that must sign, more than half.
    /// @param challengeWindow Seconds from posting to finality.
    /// @param answerWindow Seconds for answering a dispute.
    /// @param bond Wei of the token that a dispute costs.
    /// @param signerSlash Basis points of their tokens that signers of a void root lose.
    /// @param convictionSlash Basis points of its tokens that a convicted node's provider loses.
    struct Terms {
        uint16 quorum;
        uint64 challengeWindow;
        uint64 answerWindow;
        uint256 bond;
        uint16 signerSlash;
        uint16 convictionSlash;
    }

    IERC20 public immutable token;
    /// @inheritdoc IReceiptSettlement
    uint64 public immutable answerWindow;
    /// @inheritdoc IReceiptSettlement
    uint256 public immutable bond;
    uint16 public immutable signerSlash;
    uint16 public immutable convictionSlash;

    /// @notice Number of disputes; also the latest id.
    uint256 public disputeCount;
    mapping(uint256 disputeId => Dispute) private _disputes;
    mapping(bytes32 work => bool) private _convicted;

    constructor(
        address access,
        IERC20 token_,
        IPrimeNetwork network_,
        IComputePool pools_,
        IRewardsDistributor distributor_,
        Terms memory terms
    ) EpochRoots(access, network_, pools_, distributor_, terms.challengeWindow, terms.quorum) {
        // Signers must not be able to withdraw their stake before a fault can be proved.
        uint256 exposure = uint256(terms.challengeWindow) + terms.answerWindow;
        if (exposure >= stakeManager.unbondingPeriod()) revert InvalidParameters();
        if (terms.signerSlash > ONE || terms.convictionSlash > ONE) revert InvalidParameters();
        token = token_;
        answerWindow = terms.answerWindow;
        bond = terms.bond;
        signerSlash = terms.signerSlash;
        convictionSlash = terms.convictionSlash;
    }

    /// @inheritdoc IReceiptSettlement
    function disputeReceipt(Posted calldata posted, uint64 index)
        external
        returns (uint256 disputeId)
    {
        if (index >= posted.root.receiptCount) {
            revert NoSuchLeaf(index, posted.root.receiptCount);
        }
        return _open(posted, DisputeKind.RECEIPT, index, 0);
    }

    /// @inheritdoc IReceiptSettlement
    function disputePayout(Posted calldata posted, address account, ProvenPayout calldata payout)
        external
        returns (uint256 disputeId)
    {
        _checkPayout(posted.root.payoutsRoot, account, payout);
        return _open(posted, DisputeKind.PAYOUT, uint160(account), payout.cumulative);
    }

    /// @inheritdoc IReceiptSettlement
    function disputeOmission(
        Posted calldata posted,
        Posted calldata previous,
        address account,
        ProvenPayout calldata payout
    ) external returns (uint256 disputeId) {
        if (payout.cumulative != 0) {
            _checkPrevious(posted, previous);
            _checkPayout(previous.root.payoutsRoot, account, payout);
        }
        return _open(posted, DisputeKind.OMISSION, uint160(account), payout.cumulative);
    }

    /// @inheritdoc IReceiptSettlement
    function answerReceipt(
        uint256 disputeId,
        Posted calldata posted,
        ProvenLeaf calldata disputed,
        ProvenLeaf calldata before,
        SignedReceipt calldata signed
    ) external {
        Dispute memory dispute = _answering(disputeId, posted);
        if (dispute.kind != DisputeKind.RECEIPT) revert InvalidAnswer("kind");
        if (disputed.leaf.index != dispute.subject) revert InvalidAnswer("index");
        _checkLeaf(posted.root, disputed);
        _checkReceipt(posted.root, disputed.leaf, signed);
        _checkChain(posted.root, disputed.leaf, before, signed.receipt.units);
        _close(disputeId, dispute);
    }

    /// @inheritdoc IReceiptSettlement
    function answerPayout(
        uint256 disputeId,
        Posted calldata posted,
        Posted calldata previous,
        PayoutAnswer calldata answer
    ) external {
        Dispute memory dispute = _answering(disputeId, posted);
        if (dispute.kind == DisputeKind.RECEIPT) revert InvalidAnswer("kind");
        address account = address(uint160(dispute.subject));
        uint256 before = answer.previous.cumulative;
        if (before != 0) {
            _checkPrevious(posted, previous);
            _checkPayout(previous.root.payoutsRoot, account, answer.previous);
        }
        uint256 due = before + uint256(_unitsOf(account, posted.root, answer)) * posted.root.rate;
        if (dispute.kind == DisputeKind.PAYOUT) {
            // That leaf, and no other one of the account: there could be two.
            if (due != dispute.amount) revert InvalidAnswer("payout");
        } else {
            if (before < dispute.amount) revert InvalidAnswer("previous payout");
            if (due != answer.payout.cumulative) revert InvalidAnswer("payout");
            if (due != 0) _checkPayout(posted.root.payoutsRoot, account, answer.payout);
        }
        _close(disputeId, dispute);
    }

    /// @inheritdoc IReceiptSettlement
    function uphold(uint256 disputeId, Posted calldata posted, address[] calldata signers)
        external
    {
        Dispute memory dispute = _known(disputeId);
        if (rootHash[dispute.poolId][dispute.epoch] != dispute.root) {
            delete _disputes[disputeId];
            emit DisputeMoot(disputeId);
            token.safeTransfer(dispute.challenger, bond);
            return;
        }
        if (block.timestamp <= dispute.answerBy) revert AnswerTooEarly(dispute.answerBy);
        if (_checkPosted(posted) != dispute.root) {
            revert UnknownRoot(posted.root.poolId, posted.root.epoch);
        }
        delete _disputes[disputeId];
        emit DisputeUpheld(disputeId);
        _punish(posted, signers, dispute.challenger);
        token.safeTransfer(dispute.challenger, bond);
    }

    /// @inheritdoc IReceiptSettlement
    function proveDoubleCount(
        Posted calldata posted,
        address[] calldata signers,
        ProvenLeaf calldata leaf,
        Receipt calldata receipt,
        Posted calldata otherPosted,
        ProvenLeaf calldata other,
        Receipt calldata otherReceipt
    ) external {
        _checkPending(posted);
        _checkPosted(otherPosted);
        _checkLeaf(posted.root, leaf);
        _checkLeaf(otherPosted.root, other);
        bool same = receipt.jobId == otherReceipt.jobId && receipt.stage == otherReceipt.stage;
        bool theirs = receiptDigest(receipt) == leaf.leaf.receipt
            && receiptDigest(otherReceipt) == other.leaf.receipt;
        bool twoPlaces =
            posted.root.epoch != otherPosted.root.epoch || leaf.leaf.index != other.leaf.index;
        if (posted.root.poolId != otherPosted.root.poolId || !same || !theirs || !twoPlaces) {
            revert NotDoubleCounted();
        }
        _punish(posted, signers, msg.sender);
    }

    /// @inheritdoc IReceiptSettlement
    // slither-disable-next-line reentrancy-events
    function convict(Conviction calldata conviction, bytes[] calldata signatures) external {
        bytes32 digest = convictionDigest(conviction);
        _checkQuorum(digest, signatures);
        bytes32 work = keccak256(abi.encode(conviction.poolId, conviction.node, conviction.jobId));
        if (_convicted[work]) revert AlreadyConvicted(digest);
        _convicted[work] = true;
        address provider = computeRegistry.ownerOf(conviction.node);
        uint256 amount = stakeManager.slash(provider, convictionSlash, digest, address(0));
        emit Convicted(
            conviction.poolId, conviction.node, conviction.jobId, conviction.evidence, amount
        );
    }

    /// @inheritdoc IReceiptSettlement
    function disputeOf(uint256 disputeId) external view returns (Dispute memory) {
        return _disputes[disputeId];
    }

    function _open(Posted calldata posted, DisputeKind kind, uint256 subject, uint256 amount)
        private
        returns (uint256 disputeId)
    {
        bytes32 root = _checkPending(posted);
        PoolEpochs storage last = _epochs[posted.root.poolId];
        // An open dispute keeps a root pending after its window, but lets nobody in any more.
        if (block.timestamp >= last.claimableAt) {
            revert RootIsFinal(posted.root.poolId, posted.root.epoch);
        }
        last.openDisputes += 1;
        disputeId = ++disputeCount;
        Dispute memory dispute = Dispute(
            kind,
            msg.sender,
            posted.root.epoch,
            uint64(block.timestamp) + answerWindow,
            posted.root.poolId,
            root,
            subject,
            amount
        );
        _disputes[disputeId] = dispute;
        emit DisputeOpened(disputeId, posted.root.poolId, posted.root.epoch, dispute);
        token.safeTransferFrom(msg.sender, address(this), bond);
    }

    function _answering(uint256 disputeId, Posted calldata posted)
        private
        view
        returns (Dispute memory dispute)
    {
        dispute = _known(disputeId);
        if (block.timestamp > dispute.answerBy) revert AnswerTooLate(dispute.answerBy);
        if (_checkPosted(posted) != dispute.root) {
            revert UnknownRoot(posted.root.poolId, posted.root.epoch);
        }
    }

    /// @dev The answer was right. Half of the bond is burnt to the treasury, so that disputing and
    /// answering oneself to hold up payments is not free.
    function _close(uint256 disputeId, Dispute memory dispute) private {
        delete _disputes[disputeId];
        _epochs[dispute.poolId].openDisputes -= 1;
        emit DisputeAnswered(disputeId, msg.sender);
        token.safeTransfer(msg.sender, bond / 2);
        token.safeTransfer(stakeManager.treasury(), bond - bond / 2);
    }

    /// @dev The events tell what StakeManager took, so they come after it; it calls nobody but the token.
    // slither-disable-next-line reentrancy-events
    function _punish(Posted calldata posted, address[] calldata signers, address challenger)
        private
    {
        if (keccak256(abi.encode(signers)) != posted.signersHash) revert WrongSigners();
        _void(posted.root, challenger);
        bytes32 reason = rootDigest(posted.root);
        for (uint256 i = 0; i < signers.length; ++i) {
            // The owner, not whom the signer speaks for now: dismissal must not save it.
            // slither-disable-next-line calls-loop
            address provider = computeRegistry.ownerOf(signers[i]);
            // slither-disable-next-line calls-loop
            uint256 amount = stakeManager.slash(provider, signerSlash, reason, challenger);
            emit SignerSlashed(signers[i], provider, amount);
        }
    }

    function _known(uint256 disputeId) private view returns (Dispute memory dispute) {
        dispute = _disputes[disputeId];
        if (dispute.kind == DisputeKind.NONE) revert UnknownDispute(disputeId);
    }
}
