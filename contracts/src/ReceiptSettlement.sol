// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {IComputePool} from "./interfaces/IComputePool.sol";
import {IPrimeNetwork} from "./interfaces/IPrimeNetwork.sol";
import {IReceiptSettlement} from "./interfaces/IReceiptSettlement.sol";
import {IRewardsDistributor} from "./interfaces/IRewardsDistributor.sol";
import {Leaves} from "./libraries/Leaves.sol";
import {EpochRoots} from "./settlement/EpochRoots.sol";

/// @title Implementation of IReceiptSettlement, which describes the behaviour
/// @dev Posting and claiming is in settlement/EpochRoots.sol; here is what makes a root answerable.
///
/// Why these questions suffice. A payout is right when it is the account's payout before plus its
/// units times the rate. Work leaves are numbered and sorted by account, so the last leaf of an
/// account and the one after it show its units, provided that each leaf follows from the one before.
/// That is what a receipt's answer shows, together with the two signatures. So by induction over
/// indices every leaf that does not bear its question, and every payout, can be disputed alone, at a
/// cost that grows with the tree's depth only. That work was done at all no chain can see: this is
/// what the quorum vouches for.
contract ReceiptSettlement is EpochRoots, Multicall {
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
        return _open(posted, DisputeKind.PAYOUT, uint160(account), 0);
    }

    /// @inheritdoc IReceiptSettlement
    function disputeOmission(
        Posted calldata posted,
        Posted calldata previous,
        address account,
        ProvenPayout calldata payout
    ) external returns (uint256 disputeId) {
        _checkPrevious(posted, previous);
        _checkPayout(previous.root.payoutsRoot, account, payout);
        return _open(posted, DisputeKind.PAYOUT, uint160(account), payout.cumulative);
    }

    /// @inheritdoc IReceiptSettlement
    function answerReceipt(
        uint256 disputeId,
        Posted calldata posted,
        ProvenLeaf calldata disputed,
        ProvenLeaf calldata before,
        SignedReceipt calldata signed
    ) external {
        Dispute memory dispute = _answering(disputeId, DisputeKind.RECEIPT, posted);
        if (disputed.leaf.index != dispute.subject) revert InvalidAnswer("index");
        _checkLeaf(posted.root.receiptsRoot, disputed);
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
        Dispute memory dispute = _answering(disputeId, DisputeKind.PAYOUT, posted);
        address account = address(uint160(dispute.subject));
        _checkPayout(posted.root.payoutsRoot, account, answer.payout);
        uint256 before = answer.previous.cumulative;
        if (before < dispute.least) revert InvalidAnswer("previous payout");
        if (before != 0) {
            _checkPrevious(posted, previous);
            _checkPayout(previous.root.payoutsRoot, account, answer.previous);
        }
        uint256 earned = uint256(_unitsOf(account, posted.root, answer)) * posted.root.rate;
        if (answer.payout.cumulative != before + earned) revert InvalidAnswer("payout");
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
        _checkLeaf(posted.root.receiptsRoot, leaf);
        _checkLeaf(otherPosted.root.receiptsRoot, other);
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

    function _open(Posted calldata posted, DisputeKind kind, uint256 subject, uint256 least)
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
            least
        );
        _disputes[disputeId] = dispute;
        emit DisputeOpened(disputeId, posted.root.poolId, posted.root.epoch, dispute);
        token.safeTransferFrom(msg.sender, address(this), bond);
    }

    function _answering(uint256 disputeId, DisputeKind kind, Posted calldata posted)
        private
        view
        returns (Dispute memory dispute)
    {
        dispute = _known(disputeId);
        if (dispute.kind != kind) revert InvalidAnswer("kind");
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

    function _punish(Posted calldata posted, address[] calldata signers, address challenger)
        private
    {
        if (keccak256(abi.encode(signers)) != posted.signersHash) revert WrongSigners();
        _void(posted.root, challenger);
        bytes32 reason = rootDigest(posted.root);
        for (uint256 i = 0; i < signers.length; ++i) {
            // The owner, not whom the signer speaks for now: dismissal must not save it.
            address provider = computeRegistry.ownerOf(signers[i]);
            uint256 amount = stakeManager.slash(provider, signerSlash, reason, challenger);
            emit SignerSlashed(signers[i], provider, amount);
        }
    }

    function _known(uint256 disputeId) private view returns (Dispute memory dispute) {
        dispute = _disputes[disputeId];
        if (dispute.kind == DisputeKind.NONE) revert UnknownDispute(disputeId);
    }

    function _checkPrevious(Posted calldata posted, Posted calldata previous) private view {
        _checkPosted(previous);
        bool before = previous.root.poolId == posted.root.poolId
            && previous.root.epoch + 1 == posted.root.epoch;
        if (!before) revert UnknownRoot(previous.root.poolId, previous.root.epoch);
    }

    function _checkReceipt(
        EpochRoot calldata root,
        WorkLeaf calldata leaf,
        SignedReceipt calldata signed
    ) private view {
        Receipt calldata receipt = signed.receipt;
        if (receiptDigest(receipt) != leaf.receipt) revert InvalidAnswer("receipt");
        if (receipt.poolId != root.poolId) revert InvalidAnswer("pool");
        if (receipt.epoch > root.epoch) revert InvalidAnswer("epoch");
        if (receipt.units == 0) revert InvalidAnswer("units");
        if (!verifyReceipt(signed)) revert InvalidAnswer("signature");
        if (computeRegistry.ownerOf(receipt.worker) != leaf.account) {
            revert InvalidAnswer("account");
        }
        // A countersignature by anybody at all would be worth nothing.
        bool known = computeRegistry.ownerOf(receipt.counterparty) != address(0)
            || receipt.counterparty == pools.creatorOf(root.poolId);
        if (!known) revert InvalidAnswer("counterparty");
    }

    function _checkChain(
        EpochRoot calldata root,
        WorkLeaf calldata leaf,
        ProvenLeaf calldata before,
        uint128 units
    ) private pure {
        uint128 accountUnits = units;
        uint128 epochUnits = units;
        if (leaf.index != 0) {
            _checkLeaf(root.receiptsRoot, before);
            WorkLeaf calldata prior = before.leaf;
            if (prior.index + 1 != leaf.index) revert InvalidAnswer("leaf before");
            bool same = prior.account == leaf.account;
            bool ordered = same ? prior.receipt < leaf.receipt : prior.account < leaf.account;
            if (!ordered) revert InvalidAnswer("order");
            if (same) accountUnits += prior.accountUnits;
            epochUnits += prior.epochUnits;
        }
        if (leaf.accountUnits != accountUnits) revert InvalidAnswer("account units");
        if (leaf.epochUnits != epochUnits) revert InvalidAnswer("epoch units");
        if (leaf.index + 1 == root.receiptCount && leaf.epochUnits != root.totalUnits) {
            revert InvalidAnswer("total units");
        }
    }

    /// @dev The account's units in the epoch, which the two leaves around its end show.
    function _unitsOf(address account, EpochRoot calldata root, PayoutAnswer calldata answer)
        private
        pure
        returns (uint128 units)
    {
        uint64 nextIndex = 0;
        if (answer.hasLast) {
            WorkLeaf calldata last = answer.last.leaf;
            _checkLeaf(root.receiptsRoot, answer.last);
            if (last.account > account) revert InvalidAnswer("last leaf");
            if (last.account == account) units = last.accountUnits;
            nextIndex = last.index + 1;
        }
        if (nextIndex == root.receiptCount) return units;
        _checkLeaf(root.receiptsRoot, answer.next);
        bool beyond = answer.next.leaf.index == nextIndex && answer.next.leaf.account > account;
        if (!beyond) revert InvalidAnswer("next leaf");
    }

    function _checkLeaf(bytes32 root, ProvenLeaf calldata proven) private pure {
        if (!Leaves.inReceipts(root, proven)) revert InvalidProof();
    }

    function _checkPayout(bytes32 root, address account, ProvenPayout calldata payout)
        private
        pure
    {
        if (!Leaves.inPayouts(root, account, payout.cumulative, payout.proof)) {
            revert InvalidProof();
        }
    }
}
