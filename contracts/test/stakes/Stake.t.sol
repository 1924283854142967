// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStakeManager} from "src/interfaces/IStakeManager.sol";
import {StakeManager} from "src/StakeManager.sol";
import {Fixture} from "../utils/Fixture.sol";

/// @notice StakeManager.unstake and withdraw, and its constructor's checks.
contract StakeTest is Fixture {
    uint256 private constant STAKE = 400 ether;

    function setUp() public override {
        super.setUp();
        registerProvider(PROVIDER, STAKE);
    }

    function test_unstaked_tokens_wait_and_then_return() public {
        vm.expectEmit(address(stakes));
        emit IStakeManager.Unstaked(PROVIDER, 150 ether, START + UNBONDING);
        vm.prank(PROVIDER);
        stakes.unstake(150 ether);
        (uint256 unbonding, uint64 releaseTime) = stakes.unbondingOf(PROVIDER);
        vm.assertEq(unbonding, 150 ether);
        vm.assertEq(stakes.stakeOf(PROVIDER), STAKE - 150 ether);

        vm.warp(releaseTime - 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.StillUnbonding.selector, releaseTime));
        vm.prank(PROVIDER);
        stakes.withdraw();

        vm.warp(releaseTime);
        vm.prank(PROVIDER);
        stakes.withdraw();
        vm.assertEq(token.balanceOf(PROVIDER), 150 ether);
        vm.assertEq(stakes.totalUnbonding(), 0);
        vm.assertEq(stakes.totalActive(), 3 * VALIDATOR_STAKE + STAKE - 150 ether);

        vm.expectRevert(abi.encodeWithSelector(IStakeManager.NothingUnbonding.selector));
        vm.prank(PROVIDER);
        stakes.withdraw();
    }

    function test_asking_for_more_restarts_the_clock() public {
        vm.prank(PROVIDER);
        stakes.unstake(10 ether);
        vm.warp(START + UNBONDING - 1);
        vm.prank(PROVIDER);
        stakes.unstake(5 ether);
        vm.warp(START + UNBONDING);
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.StillUnbonding.selector, START + 2 * UNBONDING - 1)
        );
        vm.prank(PROVIDER);
        stakes.withdraw();
    }

    function test_what_the_nodes_need_stays() public {
        registerNode(PROVIDER, NODE_KEY, 5);
        uint256 minimum = BASE_STAKE + 5 * UNIT_STAKE;
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.BelowMinimumStake.selector, minimum - 1, minimum)
        );
        vm.prank(PROVIDER);
        stakes.unstake(STAKE - minimum + 1);

        vm.prank(PROVIDER);
        stakes.unstake(STAKE - minimum);
        vm.prank(PROVIDER);
        network.removeNode(NODE);
        vm.prank(PROVIDER);
        stakes.unstake(minimum);
        vm.assertEq(stakes.stakeOf(PROVIDER), 0);
    }

    function test_refuses_nothing_and_too_much() public {
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.ZeroAmount.selector));
        vm.prank(PROVIDER);
        stakes.unstake(0);
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.InsufficientStake.selector, STAKE, STAKE + 1)
        );
        vm.prank(PROVIDER);
        stakes.unstake(STAKE + 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.InsufficientStake.selector, 0, 1));
        vm.prank(STRANGER);
        stakes.unstake(1);
    }

    function test_minimum_grows_with_units() public view {
        vm.assertEq(stakes.minimumStake(0), BASE_STAKE);
        vm.assertEq(stakes.minimumStake(3), BASE_STAKE + 3 * UNIT_STAKE);
        vm.assertEq(stakes.requiredStake(PROVIDER), 0);
    }

    function test_a_validators_weight_is_its_active_stake() public {
        address provider = validatorProvider(0);
        vm.prank(provider);
        stakes.unstake(300 ether);
        vm.assertEq(stakes.weightOf(provider), VALIDATOR_STAKE - 300 ether);
        vm.assertEq(network.weightOf(validator(0)), VALIDATOR_STAKE - 300 ether);
        vm.assertEq(stakes.totalWeight(), 3 * VALIDATOR_STAKE - 300 ether);
        vm.assertEq(stakes.weightOf(PROVIDER), 0);

        giveTokens(provider, address(network), 50 ether);
        vm.prank(provider);
        network.increaseStake(50 ether);
        vm.assertEq(stakes.totalWeight(), 3 * VALIDATOR_STAKE - 250 ether);
    }

    function test_slashed_providers_keep_what_their_nodes_need() public {
        registerNode(PROVIDER, NODE_KEY, 30);
        access.grantRole(access.SLASHER(), address(this), 0);
        stakes.slash(PROVIDER, 1_000, "", address(0));
        vm.expectRevert(
            abi.encodeWithSelector(
                IStakeManager.BelowMinimumStake.selector, STAKE - 40 ether - 1, STAKE
            )
        );
        vm.prank(PROVIDER);
        stakes.unstake(1);
    }

    function test_constructor_refuses_bad_terms() public {
        StakeManager.Terms memory terms = stakeTerms();
        terms.treasury = address(0);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.ZeroAddress.selector));
        new StakeManager(address(access), token, registry, terms);
        terms = stakeTerms();
        terms.slashCap = 10_001;
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.InvalidShare.selector, 10_001));
        new StakeManager(address(access), token, registry, terms);
        terms = stakeTerms();
        terms.bountyShare = 5_001;
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.InvalidShare.selector, 5_001));
        new StakeManager(address(access), token, registry, terms);
    }

    /// @dev Whatever is asked for and when, nothing is lost and nothing comes out early.
    function testFuzz_tokens_are_active_unbonding_or_back(
        uint96[6] calldata amounts,
        uint24[6] calldata gaps
    ) public {
        uint256 active = STAKE;
        uint256 waiting = 0;
        uint256 releaseTime = 0;
        for (uint256 i = 0; i < amounts.length; i++) {
            uint256 amount = active == 0 ? 0 : amounts[i] % (active + 1);
            if (amount != 0) {
                vm.prank(PROVIDER);
                stakes.unstake(amount);
                active -= amount;
                waiting += amount;
                releaseTime = block.timestamp + UNBONDING;
            }
            vm.warp(block.timestamp + gaps[i] % (2 * UNBONDING));
            if (waiting != 0) {
                bool early = block.timestamp < releaseTime;
                if (early) {
                    vm.expectRevert(
                        abi.encodeWithSelector(IStakeManager.StillUnbonding.selector, releaseTime)
                    );
                }
                vm.prank(PROVIDER);
                stakes.withdraw();
                if (!early) waiting = 0;
            }
            (uint256 unbonding,) = stakes.unbondingOf(PROVIDER);
            vm.assertEq(unbonding, waiting);
            vm.assertEq(stakes.stakeOf(PROVIDER), active);
            vm.assertEq(token.balanceOf(PROVIDER), STAKE - active - waiting);
        }
    }
}
