// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {ReceiptSettlement} from "src/ReceiptSettlement.sol";
import {Fixture} from "./utils/Fixture.sol";

/// @notice ReceiptSettlement.postRoot, cancelRoot and setQuorum.
contract PostRootTest is Fixture {
    bytes32 private constant PAYOUTS = keccak256("payouts");
    uint256 private constant BUDGET = 1_000 ether;
    uint256 private poolId;

    function setUp() public override {
        super.setUp();
        poolId = activePool(address(0), BUDGET);
    }

    function test_a_quorum_posts_and_the_window_holds_it_back() public {
        IReceiptSettlement.EpochRoot memory root = epochRoot(poolId, 1, PAYOUTS, 10 ether);
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.RootPosted(
            poolId, 1, root.receiptsRoot, PAYOUTS, 10 ether, root.dataHash, START + WINDOW
        );
        vm.prank(STRANGER);
        settlement.postRoot(root, signRoot(root, 2));

        vm.assertEq(settlement.latestRoot(poolId).epoch, 0);
        vm.assertEq(settlement.pendingRoot(poolId).epoch, 1);
        vm.assertEq(settlement.nextEpoch(poolId), 2);
        (, uint256 committed,) = purse.accountOf(poolId);
        vm.assertEq(committed, 10 ether);

        vm.warp(START + WINDOW);
        IReceiptSettlement.SettledRoot memory latest = settlement.latestRoot(poolId);
        vm.assertEq(latest.epoch, 1);
        vm.assertEq(latest.claimableAt, START + WINDOW);
        vm.assertEq(latest.totalPayout, 10 ether);
        vm.assertEq(latest.receiptsRoot, root.receiptsRoot);
        vm.assertEq(latest.payoutsRoot, PAYOUTS);
        vm.assertEq(settlement.pendingRoot(poolId).epoch, 0);
    }

    function test_the_previous_root_serves_while_the_next_waits() public {
        for (uint64 epoch = 1; epoch <= 5; epoch++) {
            post(epoch, epoch * 1 ether);
            vm.assertEq(settlement.latestRoot(poolId).epoch, epoch - 1);
            vm.assertEq(settlement.latestRoot(poolId).totalPayout, (epoch - 1) * 1 ether);
            vm.assertEq(settlement.pendingRoot(poolId).epoch, epoch);
            vm.warp(block.timestamp + WINDOW);
        }
        vm.assertEq(settlement.latestRoot(poolId).epoch, 5);
    }

    function test_without_a_window_roots_are_claimable_at_once() public {
        settlement = new ReceiptSettlement(network, pools, purse, 1, 0);
        purse.grantRole(purse.SETTLEMENT_ROLE(), address(settlement));
        post(1, 1 ether);
        post(2, 2 ether);
        vm.assertEq(settlement.latestRoot(poolId).epoch, 2);
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.NoPendingRoot.selector, poolId));
        settlement.cancelRoot(poolId);
    }

    function test_waits_for_the_window_of_the_last() public {
        post(1, 1 ether);
        vm.warp(START + WINDOW - 1);
        refuse(
            epochRoot(poolId, 2, PAYOUTS, 2 ether),
            abi.encodeWithSelector(IReceiptSettlement.RootPending.selector, START + WINDOW)
        );
    }

    function test_epochs_follow_one_by_one() public {
        refuse(epochRoot(poolId, 0, PAYOUTS, 0), wrongEpoch(0, 1));
        refuse(epochRoot(poolId, 2, PAYOUTS, 0), wrongEpoch(2, 1));
        post(1, 1 ether);
        vm.warp(START + WINDOW);
        refuse(epochRoot(poolId, 1, PAYOUTS, 1 ether), wrongEpoch(1, 2));
        refuse(epochRoot(poolId, 3, PAYOUTS, 1 ether), wrongEpoch(3, 2));
    }

    function test_the_total_never_falls_and_stays_within_the_funds() public {
        refuse(
            epochRoot(poolId, 1, PAYOUTS, BUDGET + 1),
            abi.encodeWithSelector(
                IRewardsDistributor.CommitmentExceedsFunds.selector, BUDGET + 1, BUDGET
            )
        );
        post(1, BUDGET);
        vm.warp(START + WINDOW);
        refuse(
            epochRoot(poolId, 2, PAYOUTS, BUDGET - 1),
            abi.encodeWithSelector(IReceiptSettlement.TotalPayoutFell.selector, BUDGET - 1, BUDGET)
        );
        post(2, BUDGET);
    }

    function test_refuses_pools_that_do_not_exist() public {
        refuse(
            epochRoot(99, 1, PAYOUTS, 0),
            abi.encodeWithSelector(IReceiptSettlement.UnknownPool.selector, 99)
        );
    }

    function test_refuses_too_few_signatures() public {
        IReceiptSettlement.EpochRoot memory root = epochRoot(poolId, 1, PAYOUTS, 0);
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.QuorumNotMet.selector, 1, 2));
        settlement.postRoot(root, signRoot(root, 1));
    }

    function test_one_validator_does_not_count_twice() public {
        IReceiptSettlement.EpochRoot memory root = epochRoot(poolId, 1, PAYOUTS, 0);
        bytes[] memory signatures = signRoot(root, 2);
        signatures[1] = signatures[0];
        address first = vm.addr(validatorKeys[0]);
        refuseSigned(
            root,
            signatures,
            abi.encodeWithSelector(IReceiptSettlement.SignersNotAscending.selector, first, first)
        );
        signatures[0] = signRootWith(validatorKeys[1], root);
        refuseSigned(
            root,
            signatures,
            abi.encodeWithSelector(
                IReceiptSettlement.SignersNotAscending.selector, first, vm.addr(validatorKeys[1])
            )
        );
    }

    function test_every_signer_must_be_a_validator() public {
        IReceiptSettlement.EpochRoot memory root = epochRoot(poolId, 1, PAYOUTS, 0);
        bytes[] memory signatures = signRoot(root, 3);
        network.revokeValidator(vm.addr(validatorKeys[1]));
        refuseSigned(
            root,
            signatures,
            abi.encodeWithSelector(
                IReceiptSettlement.NotValidator.selector, vm.addr(validatorKeys[1])
            )
        );
    }

    function test_refuses_malformed_and_high_s_signatures() public {
        IReceiptSettlement.EpochRoot memory root = epochRoot(poolId, 1, PAYOUTS, 0);
        bytes[] memory signatures = signRoot(root, 2);
        bytes memory refusal =
            abi.encodeWithSelector(IReceiptSettlement.MalformedSignature.selector, 1);
        bytes memory good = signatures[1];
        signatures[1] = "";
        refuseSigned(root, signatures, refusal);
        signatures[1] = bytes.concat(good, hex"00");
        refuseSigned(root, signatures, refusal);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(validatorKeys[1], settlement.rootDigest(root));
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        signatures[1] = abi.encodePacked(r, order - uint256(s), v == 27 ? uint8(28) : uint8(27));
        refuseSigned(root, signatures, refusal);
    }

    function test_a_signature_covers_every_field() public view {
        IReceiptSettlement.EpochRoot memory signed = epochRoot(poolId, 1, PAYOUTS, 1 ether);
        bytes32 digest = settlement.rootDigest(signed);
        for (uint256 field = 0; field < 6; field++) {
            IReceiptSettlement.EpochRoot memory other = epochRoot(poolId, 1, PAYOUTS, 1 ether);
            if (field == 0) other.poolId++;
            else if (field == 1) other.epoch++;
            else if (field == 2) other.receiptsRoot = 0;
            else if (field == 3) other.payoutsRoot = 0;
            else if (field == 4) other.totalPayout++;
            else other.dataHash = 0;
            vm.assertTrue(settlement.rootDigest(other) != digest);
        }
    }

    function test_a_federator_cancels_within_the_window_and_that_root_stays_dead() public {
        post(1, 3 ether);
        vm.warp(START + WINDOW);
        IReceiptSettlement.EpochRoot memory bad = epochRoot(poolId, 2, PAYOUTS, 900 ether);
        settlement.postRoot(bad, signRoot(bad, 2));
        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.RootCancelled(poolId, 2, address(this));
        settlement.cancelRoot(poolId);

        vm.assertEq(settlement.latestRoot(poolId).epoch, 1);
        vm.assertEq(settlement.pendingRoot(poolId).epoch, 0);
        vm.assertEq(settlement.nextEpoch(poolId), 2);
        (, uint256 committed,) = purse.accountOf(poolId);
        vm.assertEq(committed, 3 ether);
        refuse(
            bad,
            abi.encodeWithSelector(
                IReceiptSettlement.RootWasCancelled.selector, settlement.rootDigest(bad)
            )
        );
        post(2, 4 ether);
        vm.warp(block.timestamp + WINDOW);
        vm.assertEq(settlement.latestRoot(poolId).totalPayout, 4 ether);
    }

    function test_cancelling_needs_a_federator_and_a_pending_root() public {
        bytes memory none =
            abi.encodeWithSelector(IReceiptSettlement.NoPendingRoot.selector, poolId);
        vm.expectRevert(none);
        settlement.cancelRoot(poolId);
        post(1, 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.NotFederator.selector, CREATOR));
        vm.prank(CREATOR);
        settlement.cancelRoot(poolId);
        vm.warp(START + WINDOW);
        vm.expectRevert(none);
        settlement.cancelRoot(poolId);
    }

    function test_quorum_is_the_federators_to_set() public {
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.NotFederator.selector, STRANGER));
        vm.prank(STRANGER);
        settlement.setQuorum(1);
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.InvalidQuorum.selector));
        settlement.setQuorum(0);
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.InvalidQuorum.selector));
        new ReceiptSettlement(network, pools, purse, 0, 0);

        vm.expectEmit(address(settlement));
        emit IReceiptSettlement.QuorumChanged(3);
        settlement.setQuorum(3);
        IReceiptSettlement.EpochRoot memory root = epochRoot(poolId, 1, PAYOUTS, 0);
        vm.expectRevert(abi.encodeWithSelector(IReceiptSettlement.QuorumNotMet.selector, 2, 3));
        settlement.postRoot(root, signRoot(root, 2));
        settlement.postRoot(root, signRoot(root, 3));
    }

    function post(uint64 epoch, uint256 total) private {
        IReceiptSettlement.EpochRoot memory root = epochRoot(poolId, epoch, PAYOUTS, total);
        settlement.postRoot(root, signRoot(root, 2));
    }

    function refuse(IReceiptSettlement.EpochRoot memory root, bytes memory refusal) private {
        refuseSigned(root, signRoot(root, 2), refusal);
    }

    function refuseSigned(
        IReceiptSettlement.EpochRoot memory root,
        bytes[] memory signatures,
        bytes memory refusal
    ) private {
        vm.expectRevert(refusal);
        settlement.postRoot(root, signatures);
    }

    function wrongEpoch(uint64 epoch, uint64 expected) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IReceiptSettlement.WrongEpoch.selector, epoch, expected);
    }
}
