// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputeRegistry} from "src/interfaces/IComputeRegistry.sol";
import {IPrimeNetwork} from "src/interfaces/IPrimeNetwork.sol";
import {Text} from "src/libraries/Text.sol";
import {Fixture} from "../utils/Fixture.sol";

/// @notice PrimeNetwork.registerNode and removeNode.
contract RegisterNodeTest is Fixture {
    address private constant OTHER = address(0x07);

    function setUp() public override {
        super.setUp();
        registerProvider(PROVIDER, BASE_STAKE + 10 * UNIT_STAKE);
    }

    function test_remembers_the_node() public {
        bytes memory signature = signNode(NODE_KEY, PROVIDER, START);
        vm.expectEmit(address(network));
        emit IPrimeNetwork.NodeRegistered(PROVIDER, NODE, "uri", 4);
        vm.prank(PROVIDER);
        network.registerNode(NODE, "uri", 4, START, signature);

        (address provider, uint32 units, bool validated, bool active, uint256 poolId) =
            registry.nodeOf(NODE);
        vm.assertEq(provider, PROVIDER);
        vm.assertEq(units, 4);
        vm.assertFalse(validated);
        vm.assertFalse(active);
        vm.assertEq(poolId, 0);
        vm.assertEq(registry.nodesOf(PROVIDER).length, 1);
        vm.assertEq(registry.nodesOf(PROVIDER)[0], NODE);
        vm.assertEq(network.nonces(NODE), 1);
        vm.assertEq(stakes.requiredStake(PROVIDER), BASE_STAKE + 4 * UNIT_STAKE);
    }

    function test_stake_must_cover_all_nodes() public {
        registerNode(PROVIDER, NODE_KEY, 6);
        registerNode(PROVIDER, 2, 4);
        bytes memory signature = signNode(3, PROVIDER, START);
        vm.expectRevert(
            abi.encodeWithSelector(
                IPrimeNetwork.StakeBelowMinimum.selector,
                BASE_STAKE + 10 * UNIT_STAKE,
                BASE_STAKE + 11 * UNIT_STAKE
            )
        );
        vm.prank(PROVIDER);
        network.registerNode(vm.addr(3), "", 1, START, signature);
    }

    function test_refuses_another_keys_signature() public {
        expectRefusedSignature(signNode(2, PROVIDER, START));
    }

    function test_refuses_a_signature_for_another_provider() public {
        expectRefusedSignature(signNode(NODE_KEY, OTHER, START));
    }

    function test_refuses_a_signature_for_another_chain() public {
        bytes memory signature = signNode(NODE_KEY, PROVIDER, START);
        vm.chainId(5);
        expectRefusedSignature(signature);
    }

    function test_refuses_malformed_signatures() public {
        expectRefusedSignature("");
        expectRefusedSignature(new bytes(65));
        bytes memory signature = signNode(NODE_KEY, PROVIDER, START);
        expectRefusedSignature(bytes.concat(signature, hex"00"));
    }

    function test_the_zero_address_never_passes_as_signer() public {
        vm.expectRevert(abi.encodeWithSelector(IPrimeNetwork.InvalidSignature.selector, address(0)));
        vm.prank(PROVIDER);
        network.registerNode(address(0), "", 1, START, "");
    }

    function test_refuses_a_replay_after_removal() public {
        bytes memory signature = signNode(NODE_KEY, PROVIDER, START);
        vm.prank(PROVIDER);
        network.registerNode(NODE, "", 1, START, signature);
        vm.prank(NODE);
        network.removeNode(NODE);
        expectRefusedSignature(signature);
    }

    function test_refuses_after_the_deadline() public {
        bytes memory signature = signNode(NODE_KEY, PROVIDER, START);
        vm.warp(START + 1);
        vm.expectRevert(abi.encodeWithSelector(IPrimeNetwork.SignatureExpired.selector, START));
        vm.prank(PROVIDER);
        network.registerNode(NODE, "", 1, START, signature);
    }

    function test_a_node_has_one_provider() public {
        registerNode(PROVIDER, NODE_KEY, 1);
        registerProvider(OTHER, BASE_STAKE + UNIT_STAKE);
        bytes memory signature = signNode(NODE_KEY, OTHER, START);
        vm.expectRevert(
            abi.encodeWithSelector(IComputeRegistry.NodeAlreadyRegistered.selector, NODE, PROVIDER)
        );
        vm.prank(OTHER);
        network.registerNode(NODE, "", 1, START, signature);
    }

    function test_refuses_strangers_no_units_and_long_uris() public {
        bytes memory signature = signNode(NODE_KEY, STRANGER, START);
        vm.expectRevert(abi.encodeWithSelector(IComputeRegistry.UnknownProvider.selector, STRANGER));
        vm.prank(STRANGER);
        network.registerNode(NODE, "", 1, START, signature);

        signature = signNode(NODE_KEY, PROVIDER, START);
        vm.expectRevert(abi.encodeWithSelector(IComputeRegistry.NoComputeUnits.selector));
        vm.prank(PROVIDER);
        network.registerNode(NODE, "", 0, START, signature);

        vm.expectRevert(abi.encodeWithSelector(Text.TextTooLong.selector, 513, 512));
        vm.prank(PROVIDER);
        network.registerNode(NODE, string(new bytes(513)), 1, START, signature);
    }

    function test_removal_frees_stake_and_node() public {
        registerNode(PROVIDER, NODE_KEY, 5);
        vm.expectEmit(address(network));
        emit IPrimeNetwork.NodeRemoved(PROVIDER, NODE, PROVIDER);
        vm.prank(PROVIDER);
        network.removeNode(NODE);
        (address provider,,,,) = registry.nodeOf(NODE);
        vm.assertEq(provider, address(0));
        vm.assertEq(registry.nodesOf(PROVIDER).length, 0);
        vm.assertEq(stakes.requiredStake(PROVIDER), 0);
        registerNode(PROVIDER, NODE_KEY, 5);
    }

    function test_only_provider_or_node_removes() public {
        registerNode(PROVIDER, NODE_KEY, 5);
        vm.expectRevert(abi.encodeWithSelector(IPrimeNetwork.NotProviderOrNode.selector, STRANGER));
        vm.prank(STRANGER);
        network.removeNode(NODE);
        vm.expectRevert(abi.encodeWithSelector(IComputeRegistry.UnknownNode.selector, STRANGER));
        network.removeNode(STRANGER);
    }

    function test_a_member_of_a_pool_is_not_removed() public {
        registerNode(PROVIDER, NODE_KEY, 5);
        uint256 poolId = activePool(address(0), 0);
        joinOpen(poolId, NODE);
        vm.expectRevert(abi.encodeWithSelector(IComputeRegistry.NodeInPool.selector, NODE, poolId));
        vm.prank(PROVIDER);
        network.removeNode(NODE);
    }

    /// @dev Past work pays the node's owner, so a key never changes hands.
    function test_a_removed_node_returns_to_its_owner_only() public {
        registerNode(PROVIDER, NODE_KEY, 5);
        vm.prank(NODE);
        network.removeNode(NODE);
        vm.assertEq(registry.ownerOf(NODE), PROVIDER);

        registerProvider(OTHER, BASE_STAKE + UNIT_STAKE);
        bytes memory signature = signNode(NODE_KEY, OTHER, START);
        vm.expectRevert(
            abi.encodeWithSelector(IComputeRegistry.NodeOwnedBy.selector, NODE, PROVIDER)
        );
        vm.prank(OTHER);
        network.registerNode(NODE, "", 1, START, signature);

        registerNode(PROVIDER, NODE_KEY, 7);
        (, uint32 units,,,) = registry.nodeOf(NODE);
        vm.assertEq(units, 7);
        (, uint64 sum, uint256 count) = registry.providerOf(PROVIDER);
        vm.assertEq(sum, 7);
        vm.assertEq(count, 1);
    }

    function test_a_blacklisted_provider_registers_no_nodes() public {
        network.setBlacklisted(PROVIDER, true);
        bytes memory signature = signNode(NODE_KEY, PROVIDER, START);
        vm.expectRevert(
            abi.encodeWithSelector(IPrimeNetwork.ProviderBlacklisted.selector, PROVIDER)
        );
        vm.prank(PROVIDER);
        network.registerNode(NODE, "", 1, START, signature);
        network.setBlacklisted(PROVIDER, false);
        registerNode(PROVIDER, NODE_KEY, 1);
    }

    function testFuzz_stake_covers_all_units(uint32[4] calldata units, uint96 stake) public {
        uint256 sum = 0;
        giveTokens(PROVIDER, address(network), uint256(stake) + 1);
        vm.prank(PROVIDER);
        network.increaseStake(uint256(stake) + 1);
        uint256 held = stakes.stakeOf(PROVIDER);
        for (uint256 i = 0; i < units.length; i++) {
            uint32 added = units[i] == 0 ? 1 : units[i];
            bytes memory signature = signNode(100 + i, PROVIDER, START);
            uint256 minimum = BASE_STAKE + (sum + added) * UNIT_STAKE;
            if (held < minimum) {
                vm.expectRevert(
                    abi.encodeWithSelector(IPrimeNetwork.StakeBelowMinimum.selector, held, minimum)
                );
            } else {
                sum += added;
            }
            vm.prank(PROVIDER);
            network.registerNode(vm.addr(100 + i), "", added, START, signature);
        }
        (, uint64 counted,) = registry.providerOf(PROVIDER);
        vm.assertEq(counted, sum);
    }

    function expectRefusedSignature(bytes memory signature) private {
        vm.expectRevert(abi.encodeWithSelector(IPrimeNetwork.InvalidSignature.selector, NODE));
        vm.prank(PROVIDER);
        network.registerNode(NODE, "", 1, START, signature);
    }
}
