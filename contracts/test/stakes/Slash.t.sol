// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStakeManager} from "src/interfaces/IStakeManager.sol";
import {Fixture} from "../utils/Fixture.sol";

/// @notice StakeManager.slash: the cap, the window, the bounty. The test contract is a slasher.
contract SlashTest is Fixture {
    uint256 private constant STAKE = 1_000 ether;
    uint256 private constant CAP = 200 ether;
    bytes32 private constant REASON = keccak256("null proof");
    address private constant INFORMER = address(0x1F0);

    function setUp() public override {
        super.setUp();
        registerProvider(PROVIDER, STAKE);
        access.grantRole(access.SLASHER(), address(this), 0);
    }

    function test_a_share_goes_to_the_informer_the_rest_to_the_treasury() public {
        vm.expectEmit(address(stakes));
        emit IStakeManager.Slashed(PROVIDER, 50 ether, REASON, INFORMER, 15 ether);
        vm.assertEq(stakes.slash(PROVIDER, 500, REASON, INFORMER), 50 ether);
        vm.assertEq(token.balanceOf(INFORMER), 15 ether);
        vm.assertEq(token.balanceOf(TREASURY), 35 ether);
        vm.assertEq(stakes.stakeOf(PROVIDER), STAKE - 50 ether);
        vm.assertEq(stakes.totalActive(), 3 * VALIDATOR_STAKE + STAKE - 50 ether);
        vm.assertEq(stakes.slashable(PROVIDER), CAP - 50 ether);
    }

    function test_without_an_informer_all_goes_to_the_treasury() public {
        vm.expectEmit(address(stakes));
        emit IStakeManager.Slashed(PROVIDER, 50 ether, REASON, address(0), 0);
        stakes.slash(PROVIDER, 500, REASON, address(0));
        vm.assertEq(token.balanceOf(TREASURY), 50 ether);
    }

    function test_informing_on_oneself_is_no_way_out() public {
        stakes.slash(PROVIDER, 2_000, REASON, PROVIDER);
        vm.assertEq(token.balanceOf(PROVIDER), 60 ether);
        vm.assertEq(token.balanceOf(TREASURY), 140 ether);
    }

    function test_what_is_beyond_the_cap_is_not_taken_and_no_error() public {
        vm.assertEq(stakes.slash(PROVIDER, 1_500, REASON, INFORMER), 150 ether);
        vm.assertEq(stakes.slash(PROVIDER, 1_000, REASON, INFORMER), 50 ether);
        vm.assertEq(stakes.slash(PROVIDER, 10_000, REASON, INFORMER), 0);
        vm.assertEq(stakes.stakeOf(PROVIDER), STAKE - CAP);
    }

    function test_a_new_window_takes_its_share_of_what_is_left() public {
        slash(10_000);
        vm.warp(START + 1 days - 1);
        vm.assertEq(stakes.slashable(PROVIDER), 0);
        vm.warp(START + 1 days);
        vm.assertEq(stakes.slashable(PROVIDER), 160 ether);
        slash(10_000);
        vm.assertEq(stakes.stakeOf(PROVIDER), STAKE - 360 ether);
    }

    function test_a_slash_of_nothing_opens_no_window() public {
        vm.assertEq(stakes.slash(PROVIDER, 0, REASON, INFORMER), 0);
        vm.warp(START + 1 days - 1);
        slash(10_000);
        vm.warp(START + 1 days);
        vm.assertEq(stakes.slashable(PROVIDER), 0);
    }

    /// @dev Otherwise a small slash would shield a big stake for a day.
    function test_stake_that_comes_within_a_window_can_be_slashed_in_it() public {
        slash(10_000);
        giveTokens(PROVIDER, address(network), 10_000 ether);
        vm.prank(PROVIDER);
        network.increaseStake(10_000 ether);
        vm.assertEq(stakes.slashable(PROVIDER), 2_000 ether);
        slash(10_000);
        vm.assertEq(stakes.stakeOf(PROVIDER), 8_800 ether);
        vm.assertEq(stakes.slashable(PROVIDER), 0);
    }

    function test_unbonding_stake_does_not_escape() public {
        vm.prank(PROVIDER);
        stakes.unstake(950 ether);
        vm.assertEq(stakes.slash(PROVIDER, 1_200, REASON, address(0)), 120 ether);
        vm.assertEq(stakes.stakeOf(PROVIDER), 0);
        (uint256 unbonding,) = stakes.unbondingOf(PROVIDER);
        vm.assertEq(unbonding, 880 ether);
        vm.assertEq(stakes.totalActive(), 3 * VALIDATOR_STAKE);
        vm.assertEq(stakes.totalUnbonding(), 880 ether);
    }

    function test_never_more_than_is_left_after_a_withdrawal() public {
        vm.prank(PROVIDER);
        stakes.unstake(990 ether);
        vm.warp(START + UNBONDING);
        slash(10);
        vm.prank(PROVIDER);
        stakes.withdraw();
        vm.assertEq(stakes.slashable(PROVIDER), 9 ether);
        slash(10_000);
        vm.assertEq(token.balanceOf(address(stakes)), 3 * VALIDATOR_STAKE);
    }

    function test_a_validators_weight_falls_with_its_stake() public {
        stakes.slash(validatorProvider(1), 1_000, REASON, address(0));
        vm.assertEq(network.weightOf(validator(1)), 900 ether);
        vm.assertEq(network.totalWeight(), 2_900 ether);
    }

    function test_refuses_more_than_all_and_takes_nothing_of_nobody() public {
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.InvalidShare.selector, 10_001));
        stakes.slash(PROVIDER, 10_001, REASON, INFORMER);
        vm.assertEq(stakes.slash(STRANGER, 10_000, REASON, INFORMER), 0);
        vm.assertEq(stakes.slash(address(0), 10_000, REASON, INFORMER), 0);
    }

    /// @dev However a day's slashes are sliced and whatever is staked in between, they take no more
    /// than the cap's share, and shares add up.
    function testFuzz_a_day_takes_at_most_the_cap(
        uint16[6] calldata shares,
        uint16[6] calldata gaps,
        uint96[6] calldata added
    ) public {
        uint256 taken = 0;
        uint256 base = STAKE;
        slash(1);
        taken = STAKE / 10_000;
        for (uint256 i = 0; i < shares.length; i++) {
            uint256 held = stakes.stakeOf(PROVIDER);
            uint256 amount = stakes.slash(PROVIDER, shares[i] % 10_001, REASON, INFORMER);
            vm.assertLe(amount, held * (shares[i] % 10_001) / 10_000, "within the share asked");
            taken += amount;
            vm.assertLe(taken, base * SLASH_CAP / 10_000, "within the cap");
            giveTokens(PROVIDER, address(network), uint256(added[i]) + 1);
            vm.prank(PROVIDER);
            network.increaseStake(uint256(added[i]) + 1);
            base += uint256(added[i]) + 1;
            // Six gaps of less than four hours each stay within the window.
            vm.warp(block.timestamp + gaps[i] % 4 hours);
        }
        vm.assertEq(token.balanceOf(TREASURY) + token.balanceOf(INFORMER), taken);
        vm.assertEq(stakes.stakeOf(PROVIDER), base - taken);
    }

    function slash(uint16 basisPoints) private {
        stakes.slash(PROVIDER, basisPoints, REASON, address(0));
    }
}
