// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Settlement of receipts by epoch
/// @notice Work is receipted off chain. Per pool and epoch validators holding a quorum of the
/// validators' stake sign one `EpochRoot`: a Merkle root of the epoch's receipts and one of every
/// account's reward in the pool since its beginning. Rewards being cumulative, an account that claims
/// late misses nothing. A posted root waits for its challenge window. Anyone may dispute a receipt or
/// a payout in it by posting a bond; whoever holds the leaves can answer from them. An answer costs
/// the challenger its bond. No answer in time voids the root and slashes all who signed it. Two
/// leaves that count one receipt twice prove themselves and need neither bond nor answer.
///
/// Trees are OpenZeppelin's StandardMerkleTree. Leaves of `receiptsRoot` are `WorkLeaf`s, sorted by
/// (account, receipt digest) and numbered from 0, in this order (option sortLeaves: false), each with the running sum of units of its account
/// and of the epoch; so the last leaf of an account states the account's units, and any leaf can be
/// checked against the one before it alone. Leaves of `payoutsRoot` are (address account,
/// uint256 cumulative).
interface IReceiptSettlement {
    /// @param epoch One more than the pool's last; the first is 1.
    /// @param receiptCount Number of work leaves, at least 1; `totalUnits` is the sum of their units.
    /// @param rate Wei of the token for a unit: the pool's rate, or what the unspent budget allows or
    /// up to a tenth less, so that a deposit made meanwhile does not undo what was signed.
    /// @param totalPayout Sum of all payouts since the pool's beginning: the last root's, plus
    /// totalUnits * rate.
    /// @param dataHash sha256 under which the leaves are published.
    struct EpochRoot {
        uint256 poolId;
        uint64 epoch;
        bytes32 receiptsRoot;
        bytes32 payoutsRoot;
        uint64 receiptCount;
        uint128 totalUnits;
        uint128 rate;
        uint128 totalPayout;
        bytes32 dataHash;
    }

    /// @notice A posted root. Only its hash is stored; who refers to it brings it.
    /// @param signersHash keccak256(abi.encode(address[] signers)), signers ascending.
    struct Posted {
        EpochRoot root;
        bytes32 signersHash;
    }

    /// @param jobId The work unit; with `stage` it names the work, which is paid once in a pool.
    /// @param worker The node that did it, as `stage` of its group.
    /// @param seq Build of the group.
    /// @param counterparty Who received the output and signs too: the next stage, the last one's is
    /// stage 0, a lone stage's the pool's creator.
    /// @param epoch First epoch that may pay it.
    /// @param units Work done: layers times tokens.
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

    /// @param index Place in the epoch, from 0.
    /// @param account Who is paid: the owner of the receipt's worker in ComputeRegistry.
    /// @param accountUnits Units of this account's leaves up to and with this one.
    /// @param epochUnits Units of all leaves up to and with this one.
    /// @param receipt EIP-712 digest of the receipt.
    struct WorkLeaf {
        uint64 index;
        address account;
        uint128 accountUnits;
        uint128 epochUnits;
        bytes32 receipt;
    }

    /// @notice A work leaf and its proof into `receiptsRoot`.
    struct ProvenLeaf {
        WorkLeaf leaf;
        bytes32[] proof;
    }

    /// @notice A payout leaf of a known account and its proof into `payoutsRoot`.
    struct ProvenPayout {
        uint256 cumulative;
        bytes32[] proof;
    }

    /// @notice A receipt with both signatures, 65 bytes r, s, v each.
    struct SignedReceipt {
        Receipt receipt;
        bytes workerSignature;
        bytes counterSignature;
    }

    /// @notice What shows that an account's payout is right.
    /// @param payout Its leaf in the disputed root; ignored for PAYOUT, which names the leaf already.
    /// @param previous Its leaf in the epoch before; cumulative 0 where it had none.
    /// @param hasLast False where the accounts of all work leaves are above the disputed one.
    /// @param last The last work leaf whose account is not above it; ignored without `hasLast`.
    /// @param next The leaf after `last`, or else leaf 0; ignored where `last` is the epoch's last.
    struct PayoutAnswer {
        ProvenPayout payout;
        ProvenPayout previous;
        bool hasLast;
        ProvenLeaf last;
        ProvenLeaf next;
    }

    /// @notice A validators' finding that a node cheated in a work unit.
    /// @param evidence Content hash of the proof bundle that shows it.
    struct Conviction {
        uint256 poolId;
        address node;
        bytes32 jobId;
        bytes32 evidence;
    }

    enum DisputeKind {
        NONE,
        RECEIPT,
        PAYOUT,
        OMISSION
    }

    /// @param root The disputed root's `rootHash`.
    /// @param subject RECEIPT: the leaf's index; PAYOUT and OMISSION: the account, as a number.
    /// @param amount PAYOUT: what the disputed leaf grants; OMISSION: what the epoch before had granted.
    /// @param answerBy Last second (Unix) for an answer; after it the dispute can be upheld.
    struct Dispute {
        DisputeKind kind;
        address challenger;
        uint64 epoch;
        uint64 answerBy;
        uint256 poolId;
        bytes32 root;
        uint256 subject;
        uint256 amount;
    }

