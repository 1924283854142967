// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDomainRegistry} from "src/interfaces/IDomainRegistry.sol";
import {Text} from "src/libraries/Text.sol";
import {Fixture} from "../utils/Fixture.sol";

/// @notice PrimeNetwork.createDomain and DomainRegistry.
contract DomainsTest is Fixture {
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
        vm.assertEq(domains.domainCount(), 2);
    }

    function test_refuses_bad_text_and_bad_ids() public {
        vm.expectRevert(abi.encodeWithSelector(Text.EmptyName.selector));
        network.createDomain("", address(0), "");
        vm.expectRevert(abi.encodeWithSelector(Text.TextTooLong.selector, 65, 64));
        network.createDomain(string(new bytes(65)), address(0), "");
        vm.expectRevert(abi.encodeWithSelector(Text.TextTooLong.selector, 513, 512));
        network.createDomain("x", address(0), string(new bytes(513)));
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.UnknownDomain.selector, 0));
        domains.domainOf(0);
        vm.expectRevert(abi.encodeWithSelector(IDomainRegistry.UnknownDomain.selector, 1));
        domains.domainOf(1);
    }

    function test_exists_is_exact() public {
        network.createDomain("x", address(0), "");
        vm.assertFalse(domains.exists(0));
        vm.assertTrue(domains.exists(1));
        vm.assertFalse(domains.exists(2));
        vm.assertFalse(domains.exists(type(uint256).max));
    }

    function testFuzz_texts_up_to_their_limits(uint16 name, uint16 uri) public {
        string memory label = string(new bytes(name % 80));
        string memory link = string(new bytes(uri % 600));
        bool fits = name % 80 != 0 && name % 80 <= 64 && uri % 600 <= 512;
        if (name % 80 == 0) vm.expectRevert(Text.EmptyName.selector);
        else if (!fits) vm.expectPartialRevert(Text.TextTooLong.selector);
        network.createDomain(label, address(0), link);
        vm.assertEq(domains.domainCount(), fits ? 1 : 0);
    }
}
