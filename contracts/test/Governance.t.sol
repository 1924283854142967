// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputeRegistry} from "src/interfaces/IComputeRegistry.sol";
import {IDomainRegistry} from "src/interfaces/IDomainRegistry.sol";
import {IPrimeNetwork} from "src/interfaces/IPrimeNetwork.sol";
import {Text} from "src/libraries/Text.sol";
import {Fixture} from "./utils/Fixture.sol";

/// @notice Roles, validators' vouching, domains, and the handing over of offices.
contract GovernanceTest is Fixture {
    function test_federator_names_and_dismisses_validators() public {
        vm.assertFalse(network.isValidator(STRANGER));
        network.grantValidator(STRANGER);
        vm.assertTrue(network.isValidator(STRANGER));
        network.grantValidator(STRANGER);
        network.revokeValidator(STRANGER);
        vm.assertFalse(network.isValidator(STRANGER));
        vm.assertTrue(network.isValidator(vm.addr(validatorKeys[0])));
    }

    function test_revoking_from_the_wrong_account_fails_loudly() public {
        vm.expectRevert(abi.encodeWithSelector(IPrimeNetwork.NotValidator.selector, STRANGER));
        network.revokeValidator(STRANGER);
    }

    function test_only_federators_name_validators() public {
        bytes32 role = network.FEDERATOR_ROLE();
        address validator = vm.addr(validatorKeys[0]);
        vm.expectRevert(missingRole(validator, role));
        vm.prank(validator);
        network.grantValidator(STRANGER);
        vm.expectRevert(missingRole(STRANGER, role));
        vm.prank(STRANGER);
        network.revokeValidator(validator);
    }

    function test_validators_vouch_for_nodes() public {
        registeredNode();
        address validator = vm.addr(validatorKeys[0]);
        vm.expectEmit(address(network));
        emit IPrimeNetwork.NodeValidationChanged(NODE, true, validator);
        vm.prank(validator);
        network.setNodeValidated(NODE, true);
        (,, bool validated,,) = registry.nodeOf(NODE);
        vm.assertTrue(validated);

        vm.prank(PROVIDER);
        network.removeNode(NODE);
        registerNode(PROVIDER, NODE_KEY, 5);
        (,, validated,,) = registry.nodeOf(NODE);
        vm.assertFalse(validated);
    }

    function test_nobody_else_vouches_and_not_for_strangers() public {
        registeredNode();
        bytes32 role = network.VALIDATOR_ROLE();
        vm.expectRevert(missingRole(PROVIDER, role));
        vm.prank(PROVIDER);
        network.setNodeValidated(NODE, true);

        vm.expectRevert(abi.encodeWithSelector(IComputeRegistry.UnknownNode.selector, STRANGER));
        vm.prank(vm.addr(validatorKeys[0]));
        network.setNodeValidated(STRANGER, true);
    }

    function test_anyone_creates_domains() public {
        vm.expectEmit(address(domains));
        emit IDomainRegistry.DomainCreated(1, STRANGER, address(7), "synthetic", "ipfs://x");
        vm.prank(STRANGER);
        vm.assertEq(network.createDomain("synthetic", address(7), "ipfs://x"), 1);
        IDomainRegistry.Domain memory domain = domains.domainOf(1);
        vm.assertEq(domain.owner, STRANGER);
        vm.assertEq(domain.createdAt, START);
        vm.assertEq(domain.validationLogic, address(7));
        vm.assertEq(domain.name, "synthetic");
        vm.assertEq(domain.uri, "ipfs://x");
        vm.assertEq(network.createDomain("synthetic", address(0), ""), 2);
    }

    function test_domains_refuse_bad_text_and_bad_ids() public {
        vm.expectRevert(abi.encodeWithSelector(Text.EmptyName.selector));
        network.createDomain("", address(0), "");
        vm.expectRevert(abi.encodeWithSelector(Text.TextTooLong.selector, 65, 64));
        network.createDomain(string(new bytes(65)), address(0), "");
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.UnknownDomain.selector, 0));
        domains.domainOf(0);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.UnknownDomain.selector, 1));
        domains.domainOf(1);
        bytes32 role = domains.NETWORK_ROLE();
        vm.expectRevert(missingRole(address(this), role));
        domains.create(address(this), "x", address(0), "");
    }

    function test_administration_moves_in_two_steps_and_a_day() public {
        network.beginDefaultAdminTransfer(STRANGER);
        vm.expectRevert(
            abi.encodeWithSignature(
                "AccessControlEnforcedDefaultAdminDelay(uint48)", START + 1 days
            )
        );
        vm.prank(STRANGER);
        network.acceptDefaultAdminTransfer();
        vm.assertEq(network.defaultAdmin(), address(this));

        vm.warp(START + 1 days + 1);
        vm.expectRevert(
            abi.encodeWithSignature("AccessControlInvalidDefaultAdmin(address)", PROVIDER)
        );
        vm.prank(PROVIDER);
        network.acceptDefaultAdminTransfer();
        vm.prank(STRANGER);
        network.acceptDefaultAdminTransfer();
        vm.assertEq(network.defaultAdmin(), STRANGER);

        bytes32 role = network.SETTLEMENT_ROLE();
        vm.expectRevert(missingRole(address(this), bytes32(0)));
        network.grantRole(role, address(this));
    }

    function test_administration_cannot_be_granted_beside_the_two_steps() public {
        vm.expectRevert(abi.encodeWithSignature("AccessControlEnforcedDefaultAdminRules()"));
        stakes.grantRole(bytes32(0), STRANGER);
    }

    function test_token_ownership_moves_in_two_steps() public {
        token.transferOwnership(STRANGER);
        vm.assertEq(token.owner(), address(this));
        vm.prank(STRANGER);
        token.acceptOwnership();
        vm.expectRevert(
            abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", address(this))
        );
        token.mint(address(this), 1);
        vm.prank(STRANGER);
        token.mint(PROVIDER, 1);
        vm.assertEq(token.balanceOf(PROVIDER), 1);
    }

    function test_token_starts_with_the_owner_and_takes_permits() public {
        vm.assertEq(token.balanceOf(address(this)), 1_000_000 ether);
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
                ),
                NODE,
                PROVIDER,
                5,
                0,
                START
            )
        );
        bytes32 digest =
            keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), structHash));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(NODE_KEY, digest);
        token.permit(NODE, PROVIDER, 5, START, v, r, s);
        vm.assertEq(token.allowance(NODE, PROVIDER), 5);
    }
}