    /// @param epoch The pool's last posted epoch, 0 before the first.
    /// @param claimableAt Unix seconds at which its challenge window ends.
    /// @param openDisputes While any is open, the root pays nothing and no other can be posted.
    /// @param totalPayout The last root's, 0 before the first.
    struct PoolEpochs {
        uint48 epoch;
        uint48 claimableAt;
        uint32 openDisputes;
        uint128 totalPayout;
    }

    event RootPosted(
        uint256 indexed poolId,
        uint64 indexed epoch,
        EpochRoot root,
        address[] signers,
        uint64 claimableAt
    );
    /// @param by The federator who cancelled it, or the challenger who was right.
    event RootVoided(uint256 indexed poolId, uint64 indexed epoch, address indexed by);
    event DisputeOpened(
        uint256 indexed disputeId, uint256 indexed poolId, uint64 indexed epoch, Dispute dispute
    );
    event DisputeAnswered(uint256 indexed disputeId, address indexed by);
    event DisputeUpheld(uint256 indexed disputeId);
    /// @notice The root was voided already; the bond went back.
    event DisputeMoot(uint256 indexed disputeId);
    event SignerSlashed(address indexed signer, address indexed provider, uint256 amount);
    event Convicted(
        uint256 indexed poolId,
        address indexed node,
        bytes32 indexed jobId,
        bytes32 evidence,
        uint256 amount
    );
    event Claimed(
        uint256 indexed poolId, address indexed account, uint256 amount, uint256 cumulative
    );
    event QuorumChanged(uint16 basisPoints);

    error InvalidQuorum(uint16 basisPoints);
    error InvalidParameters();
    /// @notice The pool's domain settles elsewhere, or the pool pays by time.
    error NotSettledHere(uint256 poolId);
    error WrongEpoch(uint64 epoch, uint64 expected);
    /// @notice The pool's last root can still be disputed; post the next one when it is final.
    error RootNotFinal(uint64 claimableAt, uint32 openDisputes);
    error EmptyEpoch();
    /// @notice The rate must be the pool's, or about what its unspent budget allows.
    error WrongRate(uint256 rate, uint256 expected);
    error NoBudget(uint256 poolId);
    error WrongTotalPayout(uint256 total, uint256 expected);
    /// @notice Exactly this root was voided before.
    error RootWasVoided(bytes32 digest);
    error QuorumNotMet(uint256 weight, uint256 needed);
    /// @notice Signature number `index` does not recover to any address.
    error MalformedSignature(uint256 index);
    /// @notice Signers must be given strictly ascending, so none counts twice.
    error SignersNotAscending(address signer, address previous);
    error NotValidator(address signer);
    /// @notice No root like this is posted now.
    error UnknownRoot(uint256 poolId, uint64 epoch);
    /// @notice The root's window is over; what is final cannot be disputed or voided.
    error RootIsFinal(uint256 poolId, uint64 epoch);
    error WrongSigners();
    error NoSuchLeaf(uint64 index, uint64 count);
    error UnknownDispute(uint256 disputeId);
    error AnswerTooEarly(uint64 answerBy);
    error AnswerTooLate(uint64 answerBy);
    /// @notice The answer does not show what it must; `reason` names the first thing.
    error InvalidAnswer(string reason);
    error NotDoubleCounted();
    error AlreadyConvicted(bytes32 digest);
    error InvalidProof();
    error NothingToClaim(uint256 poolId, address account);

    /// @notice Posts a pool's next root. Anyone may relay it; the signatures decide.
    /// @param signatures 65 bytes r, s, v each, over EIP-712
    /// EpochRoot(uint256 poolId,uint64 epoch,bytes32 receiptsRoot,bytes32 payoutsRoot,
    /// uint64 receiptCount,uint128 totalUnits,uint128 rate,uint128 totalPayout,bytes32 dataHash) (one
    /// line, no space after commas), by validators, strictly ascending by signer address, who together
    /// have at least the quorum's share of all validators' stake.
    function postRoot(EpochRoot calldata root, bytes[] calldata signatures) external;

    /// @notice Disputes leaf `index` of the pending root's receipts. Costs `bond()`, which must be
    /// approved to this contract. The answer must show the leaf, a receipt signed by both sides that
    /// it stands for, and that it follows from the leaf before it.
    function disputeReceipt(Posted calldata posted, uint64 index)
        external
        returns (uint256 disputeId);

    /// @notice Disputes a payout leaf of the pending root. Costs `bond()`. The answer must show that
    /// exactly this is due to `account`.
    function disputePayout(Posted calldata posted, address account, ProvenPayout calldata payout)
        external
        returns (uint256 disputeId);

