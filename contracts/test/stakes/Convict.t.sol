// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Epochs} from "../utils/Epochs.sol";

/// @notice ReceiptSettlement.convict.
contract ConvictTest is Epochs {
    uint256 private constant STAKE = BASE_STAKE + UNIT_STAKE;
    uint256 private constant FINE = STAKE * CONVICTION_SLASH / 10_000;

    function setUp() public override {
        super.setUp();
        registerWorkers(1);
    }

    function test_a_quorum_fines_the_provider_to_the_treasury() public {
        IReceiptSettlement.Conviction memory conviction = someConviction();
        bytes[] memory signatures = sign(conviction, 2);
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.Convicted(1, worker(0), conviction.jobId, conviction.evidence, FINE);
        vm.prank(STRANGER);
        settlement.convict(conviction, signatures);
        vm.assertEq(stakes.stakeOf(workerProvider(0)), STAKE - FINE);
        vm.assertEq(token.balanceOf(TREASURY), FINE);
        vm.assertEq(token.balanceOf(STRANGER), 0);
    }

    function test_once_for_a_node_and_work_unit_whatever_the_evidence() public {
        IReceiptSettlement.Conviction memory conviction = someConviction();
        settlement.convict(conviction, sign(conviction, 2));
        refuse(conviction, sign(conviction, 3), already(conviction));
        conviction.evidence = keccak256("other evidence");
        refuse(conviction, sign(conviction, 2), already(conviction));
        conviction.jobId = keccak256("other job");
        settlement.convict(conviction, sign(conviction, 2));
        conviction.poolId = 2;
        settlement.convict(conviction, sign(conviction, 2));
        conviction.node = worker(1);
        settlement.convict(conviction, sign(conviction, 2));
    }

    function test_the_cap_of_a_day_holds() public {
        IReceiptSettlement.Conviction memory conviction = someConviction();
        for (uint256 i = 0; i < 10; i++) {
            conviction.jobId = bytes32(i);
            settlement.convict(conviction, sign(conviction, 2));
        }
        vm.assertEq(stakes.stakeOf(workerProvider(0)), STAKE - STAKE * SLASH_CAP / 10_000);
    }

    function test_a_node_that_left_does_not_escape() public {
        vm.prank(workerProvider(0));
        network.removeNode(worker(0));
        vm.prank(workerProvider(0));
        stakes.unstake(STAKE);
        IReceiptSettlement.Conviction memory conviction = someConviction();
        settlement.convict(conviction, sign(conviction, 2));
        (uint256 unbonding,) = stakes.unbondingOf(workerProvider(0));
        vm.assertEq(unbonding, STAKE - FINE);
    }

    function test_strangers_have_nothing_to_lose() public {
        IReceiptSettlement.Conviction memory conviction = someConviction();
        conviction.node = worker(7);
        bytes[] memory signatures = sign(conviction, 2);
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.Convicted(1, worker(7), conviction.jobId, conviction.evidence, 0);
        settlement.convict(conviction, signatures);
    }

    function test_needs_the_quorum() public {
        IReceiptSettlement.Conviction memory conviction = someConviction();
        refuse(
            conviction,
            sign(conviction, 1),
            abi.encodeWithSelector(
                IReceiptSettlement.QuorumNotMet.selector, VALIDATOR_STAKE, 1_800 ether
            )
        );
        bytes[] memory signatures = sign(conviction, 2);
        network.revokeValidator(validator(1));
        refuse(
            conviction,
            signatures,
            abi.encodeWithSelector(IReceiptSettlement.NotValidator.selector, validator(1))
        );
    }

    function test_a_signature_covers_every_field_the_chain_and_the_contract() public {
        IReceiptSettlement.Conviction memory conviction = someConviction();
        bytes32 digest = settlement.convictionDigest(conviction);
        vm.assertEq(digest, digestOf(conviction));
        for (uint256 field = 0; field < 4; field++) {
            IReceiptSettlement.Conviction memory other = someConviction();
            if (field == 0) other.poolId++;
            else if (field == 1) other.node = STRANGER;
            else if (field == 2) other.jobId = 0;
            else other.evidence = 0;
            vm.assertNotEq(settlement.convictionDigest(other), digest);
        }
        vm.assertNotEq(newSettlement(settlementTerms()).convictionDigest(conviction), digest);
        vm.chainId(5);
        vm.assertNotEq(settlement.convictionDigest(conviction), digest);
    }

    // --- helpers ---

    function someConviction() private pure returns (IReceiptSettlement.Conviction memory) {
        return IReceiptSettlement.Conviction(1, worker(0), keccak256("job"), keccak256("evidence"));
    }

    function digestOf(IReceiptSettlement.Conviction memory conviction)
        private
        view
        returns (bytes32)
    {
        return typedDigest(address(settlement), convictionStructHash(conviction));
    }

    function sign(IReceiptSettlement.Conviction memory conviction, uint256 count)
        private
        view
        returns (bytes[] memory signatures)
    {
        signatures = new bytes[](count);
        for (uint256 i = 0; i < count; i++) {
            signatures[i] = signDigest(validatorKeys[i], digestOf(conviction));
        }
    }

    function refuse(
        IReceiptSettlement.Conviction memory conviction,
        bytes[] memory signatures,
        bytes memory refusal
    ) private {
        vm.expectRevert(refusal);
        settlement.convict(conviction, signatures);
    }

    function already(IReceiptSettlement.Conviction memory conviction)
        private
        view
        returns (bytes memory)
    {
        return abi.encodeWithSelector(
            IReceiptSettlement.AlreadyConvicted.selector, digestOf(conviction)
        );
    }
}
