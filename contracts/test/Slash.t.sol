// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPrimeNetwork} from "src/interfaces/IPrimeNetwork.sol";
import {IStakeManager} from "src/interfaces/IStakeManager.sol";
import {Fixture} from "./utils/Fixture.sol";

/// @notice PrimeNetwork.slash and the cap of StakeManager.slash.
contract SlashTest is Fixture {
    uint256 private constant STAKE = 1_000 ether;
    uint256 private constant CAP = 200 ether;
    bytes32 private constant REASON = keccak256("null proof");
    address private validator;

    function setUp() public override {
        super.setUp();
        registerProvider(PROVIDER, STAKE);
        validator = vm.addr(validatorKeys[0]);
    }

    function test_goes_to_the_treasury() public {
        vm.expectEmit(address(network));
        emit IPrimeNetwork.ProviderSlashed(PROVIDER, 50 ether, REASON, validator);
        vm.expectEmit(address(stakes));
        emit IStakeManager.Slashed(PROVIDER, 50 ether, REASON);
        slash(50 ether);
        vm.assertEq(token.balanceOf(TREASURY), 50 ether);
        vm.assertEq(token.balanceOf(validator), 0);
        vm.assertEq(stakes.stakeOf(PROVIDER), STAKE - 50 ether);
        vm.assertEq(stakes.totalActive(), STAKE - 50 ether);
        vm.assertEq(stakes.slashable(PROVIDER), CAP - 50 ether);
    }

    function test_the_cap_binds_all_validators_together() public {
        slash(150 ether);
        validator = vm.addr(validatorKeys[1]);
        expectCapExceeded(51 ether, 50 ether);
        slash(51 ether);
        slash(50 ether);
        expectCapExceeded(1, 0);
        slash(1);
    }

    function test_a_new_window_takes_its_share_of_what_is_left() public {
        slash(CAP);
        vm.warp(START + 1 days - 1);
        vm.assertEq(stakes.slashable(PROVIDER), 0);
        vm.warp(START + 1 days);
        vm.assertEq(stakes.slashable(PROVIDER), 160 ether);
        slash(160 ether);
        vm.assertEq(stakes.stakeOf(PROVIDER), STAKE - 360 ether);
    }

    function test_unbonding_stake_does_not_escape() public {
        vm.prank(PROVIDER);
        stakes.unstake(950 ether);
        slash(120 ether);
        vm.assertEq(stakes.stakeOf(PROVIDER), 0);
        (uint256 unbonding,) = stakes.unbondingOf(PROVIDER);
        vm.assertEq(unbonding, 880 ether);
        vm.assertEq(stakes.totalActive(), 0);
        vm.assertEq(stakes.totalUnbonding(), 880 ether);
    }

    function test_never_more_than_is_left_after_a_withdrawal() public {
        vm.prank(PROVIDER);
        stakes.unstake(990 ether);
        vm.warp(START + UNBONDING);
        slash(1 ether);
        vm.prank(PROVIDER);
        stakes.withdraw();
        vm.assertEq(stakes.slashable(PROVIDER), 9 ether);
        slash(9 ether);
        vm.assertEq(token.balanceOf(address(stakes)), 0);
    }

    function test_only_validators_and_settlement() public {
        vm.expectRevert(abi.encodeWithSelector(IPrimeNetwork.NotSlasher.selector, STRANGER));
        vm.prank(STRANGER);
        network.slash(PROVIDER, 1, REASON);

        network.grantRole(network.SETTLEMENT_ROLE(), STRANGER);
        vm.prank(STRANGER);
        network.slash(PROVIDER, 1, REASON);
        vm.assertEq(token.balanceOf(TREASURY), 1);

        bytes32 role = stakes.NETWORK_ROLE();
        vm.expectRevert(missingRole(validator, role));
        vm.prank(validator);
        stakes.slash(PROVIDER, 1, REASON);
    }

    function test_refuses_nothing_and_those_without_stake() public {
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.ZeroAmount.selector));
        slash(0);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.SlashCapExceeded.selector, 1, 0));
        vm.prank(validator);
        network.slash(STRANGER, 1, REASON);
    }

    /// @dev However a day's slashes are sliced, they take no more than the cap.
    function testFuzz_a_day_takes_at_most_the_cap(
        uint96[6] calldata amounts,
        uint16[6] calldata gaps
    ) public {
        uint256 taken = 0;
        for (uint256 i = 0; i < amounts.length; i++) {
            uint256 amount = 1 + amounts[i] % 120 ether;
            if (taken + amount > CAP) expectCapExceeded(amount, CAP - taken);
            else taken += amount;
            slash(amount);
            // Six gaps of less than four hours each stay within the window.
            vm.warp(block.timestamp + gaps[i] % 4 hours);
        }
        vm.assertEq(token.balanceOf(TREASURY), taken);
        vm.assertEq(stakes.stakeOf(PROVIDER), STAKE - taken);
    }

    function slash(uint256 amount) private {
        vm.prank(validator);
        network.slash(PROVIDER, amount, REASON);
    }

    function expectCapExceeded(uint256 asked, uint256 available) private {
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.SlashCapExceeded.selector, asked, available)
        );
    }
}
