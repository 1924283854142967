// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputeRegistry} from "src/interfaces/IComputeRegistry.sol";
import {StakeManager} from "src/StakeManager.sol";
import {Checks} from "./Checks.sol";

/// @notice StakeManager.slash for all amounts, shares and times.
contract SlashChecks is Checks {
    address private constant PROVIDER = address(0xB0B);
    address private constant TREASURY = address(0x7EA);
    address private constant INFORMER = address(0x1F0);
    uint16 private constant CAP = 2_000;
    uint16 private constant BOUNTY = 3_000;

    StakeManager private stakes;
    uint256 private units;

    function setUp() public override {
        super.setUp();
        vm.warp(1_800_000_000);
        stakes = new StakeManager(
            authority,
            token,
            IComputeRegistry(address(this)),
            StakeManager.Terms(TREASURY, 7 days, 0, 0, CAP, BOUNTY)
        );
    }

    /// @dev This test is the registry, too: the provider has no nodes.
    function providerOf(address) external pure returns (uint64, uint64, uint256) {
        return (1, 0, 0);
    }

    /// @dev The cap is the share that it says, rounded down.
    function check_allowance(uint16 active) public {
        hold(active, 0);
        uint256 allowance = stakes.slashable(PROVIDER);
        assert(allowance * 10_000 <= uint256(active) * CAP);
        assert(allowance * 10_000 + 10_000 > uint256(active) * CAP);
    }

    /// @dev One slash takes the share asked for or the cap, active tokens first.
    function check_one_slash(uint32 active, uint32 unbonding, uint16 share) public {
        hold(active, unbonding);
        uint256 held = uint256(active) + unbonding;
        uint256 allowance = stakes.slashable(PROVIDER);
        uint256 amount = stakes.slash(PROVIDER, share, "", address(0));
        assert(amount <= allowance && amount <= held * share / 10_000);
        assert(amount == allowance || amount == held * share / 10_000);
        (uint256 waiting,) = stakes.unbondingOf(PROVIDER);
        assert(stakes.stakeOf(PROVIDER) + waiting + amount == held);
        assert(waiting == unbonding || stakes.stakeOf(PROVIDER) == 0);
    }

    /// @dev What is slashed goes to the informer and the treasury, and the rest stays covered.
    function check_where_slashed_tokens_go(uint32 active, uint16 share) public {
        hold(active, 0);
        uint256 amount = stakes.slash(PROVIDER, share, "", INFORMER);
        assert(token.balanceOf(INFORMER) == amount * BOUNTY / 10_000);
        assert(token.balanceOf(INFORMER) + token.balanceOf(TREASURY) == amount);
        assert(token.balanceOf(address(stakes)) == stakes.stakeOf(PROVIDER));
    }

    /// @dev Two slashes within a window take at most what the first found.
    function check_two_slashes_within_a_window(uint32 active, uint16 one, uint16 two, uint16 gap)
        public
    {
        hold(active, 0);
        uint256 allowance = stakes.slashable(PROVIDER);
        uint256 first = stakes.slash(PROVIDER, one, "", address(0));
        // A slash of nothing opens no window.
        vm.assume(first != 0);
        vm.warp(block.timestamp + gap);
        assert(stakes.slashable(PROVIDER) <= allowance - first);
        uint256 second = stakes.slash(PROVIDER, two, "", address(0));
        assert(first + second <= allowance);
    }

    /// @dev A closed window opens anew with a share of what is left, however little that is.
    function check_a_window_after_another(uint32 active, uint16 one, uint16 two, uint16 gap)
        public
    {
        hold(active, 0);
        uint256 first = stakes.slash(PROVIDER, one, "", address(0));
        vm.warp(block.timestamp + 1 days + gap);
        uint256 left = stakes.stakeOf(PROVIDER);
        assert(left == active - first);
        assert(stakes.slashable(PROVIDER) == left * CAP / 10_000);
        uint256 second = stakes.slash(PROVIDER, two, "", address(0));
        assert(second <= left * CAP / 10_000);
        assert(stakes.stakeOf(PROVIDER) == left - second);
    }

    /// @dev Stake that comes within a window raises what can be taken by its share, and no more.
    function check_stake_within_a_window(uint32 active, uint16 share, uint32 added) public {
        vm.assume(added != 0);
        hold(active, 0);
        uint256 allowance = stakes.slashable(PROVIDER);
        uint256 first = stakes.slash(PROVIDER, share, "", address(0));
        vm.assume(first != 0);
        stake(added);
        uint256 raised = allowance - first + uint256(added) * CAP / 10_000;
        uint256 held = stakes.stakeOf(PROVIDER);
        assert(stakes.slashable(PROVIDER) == (raised < held ? raised : held));
    }

    function hold(uint256 active, uint256 unbonding) private {
        if (active + unbonding != 0) stake(active + unbonding);
        if (unbonding == 0) return;
        vm.prank(PROVIDER);
        stakes.unstake(unbonding);
    }

    function stake(uint256 amount) private {
        assert(token.transfer(address(stakes), amount));
        stakes.stake(PROVIDER, amount);
    }
}
