// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputeRegistry} from "src/interfaces/IComputeRegistry.sol";
import {IPrimeNetwork} from "src/interfaces/IPrimeNetwork.sol";
import {Fixture} from "../utils/Fixture.sol";

/// @notice PrimeNetwork.grantValidator, revokeValidator, setNodeValidated, and validators' weights.
contract ValidatorsTest is Fixture {
    uint256 private constant STAKE = 2 * (BASE_STAKE + 5 * UNIT_STAKE);
    uint256 private constant OTHERS = 3 * VALIDATOR_STAKE;

    function test_a_grant_gives_the_providers_stake_a_voice() public {
        registeredNode();
        vm.expectEmit(address(network));
        emit IPrimeNetwork.ValidatorGranted(NODE);
        network.grantValidator(NODE);
        vm.assertTrue(network.isValidator(NODE));
        expectWeight(NODE, STAKE, OTHERS + STAKE);
        vm.assertEq(network.validators().length, 4);

        vm.expectEmit(address(network));
        emit IPrimeNetwork.ValidatorRevoked(NODE);
        network.revokeValidator(NODE);
        vm.assertFalse(network.isValidator(NODE));
        expectWeight(NODE, 0, OTHERS);
    }

    function test_a_validator_may_register_later() public {
        network.grantValidator(NODE);
        expectWeight(NODE, 0, OTHERS);
        registeredNode();
        expectWeight(NODE, STAKE, OTHERS + STAKE);
    }

    function test_a_removed_node_is_silent_until_it_returns() public {
        registeredNode();
        network.grantValidator(NODE);
        vm.prank(NODE);
        network.removeNode(NODE);
        vm.assertTrue(network.isValidator(NODE));
        expectWeight(NODE, 0, OTHERS);
        registerNode(PROVIDER, NODE_KEY, 5);
        expectWeight(NODE, STAKE, OTHERS + STAKE);
    }

    function test_one_validator_a_provider() public {
        registeredNode();
        registerNode(PROVIDER, 2, 1);
        network.grantValidator(NODE);
        bytes memory refusal =
            abi.encodeWithSelector(IPrimeNetwork.ProviderValidates.selector, PROVIDER, NODE);
        vm.expectRevert(refusal);
        network.grantValidator(vm.addr(2));

        network.grantValidator(vm.addr(3));
        bytes memory signature = signNode(3, PROVIDER, START);
        vm.expectRevert(refusal);
        vm.prank(PROVIDER);
        network.registerNode(vm.addr(3), "", 1, START, signature);

        network.revokeValidator(NODE);
        network.grantValidator(vm.addr(2));
        expectWeight(vm.addr(2), STAKE, OTHERS + STAKE);
        expectWeight(NODE, 0, OTHERS + STAKE);
    }

    function test_revoking_from_the_wrong_account_fails_loudly() public {
        bytes memory refusal = abi.encodeWithSelector(IPrimeNetwork.NotValidator.selector, STRANGER);
        vm.expectRevert(refusal);
        network.revokeValidator(STRANGER);
        vm.expectRevert(refusal);
        vm.prank(STRANGER);
        network.revokeValidator(STRANGER);
        vm.expectRevert(
            abi.encodeWithSelector(IPrimeNetwork.AlreadyValidator.selector, validator(0))
        );
        network.grantValidator(validator(0));
        expectWeight(validator(0), VALIDATOR_STAKE, OTHERS);
    }

    function test_validators_may_go_and_others_may_not_make_them() public {
        vm.expectRevert(unauthorized(validator(1)));
        vm.prank(validator(1));
        network.revokeValidator(validator(0));
        vm.expectRevert(unauthorized(validatorProvider(0)));
        vm.prank(validatorProvider(0));
        network.revokeValidator(validator(0));
        vm.expectRevert(unauthorized(validator(1)));
        vm.prank(validator(1));
        network.grantValidator(STRANGER);
        vm.prank(validator(0));
        network.revokeValidator(validator(0));
        expectWeight(validator(0), 0, OTHERS - VALIDATOR_STAKE);
    }

    function test_at_most_64() public {
        for (uint256 i = 3; i < 64; i++) {
            network.grantValidator(vm.addr(1_000 + i));
        }
        vm.expectRevert(abi.encodeWithSelector(IPrimeNetwork.TooManyValidators.selector, 64));
        network.grantValidator(STRANGER);
        network.revokeValidator(vm.addr(1_003));
        network.grantValidator(STRANGER);
        vm.assertEq(network.validators().length, 64);
    }

    function test_dismissal_and_blacklisting_leave_the_stake_alone() public {
        network.setBlacklisted(validatorProvider(0), true);
        // Federators dismiss a validator; the blacklist is about nodes that work.
        expectWeight(validator(0), VALIDATOR_STAKE, OTHERS);
        network.revokeValidator(validator(0));
        vm.assertEq(stakes.stakeOf(validatorProvider(0)), VALIDATOR_STAKE);
    }

    function test_validators_vouch_for_nodes() public {
        registeredNode();
        vm.expectEmit(address(network));
        emit IPrimeNetwork.NodeValidationChanged(NODE, true, validator(0));
        vm.prank(validator(0));
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
        vm.expectRevert(abi.encodeWithSelector(IPrimeNetwork.NotValidator.selector, PROVIDER));
        vm.prank(PROVIDER);
        network.setNodeValidated(NODE, true);
        vm.expectRevert(abi.encodeWithSelector(IComputeRegistry.UnknownNode.selector, STRANGER));
        vm.prank(validator(0));
        network.setNodeValidated(STRANGER, true);
    }

    /// @dev Weights after any order of grants, dismissals, removals, returns, stakes and unstakes.
    function testFuzz_total_weight_is_the_sum(uint8[16] calldata actions, uint64 amount) public {
        registerProvider(PROVIDER, 1_000 ether);
        registerNode(PROVIDER, NODE_KEY, 1);
        for (uint256 i = 0; i < actions.length; i++) {
            act(actions[i] % 6, 1 + uint256(amount) / (i + 1));
            uint256 sum = stakes.weightOf(PROVIDER);
            for (uint256 v = 0; v < 3; v++) {
                sum += network.weightOf(validator(v));
            }
            vm.assertEq(network.weightOf(NODE), stakes.weightOf(PROVIDER));
            vm.assertEq(network.totalWeight(), sum);
            (address provider,,,,) = registry.nodeOf(NODE);
            bool speaks = network.isValidator(NODE) && provider != address(0);
            vm.assertEq(network.weightOf(NODE), speaks ? stakes.stakeOf(PROVIDER) : 0);
        }
    }

    function act(uint256 action, uint256 amount) private {
        (address provider,,,,) = registry.nodeOf(NODE);
        if (action == 0 && !network.isValidator(NODE)) network.grantValidator(NODE);
        if (action == 1 && network.isValidator(NODE)) network.revokeValidator(NODE);
        if (action == 2 && provider != address(0)) {
            vm.prank(NODE);
            network.removeNode(NODE);
        }
        bool backed = stakes.stakeOf(PROVIDER) >= BASE_STAKE + UNIT_STAKE;
        if (action == 3 && provider == address(0) && backed) registerNode(PROVIDER, NODE_KEY, 1);
        if (action == 4) {
            giveTokens(PROVIDER, address(network), amount);
            vm.prank(PROVIDER);
            network.increaseStake(amount);
        }
        if (action == 5 && stakes.stakeOf(PROVIDER) >= stakes.requiredStake(PROVIDER) + amount) {
            vm.prank(PROVIDER);
            stakes.unstake(amount);
        }
    }

    function expectWeight(address node, uint256 weight, uint256 total) private view {
        vm.assertEq(network.weightOf(node), weight);
        vm.assertEq(network.totalWeight(), total);
    }
}
