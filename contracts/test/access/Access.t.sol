// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {PrimeAccess} from "src/PrimeAccess.sol";
import {Fixture} from "../utils/Fixture.sol";

/// @notice Who may call what, delays, and the handover of the administrator's office.
contract AccessTest is Fixture {
    uint32 private constant DELAY = 2 days;
    address private constant ADMIN = address(0xAD);
    uint64 private constant ADMIN_ROLE = 0;

    /// @param role Who may make it.
    struct Restricted {
        uint64 role;
        address target;
        bytes data;
    }

    Restricted[] private calls;

    function setUp() public override {
        super.setUp();
        uint64 role = access.NETWORK();
        add(role, address(stakes), abi.encodeCall(stakes.stake, (STRANGER, 1)));
        add(role, address(stakes), abi.encodeCall(stakes.setValidating, (STRANGER, true)));
        add(role, address(registry), abi.encodeCall(registry.addProvider, (STRANGER)));
        add(role, address(registry), abi.encodeCall(registry.addNode, (STRANGER, NODE, 1)));
        add(role, address(registry), abi.encodeCall(registry.removeNode, (NODE)));
        add(role, address(registry), abi.encodeCall(registry.setValidated, (NODE, true)));
        add(role, address(registry), abi.encodeCall(registry.setBlacklisted, (STRANGER, true)));
        add(role, address(domains), abi.encodeCall(domains.create, (STRANGER, "x", NODE, "")));
        role = access.POOLS();
        add(role, address(registry), abi.encodeCall(registry.enterPool, (NODE, 1)));
        add(role, address(registry), abi.encodeCall(registry.exitPool, (NODE)));
        add(role, address(purse), abi.encodeWithSelector(purse.open.selector, 1, 1, NODE, 1));
        add(role, address(purse), abi.encodeCall(purse.deposit, (1, 1)));
        add(role, address(purse), abi.encodeCall(purse.payTime, (1, STRANGER, 1, 1, true)));
        add(role, address(purse), abi.encodeCall(purse.release, (1, STRANGER, 1)));
        role = access.SLASHER();
        add(role, address(stakes), abi.encodeCall(stakes.slash, (STRANGER, 1, "", STRANGER)));
        role = access.FEDERATOR();
        add(role, address(network), abi.encodeCall(network.grantValidator, (STRANGER)));
        add(role, address(network), abi.encodeCall(network.revokeValidator, (validator(0))));
        add(role, address(network), abi.encodeCall(network.setBlacklisted, (PROVIDER, true)));
        IReceiptSettlement.Posted memory posted;
        add(role, address(settlement), abi.encodeCall(settlement.cancelRoot, (posted)));
        add(ADMIN_ROLE, address(settlement), abi.encodeCall(settlement.setQuorum, (7_000)));
    }

    // --- restricted functions ---

    function test_every_restricted_function_refuses_strangers() public {
        expectOnly(type(uint64).max, STRANGER);
    }

    /// @dev Each contract's role is all it has, nor has the administrator another by itself.
    function test_roles_reach_no_further_than_they_say() public {
        expectOnly(access.NETWORK(), address(network));
        expectOnly(access.POOLS(), address(pools));
        expectOnly(access.SLASHER(), address(settlement));
        access.grantRole(ADMIN_ROLE, ADMIN, 0);
        expectOnly(ADMIN_ROLE, ADMIN);
        access.grantRole(access.FEDERATOR(), PROVIDER, 0);
        expectOnly(access.FEDERATOR(), PROVIDER);
    }

    function test_a_closed_target_answers_nobody() public {
        access.setTargetClosed(address(network), true);
        vm.expectRevert(unauthorized(address(this)));
        network.grantValidator(STRANGER);
        // Dismissing oneself needs no office.
        vm.prank(validator(0));
        network.revokeValidator(validator(0));
    }

    function test_revoking_a_role_takes_it_from_that_account_only() public {
        uint64 federator = access.FEDERATOR();
        access.grantRole(federator, PROVIDER, 0);
        access.revokeRole(federator, STRANGER);
        vm.expectRevert(
            abi.encodeWithSignature(
                "AccessManagerUnauthorizedAccount(address,uint64)", STRANGER, ADMIN_ROLE
            )
        );
        vm.prank(STRANGER);
        access.revokeRole(federator, PROVIDER);
        vm.expectRevert(abi.encodeWithSignature("AccessManagerBadConfirmation()"));
        vm.prank(STRANGER);
        access.renounceRole(federator, PROVIDER);
        vm.prank(PROVIDER);
        network.grantValidator(STRANGER);
        access.revokeRole(federator, PROVIDER);
        vm.expectRevert(unauthorized(PROVIDER));
        vm.prank(PROVIDER);
        network.grantValidator(address(5));
        network.grantValidator(address(5));
    }

    // --- delays ---

    function test_a_delayed_administrator_must_announce_each_call() public {
        handOver(DELAY);
        bytes memory data = abi.encodeCall(settlement.setQuorum, (7_000));
        bytes32 operation = access.hashOperation(ADMIN, address(settlement), data);
        vm.expectRevert(abi.encodeWithSignature("AccessManagerNotScheduled(bytes32)", operation));
        vm.prank(ADMIN);
        settlement.setQuorum(7_000);

        vm.prank(ADMIN);
        access.schedule(address(settlement), data, 0);
        vm.warp(START + DELAY - 1);
        vm.expectRevert(abi.encodeWithSignature("AccessManagerNotReady(bytes32)", operation));
        vm.prank(ADMIN);
        settlement.setQuorum(7_000);
        vm.warp(START + DELAY);
        vm.prank(ADMIN);
        settlement.setQuorum(7_000);
        vm.assertEq(settlement.quorum(), 7_000);

        // Announced once, made once.
        vm.expectRevert(abi.encodeWithSignature("AccessManagerNotScheduled(bytes32)", operation));
        vm.prank(ADMIN);
        settlement.setQuorum(7_000);
    }

    function test_a_delayed_administrator_cannot_shorten_its_way_by_roles() public {
        handOver(DELAY);
        uint64 slasher = access.SLASHER();
        bytes memory data = abi.encodeCall(access.grantRole, (slasher, ADMIN, 0));
        expectNotScheduled(data);
        data = abi.encodeCall(access.grantRole, (ADMIN_ROLE, ADMIN, 0));
        expectNotScheduled(data);
        bytes4[] memory selectors = new bytes4[](1);
        selectors[0] = stakes.slash.selector;
        data = abi.encodeCall(access.setTargetFunctionRole, (address(stakes), selectors, 0));
        expectNotScheduled(data);
        data = abi.encodeCall(access.updateAuthority, (address(stakes), ADMIN));
        expectNotScheduled(data);
        expectNotScheduled(abi.encodeCall(access.offerAdmin, (ADMIN, 0)));
        bytes[] memory bundle = new bytes[](1);
        bundle[0] = data;
        vm.expectPartialRevert(bytes4(keccak256("AccessManagerNotScheduled(bytes32)")));
        vm.prank(ADMIN);
        access.multicall(bundle);
    }

    function test_an_announcement_can_be_cancelled() public {
        handOver(DELAY);
        bytes memory data = abi.encodeCall(settlement.setQuorum, (7_000));
        vm.prank(ADMIN);
        access.schedule(address(settlement), data, 0);
        vm.expectPartialRevert(
            bytes4(keccak256("AccessManagerUnauthorizedCancel(address,address,address,bytes4)"))
        );
        vm.prank(STRANGER);
        access.cancel(ADMIN, address(settlement), data);
        vm.prank(ADMIN);
        access.cancel(ADMIN, address(settlement), data);
        vm.warp(START + DELAY);
        vm.expectPartialRevert(bytes4(keccak256("AccessManagerNotScheduled(bytes32)")));
        vm.prank(ADMIN);
        access.execute(address(settlement), data);
    }

    function test_a_delayed_federator_announces_too() public {
        access.grantRole(access.FEDERATOR(), PROVIDER, DELAY);
        bytes memory data = abi.encodeCall(network.grantValidator, (STRANGER));
        vm.expectPartialRevert(bytes4(keccak256("AccessManagerNotScheduled(bytes32)")));
        vm.prank(PROVIDER);
        network.grantValidator(STRANGER);
        vm.prank(PROVIDER);
        access.schedule(address(network), data, 0);
        vm.warp(START + DELAY);
        vm.prank(PROVIDER);
        access.execute(address(network), data);
        vm.assertTrue(network.isValidator(STRANGER));
    }

    // --- handover ---

    function test_the_office_moves_when_the_successor_accepts() public {
        vm.expectEmit(address(access));
        emit PrimeAccess.AdminOffered(address(this), ADMIN, DELAY);
        access.offerAdmin(ADMIN, DELAY);
        vm.assertTrue(isAdmin(address(this)));
        vm.assertFalse(isAdmin(ADMIN));

        expectNotOffered(STRANGER);
        vm.expectEmit(address(access));
        emit PrimeAccess.AdminAccepted(address(this), ADMIN, DELAY);
        vm.prank(ADMIN);
        access.acceptAdmin();
        vm.assertTrue(isAdmin(ADMIN));
        vm.assertFalse(isAdmin(address(this)));
        (, uint32 delay) = access.hasRole(ADMIN_ROLE, ADMIN);
        vm.assertEq(delay, DELAY);
        vm.expectRevert(unauthorized(address(this)));
        settlement.setQuorum(7_000);
        expectNotOffered(ADMIN);
    }

    function test_offers_are_taken_back_or_replaced() public {
        access.offerAdmin(ADMIN, 0);
        access.offerAdmin(address(0), 0);
        expectNotOffered(ADMIN);
        expectNotOffered(address(0));
        access.offerAdmin(ADMIN, 0);
        access.offerAdmin(STRANGER, 0);
        expectNotOffered(ADMIN);
        vm.prank(STRANGER);
        access.acceptAdmin();
        vm.assertTrue(isAdmin(STRANGER));
    }

    function test_only_administrators_offer() public {
        vm.expectRevert(
            abi.encodeWithSignature(
                "AccessManagerUnauthorizedAccount(address,uint64)", STRANGER, ADMIN_ROLE
            )
        );
        vm.prank(STRANGER);
        access.offerAdmin(STRANGER, 0);
    }

    function test_one_dismissed_since_has_nothing_to_give() public {
        access.grantRole(ADMIN_ROLE, PROVIDER, 0);
        vm.prank(PROVIDER);
        access.offerAdmin(ADMIN, 0);
        access.revokeRole(ADMIN_ROLE, PROVIDER);
        expectNotOffered(ADMIN);
        vm.assertTrue(isAdmin(address(this)));
    }

    function test_a_delayed_administrator_offers_after_its_delay() public {
        handOver(DELAY);
        bytes memory data = abi.encodeCall(access.offerAdmin, (PROVIDER, 1));
        vm.prank(ADMIN);
        access.schedule(address(access), data, 0);
        vm.warp(START + DELAY);
        // Through `execute` nobody could tell whose office it is.
        vm.expectRevert(abi.encodeWithSelector(PrimeAccess.OfferedThroughExecute.selector));
        vm.prank(ADMIN);
        access.execute(address(access), data);

        vm.prank(ADMIN);
        access.offerAdmin(PROVIDER, 1);
        vm.prank(PROVIDER);
        access.acceptAdmin();
        vm.assertTrue(isAdmin(PROVIDER));
        vm.assertFalse(isAdmin(ADMIN));
    }

    function test_the_office_waits_as_long_as_any_grant_of_it() public {
        access.setGrantDelay(ADMIN_ROLE, 3 days);
        vm.warp(START + 5 days);
        access.offerAdmin(ADMIN, 0);
        vm.prank(ADMIN);
        access.acceptAdmin();
        vm.assertFalse(isAdmin(ADMIN));
        vm.warp(START + 8 days);
        vm.assertTrue(isAdmin(ADMIN));
    }

    // --- helpers ---

    function add(uint64 role, address target, bytes memory data) private {
        calls.push(Restricted(role, target, data));
    }

    /// @dev `caller` is refused everything but what `role` may do.
    function expectOnly(uint64 role, address caller) private {
        for (uint256 i = 0; i < calls.length; i++) {
            vm.prank(caller);
            (bool done, bytes memory answer) = calls[i].target.call(calls[i].data);
            bool refused = !done && keccak256(answer) == keccak256(unauthorized(caller));
            vm.assertTrue(refused == (calls[i].role != role), "role");
        }
    }

    function expectNotScheduled(bytes memory data) private {
        vm.prank(ADMIN);
        (bool done, bytes memory answer) = address(access).call(data);
        vm.assertFalse(done);
        bytes32 operation = access.hashOperation(ADMIN, address(access), data);
        vm.assertEq(
            answer, abi.encodeWithSignature("AccessManagerNotScheduled(bytes32)", operation)
        );
    }

    function expectNotOffered(address account) private {
        vm.expectRevert(abi.encodeWithSelector(PrimeAccess.NotOffered.selector, account));
        vm.prank(account);
        access.acceptAdmin();
    }

    function handOver(uint32 delay) private {
        access.offerAdmin(ADMIN, delay);
        vm.prank(ADMIN);
        access.acceptAdmin();
    }

    function isAdmin(address account) private view returns (bool yes) {
        (yes,) = access.hasRole(ADMIN_ROLE, account);
    }
}