    /// @notice Asks whether the pending root pays `account` what is due, for accounts left out or set
    /// back. Costs `bond()`. The answer must show the right payout leaf, or that nothing is due.
    /// @param previous The root of the epoch before; ignored where `payout.cumulative` is 0.
    /// @param payout The account's leaf there; cumulative 0 and no proof where it had none.
    function disputeOmission(
        Posted calldata posted,
        Posted calldata previous,
        address account,
        ProvenPayout calldata payout
    ) external returns (uint256 disputeId);

    /// @notice Answers a RECEIPT dispute. Half of the bond goes to the caller, half to the treasury.
    /// @param before The leaf with the index below; ignored for index 0.
    function answerReceipt(
        uint256 disputeId,
        Posted calldata posted,
        ProvenLeaf calldata disputed,
        ProvenLeaf calldata before,
        SignedReceipt calldata signed
    ) external;

    /// @notice As `answerReceipt`, for PAYOUT and OMISSION disputes.
    /// @param previous The root of the epoch before; ignored for epoch 1.
    function answerPayout(
        uint256 disputeId,
        Posted calldata posted,
        Posted calldata previous,
        PayoutAnswer calldata answer
    ) external;

    /// @notice Voids a root whose dispute nobody answered in time, slashes its signers and pays the
    /// challenger its bond and a share of that. Anyone may call. Where the root was voided already,
    /// the bond just goes back.
    function uphold(uint256 disputeId, Posted calldata posted, address[] calldata signers) external;

    /// @notice Voids a pending root that counts one work unit's stage twice, within itself or again
    /// after an earlier root, and slashes its signers. The caller gets the challenger's share.
    /// @param leaf A work leaf of `posted`, which is pending.
    /// @param other A different work leaf of `otherPosted`, the same root or an earlier one.
    function proveDoubleCount(
        Posted calldata posted,
        address[] calldata signers,
        ProvenLeaf calldata leaf,
        Receipt calldata receipt,
        Posted calldata otherPosted,
        ProvenLeaf calldata other,
        Receipt calldata otherReceipt
    ) external;

    /// @notice Cancels a root that is not final; its epoch can be posted anew. Federators only. It
    /// stops a payment and can never make or redirect one.
    function cancelRoot(Posted calldata posted) external;

    /// @notice Slashes the provider of a node that a quorum of validators found cheating, once for each
    /// node and work unit, by a fixed share within StakeManager's cap, to the treasury.
    /// @param signatures As in `postRoot`, over EIP-712
    /// Conviction(uint256 poolId,address node,bytes32 jobId,bytes32 evidence)
    function convict(Conviction calldata conviction, bytes[] calldata signatures) external;

    /// @notice Pays `account` what a final root grants it beyond its earlier claims. Anyone may call.
    function claim(
        Posted calldata posted,
        address account,
        uint256 cumulative,
        bytes32[] calldata proof
    ) external;

    /// @notice Changes the share of the validators' stake that must sign, in basis points, more than
    /// half. Administrator only.
    function setQuorum(uint16 basisPoints) external;

    function quorum() external view returns (uint16);

    /// @notice Seconds between posting a root and the first claim on it.
    function challengeWindow() external view returns (uint64);

    /// @notice Seconds that a dispute waits for its answer.
    function answerWindow() external view returns (uint64);

    /// @notice Wei of the token that a dispute costs.
    function bond() external view returns (uint256);

    /// @notice Total that `account` has been paid in this pool.
    function claimed(uint256 poolId, address account) external view returns (uint256);

    function epochsOf(uint256 poolId) external view returns (PoolEpochs memory);

    /// @notice keccak256(abi.encode(rootDigest, signersHash)) of an epoch's root, 0 where none is.
    function rootHash(uint256 poolId, uint64 epoch) external view returns (bytes32);

    /// @notice Whether claims on this root are open.
    function isFinal(uint256 poolId, uint64 epoch) external view returns (bool);

    /// @notice The sum that roots have promised in a pool: a bound of what is paid and reclaimed.
    function committed(uint256 poolId) external view returns (uint256);

    function disputeOf(uint256 disputeId) external view returns (Dispute memory);

    /// @notice Whether both parties signed a receipt: EIP-712
    /// Receipt(bytes32 jobId,address worker,uint256 poolId,uint32 stage,uint32 seq,
    /// address counterparty,uint64 epoch,uint128 units,bytes32 commitment) (one line, no space after
    /// commas). False, too, when worker and counterparty are one.
    function verifyReceipt(SignedReceipt calldata signed) external view returns (bool);

    /// @notice The EIP-712 digest that validators sign.
    function rootDigest(EpochRoot calldata root) external view returns (bytes32);

    /// @notice The EIP-712 digest that worker and counterparty sign.
    function receiptDigest(Receipt calldata receipt) external view returns (bytes32);

    /// @notice The EIP-712 digest of a conviction.
    function convictionDigest(Conviction calldata conviction) external view returns (bytes32);
}
