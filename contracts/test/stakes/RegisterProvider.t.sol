// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputeRegistry} from "src/interfaces/IComputeRegistry.sol";
import {IPrimeNetwork} from "src/interfaces/IPrimeNetwork.sol";
import {IStakeManager} from "src/interfaces/IStakeManager.sol";
import {Fixture} from "../utils/Fixture.sol";

/// @notice PrimeNetwork.registerProvider and increaseStake.
contract RegisterProviderTest is Fixture {
    function test_takes_the_stake_and_remembers_the_provider() public {
        uint256 before = token.balanceOf(address(stakes));
        giveTokens(PROVIDER, address(network), 150 ether);
        vm.expectEmit(address(network));
        emit IPrimeNetwork.ProviderRegistered(PROVIDER, 150 ether);
        vm.expectEmit(address(stakes));
        emit IStakeManager.Staked(PROVIDER, 150 ether);
        vm.prank(PROVIDER);
        network.registerProvider(150 ether);

        vm.assertEq(stakes.stakeOf(PROVIDER), 150 ether);
        vm.assertEq(token.balanceOf(address(stakes)), before + 150 ether);
        vm.assertEq(token.balanceOf(PROVIDER), 0);
        (uint64 registeredAt, uint64 units, uint256 nodes) = registry.providerOf(PROVIDER);
        vm.assertEq(registeredAt, START);
        vm.assertEq(units, 0);
        vm.assertEq(nodes, 0);
    }

    function test_refuses_a_stake_below_the_base() public {
        giveTokens(PROVIDER, address(network), BASE_STAKE);
        vm.expectRevert(
            abi.encodeWithSelector(
                IPrimeNetwork.StakeBelowMinimum.selector, BASE_STAKE - 1, BASE_STAKE
            )
        );
        vm.prank(PROVIDER);
        network.registerProvider(BASE_STAKE - 1);
    }

    function test_refuses_a_provider_it_knows() public {
        registerProvider(PROVIDER, BASE_STAKE);
        giveTokens(PROVIDER, address(network), BASE_STAKE);
        vm.expectRevert(
            abi.encodeWithSelector(IComputeRegistry.ProviderAlreadyRegistered.selector, PROVIDER)
        );
        vm.prank(PROVIDER);
        network.registerProvider(BASE_STAKE);
        vm.assertEq(token.balanceOf(PROVIDER), BASE_STAKE);
    }

    function test_refuses_without_allowance_and_remembers_nothing() public {
        token.mint(PROVIDER, BASE_STAKE);
        vm.expectRevert(
            abi.encodeWithSignature(
                "ERC20InsufficientAllowance(address,uint256,uint256)",
                address(network),
                0,
                BASE_STAKE
            )
        );
        vm.prank(PROVIDER);
        network.registerProvider(BASE_STAKE);
        (uint64 registeredAt,,) = registry.providerOf(PROVIDER);
        vm.assertEq(registeredAt, 0);
    }

    function test_increase_adds_to_the_stake() public {
        registerProvider(PROVIDER, BASE_STAKE);
        giveTokens(PROVIDER, address(network), 7 ether);
        vm.expectEmit(address(network));
        emit IPrimeNetwork.StakeIncreased(PROVIDER, 7 ether);
        vm.prank(PROVIDER);
        network.increaseStake(7 ether);
        vm.assertEq(stakes.stakeOf(PROVIDER), BASE_STAKE + 7 ether);
    }

    function test_increase_refuses_strangers_and_nothing() public {
        vm.expectRevert(abi.encodeWithSelector(IComputeRegistry.UnknownProvider.selector, STRANGER));
        vm.prank(STRANGER);
        network.increaseStake(1);

        registerProvider(PROVIDER, BASE_STAKE);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.ZeroAmount.selector));
        vm.prank(PROVIDER);
        network.increaseStake(0);
    }

    function test_stake_is_booked_only_when_the_tokens_came() public {
        registerProvider(PROVIDER, BASE_STAKE);
        uint256 held = token.balanceOf(address(stakes));
        access.grantRole(access.NETWORK(), address(this), 0);
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.StakeNotReceived.selector, held, held + 1)
        );
        stakes.stake(PROVIDER, 1);
        vm.expectRevert(abi.encodeWithSelector(IComputeRegistry.ZeroAddress.selector));
        registry.addProvider(address(0));
    }

    function testFuzz_stake_is_what_was_paid_in(uint96 first, uint96 second) public {
        uint256 start = BASE_STAKE + first;
        registerProvider(PROVIDER, start);
        uint256 more = 1 + uint256(second);
        giveTokens(PROVIDER, address(network), more);
        vm.prank(PROVIDER);
        network.increaseStake(more);
        vm.assertEq(stakes.stakeOf(PROVIDER), start + more);
        vm.assertEq(stakes.totalActive(), 3 * VALIDATOR_STAKE + start + more);
        vm.assertEq(token.balanceOf(address(stakes)), stakes.totalActive());
        vm.assertEq(stakes.weightOf(PROVIDER), 0);
        vm.assertEq(stakes.totalWeight(), 3 * VALIDATOR_STAKE);
    }
}
