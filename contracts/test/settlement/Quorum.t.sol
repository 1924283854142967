// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {ReceiptSettlement} from "src/ReceiptSettlement.sol";
import {Epochs} from "../utils/Epochs.sol";

/// @notice Who must sign a root, what a signature covers, and ReceiptSettlement.setQuorum.
contract QuorumTest is Epochs {
    uint256 private poolId;

    function setUp() public override {
        super.setUp();
        registerWorkers(2);
        poolId = activePool(address(0), 1_000 ether);
    }

    function test_stake_decides_not_the_number_of_validators() public {
        IReceiptSettlement.EpochRoot memory root = someRoot();
        stakeMore(2, 6_000 ether);
        // Two of three hold 2,000 of 9,000; the third alone holds 7,000.
        refuse(root, signRoot(root, 2), quorumNotMet(2_000 ether, 5_400 ether));
        bytes[] memory one = new bytes[](1);
        one[0] = signDigest(validatorKeys[2], rootDigestOf(root));
        settlement.postRoot(root, one);
        vm.assertEq(settlement.epochsOf(poolId).epoch, 1);
    }

    function test_just_below_and_at_the_threshold() public {
        IReceiptSettlement.EpochRoot memory root = someRoot();
        // 60 % of 3,500 ether + 5 wei are 2,100 ether + 3 wei.
        stakeMore(2, 500 ether + 5);
        stakeMore(0, 100 ether);
        refuse(root, signRoot(root, 2), quorumNotMet(2_100 ether, 2_160 ether + 3));
        stakeMore(1, 150 ether + 6);
        uint256 total = 3_750 ether + 11;
        uint256 needed = total * 6_000 / 10_000 + 1;
        vm.assertEq(network.totalWeight(), total);
        refuse(root, signRoot(root, 2), quorumNotMet(2_250 ether + 6, needed));
        stakeMore(1, 3);
        settlement.postRoot(root, signRoot(root, 2));
    }

    function testFuzz_the_quorum_is_a_share_rounded_up(uint96[3] memory more, uint16 share) public {
        settlement.setQuorum(5_001 + share % 5_000);
        for (uint256 i = 0; i < 3; i++) {
            if (more[i] != 0) stakeMore(i, more[i]);
        }
        uint256 total = network.totalWeight();
        uint256 signed = network.weightOf(validator(0)) + network.weightOf(validator(1));
        IReceiptSettlement.EpochRoot memory root = someRoot();
        bytes[] memory signatures = signRoot(root, 2);
        bool enough = signed * 10_000 >= total * settlement.quorum();
        if (!enough) vm.expectPartialRevert(IReceiptSettlement.QuorumNotMet.selector);
        settlement.postRoot(root, signatures);
    }

    function test_nobody_is_no_quorum() public {
        IReceiptSettlement.EpochRoot memory root = someRoot();
        refuse(root, new bytes[](0), quorumNotMet(0, 1_800 ether));
        for (uint256 i = 0; i < 3; i++) {
            network.revokeValidator(validator(i));
        }
        refuse(root, new bytes[](0), quorumNotMet(0, 0));
    }

    function test_one_validator_does_not_count_twice() public {
        IReceiptSettlement.EpochRoot memory root = someRoot();
        bytes[] memory signatures = signRoot(root, 2);
        signatures[1] = signatures[0];
        refuse(root, signatures, notAscending(validator(0), validator(0)));
        signatures[0] = signDigest(validatorKeys[1], rootDigestOf(root));
        refuse(root, signatures, notAscending(validator(0), validator(1)));
    }

    function test_strangers_and_the_dismissed_have_no_voice() public {
        IReceiptSettlement.EpochRoot memory root = someRoot();
        bytes[] memory signatures = signRoot(root, 3);
        network.revokeValidator(validator(1));
        refuse(root, signatures, notValidator(validator(1)));
        bytes[] memory strange = new bytes[](1);
        strange[0] = signDigest(workerKey(0), rootDigestOf(root));
        refuse(root, strange, notValidator(worker(0)));
    }

    function test_a_validator_without_a_registered_node_has_no_voice() public {
        IReceiptSettlement.EpochRoot memory root = someRoot();
        bytes[] memory signatures = signRoot(root, 3);
        vm.prank(validatorProvider(0));
        network.removeNode(validator(0));
        vm.assertTrue(network.isValidator(validator(0)));
        refuse(root, signatures, notValidator(validator(0)));

        uint256 key = 0xFEE1;
        network.grantValidator(vm.addr(key));
        bytes[] memory unregistered = new bytes[](1);
        unregistered[0] = signDigest(key, rootDigestOf(root));
        refuse(root, unregistered, notValidator(vm.addr(key)));
    }

    function test_refuses_malformed_and_high_s_signatures() public {
        IReceiptSettlement.EpochRoot memory root = someRoot();
        bytes[] memory signatures = signRoot(root, 2);
        bytes memory refusal =
            abi.encodeWithSelector(IReceiptSettlement.MalformedSignature.selector, 1);
        bytes memory good = signatures[1];
        signatures[1] = "";
        refuse(root, signatures, refusal);
        signatures[1] = bytes.concat(good, hex"00");
        refuse(root, signatures, refusal);
        signatures[1] = new bytes(65);
        refuse(root, signatures, refusal);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(validatorKeys[1], rootDigestOf(root));
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        signatures[1] = abi.encodePacked(r, order - uint256(s), v == 27 ? uint8(28) : uint8(27));
        refuse(root, signatures, refusal);
    }

    function test_a_signature_covers_every_field() public view {
        bytes32 digest = settlement.rootDigest(someRoot());
        vm.assertEq(digest, rootDigestOf(someRoot()));
        for (uint256 field = 0; field < 9; field++) {
            IReceiptSettlement.EpochRoot memory other = someRoot();
            if (field == 0) other.poolId++;
            else if (field == 1) other.epoch++;
            else if (field == 2) other.receiptsRoot = 0;
            else if (field == 3) other.payoutsRoot = 0;
            else if (field == 4) other.receiptCount++;
            else if (field == 5) other.totalUnits++;
            else if (field == 6) other.rate++;
            else if (field == 7) other.totalPayout++;
            else other.dataHash = 0;
            vm.assertNotEq(settlement.rootDigest(other), digest);
        }
    }

    /// @dev The same signatures elsewhere are by somebody else, if by anybody.
    function test_signatures_do_not_carry_to_another_chain_contract_epoch_or_pool() public {
        Epoch memory epoch = firstEpoch(poolId, 2, 2);
        bytes[] memory signatures = signRoot(epoch.root, 3);
        uint256 chain = block.chainid;
        vm.chainId(chain + 1);
        refuseAnyhow(epoch.root, signatures);
        vm.chainId(chain);

        ReceiptSettlement here = settlement;
        settlement = newSettlement(settlementTerms());
        epoch.root.poolId = activePool(address(0), 1_000 ether);
        refuseAnyhow(epoch.root, signatures);
        settlement = here;

        epoch.root.poolId = activePool(address(0), 1_000 ether);
        refuseAnyhow(epoch.root, signatures);
        epoch.root.poolId = poolId;
        settle(epoch);
        epoch.root.epoch = 2;
        epoch.root.totalPayout *= 2;
        refuseAnyhow(epoch.root, signatures);
    }

    /// @dev Who relays chooses among the signatures; only those posted answer for the root.
    function test_whoever_is_first_chooses_whose_signatures_stand() public {
        Epoch memory epoch = firstEpoch(poolId, 2, 2);
        bytes[] memory all = signRoot(epoch.root, 3);
        bytes[] memory two = signRoot(epoch.root, 2);
        vm.prank(STRANGER);
        settlement.postRoot(epoch.root, two);
        refuse(
            epoch.root, all, abi.encodeWithSelector(IReceiptSettlement.WrongEpoch.selector, 1, 2)
        );
        answerReceipt(disputeReceipt(epoch, 1, STRANGER), epoch, 1);
        setSigners(epoch, 3);
        IReceiptSettlement.Posted memory posted = postedOf(epoch);
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.UnknownRoot.selector, poolId, 1));
        settlement.disputeReceipt(posted, 0);
    }

    function test_the_quorum_is_the_administrators_to_set() public {
        vm.expectRevert(unauthorized(STRANGER));
        vm.prank(STRANGER);
        settlement.setQuorum(7_000);
        access.grantRole(access.FEDERATOR(), STRANGER, 0);
        vm.expectRevert(unauthorized(STRANGER));
        vm.prank(STRANGER);
        settlement.setQuorum(7_000);

        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.QuorumChanged(10_000);
        settlement.setQuorum(10_000);
        vm.assertEq(settlement.quorum(), 10_000);
        IReceiptSettlement.EpochRoot memory root = someRoot();
        refuse(root, signRoot(root, 2), quorumNotMet(2_000 ether, 3_000 ether));
        settlement.postRoot(root, signRoot(root, 3));
    }

    function test_a_quorum_is_more_than_half_and_at_most_all() public {
        uint16[3] memory shares = [uint16(0), 5_000, 10_001];
        for (uint256 i = 0; i < 3; i++) {
            bytes memory refusal =
                abi.encodeWithSelector(IReceiptSettlement.InvalidQuorum.selector, shares[i]);
            vm.expectRevert(refusal);
            settlement.setQuorum(shares[i]);
            ReceiptSettlement.Terms memory terms = settlementTerms();
            terms.quorum = shares[i];
            vm.expectRevert(refusal);
            newSettlement(terms);
        }
    }

    /// @dev Signers' stake must outlast every dispute, and a share is at most all.
    function test_terms_that_could_not_be_enforced_are_refused() public {
        ReceiptSettlement.Terms memory terms = settlementTerms();
        terms.answerWindow = UNBONDING - WINDOW;
        refuseTerms(terms);
        terms.answerWindow = type(uint64).max;
        refuseTerms(terms);
        terms = settlementTerms();
        terms.signerSlash = 10_001;
        refuseTerms(terms);
        terms = settlementTerms();
        terms.convictionSlash = 10_001;
        refuseTerms(terms);
        terms.convictionSlash = 10_000;
        terms.signerSlash = 10_000;
        terms.answerWindow = UNBONDING - WINDOW - 1;
        ReceiptSettlement accepted = newSettlement(terms);
        vm.assertEq(accepted.answerWindow(), terms.answerWindow);
        vm.assertEq(accepted.challengeWindow(), WINDOW);
        vm.assertEq(accepted.bond(), BOND);
    }

    // --- helpers ---

    function someRoot() private view returns (IReceiptSettlement.EpochRoot memory) {
        return firstEpoch(poolId, 2, 2).root;
    }

    function stakeMore(uint256 index, uint256 amount) private {
        giveTokens(validatorProvider(index), address(network), amount);
        vm.prank(validatorProvider(index));
        network.increaseStake(amount);
    }

    function refuse(
        IReceiptSettlement.EpochRoot memory root,
        bytes[] memory signatures,
        bytes memory refusal
    ) private {
        vm.expectRevert(refusal);
        settlement.postRoot(root, signatures);
    }

    function refuseAnyhow(IReceiptSettlement.EpochRoot memory root, bytes[] memory signatures)
        private
    {
        try settlement.postRoot(root, signatures) {
            revert("posted");
        } catch (bytes memory refusal) {
            // forge-lint: disable-next-line(unsafe-typecast)
            bytes4 selector = bytes4(refusal);
            vm.assertTrue(
                selector == IReceiptSettlement.NotValidator.selector
                    || selector == IReceiptSettlement.SignersNotAscending.selector
            );
        }
    }

    function refuseTerms(ReceiptSettlement.Terms memory terms) private {
        vm.expectRevert(IReceiptSettlement.InvalidParameters.selector);
        newSettlement(terms);
    }

    function quorumNotMet(uint256 weight, uint256 needed) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.QuorumNotMet.selector, weight, needed);
    }

    function notAscending(address signer, address previous) private pure returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IReceiptSettlement.SignersNotAscending.selector, signer, previous
            );
    }

    function notValidator(address account) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.NotValidator.selector, account);
    }
}
