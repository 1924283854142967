// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Administered} from "./Administered.sol";
import {IComputeRegistry} from "./interfaces/IComputeRegistry.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";

/// @title Implementation of IStakeManager, which describes the behaviour
/// @dev `stake` trusts no caller's word: it compares the token balance with the books. Slashed
/// tokens go to the treasury and never to whoever asked for the slash, so nobody profits from
/// accusing.
contract StakeManager is IStakeManager, Administered {
    using SafeERC20 for IERC20;

    struct Position {
        uint256 active;
        uint256 unbonding;
        uint64 releaseTime;
    }

    /// @dev What may still be slashed until `openedAt` + SLASH_WINDOW.
    struct SlashWindow {
        uint64 openedAt;
        uint192 allowance;
    }

    bytes32 public constant NETWORK_ROLE = keccak256("NETWORK_ROLE");
    uint64 public constant SLASH_WINDOW = 1 days;
    uint16 private constant ONE = 10_000;

    IERC20 public immutable token;
    IComputeRegistry public immutable computeRegistry;
    address public immutable treasury;
    /// @notice Seconds between `unstake` and `withdraw`.
    uint64 public immutable unbondingPeriod;
    uint256 public immutable baseStake;
    uint256 public immutable stakePerUnit;
    /// @notice Share of a provider's tokens that one window may take, in basis points.
    uint16 public immutable slashCap;

    uint256 public totalActive;
    uint256 public totalUnbonding;
    mapping(address provider => Position) private _positions;
    mapping(address provider => SlashWindow) private _windows;

    constructor(
        address admin,
        IERC20 token_,
        IComputeRegistry computeRegistry_,
        address treasury_,
        uint64 unbondingPeriod_,
        uint256 baseStake_,
        uint256 stakePerUnit_,
        uint16 slashCap_
    ) Administered(admin) {
        if (treasury_ == address(0)) revert ZeroAddress();
        if (slashCap_ > ONE) revert InvalidShare(slashCap_);
        token = token_;
        computeRegistry = computeRegistry_;
        treasury = treasury_;
        unbondingPeriod = unbondingPeriod_;
        baseStake = baseStake_;
        stakePerUnit = stakePerUnit_;
        slashCap = slashCap_;
    }

    /// @inheritdoc IStakeManager
    function stake(address provider, uint256 amount) external onlyRole(NETWORK_ROLE) {
        if (amount == 0) revert ZeroAmount();
        uint256 needed = totalActive + totalUnbonding + amount;
        uint256 balance = token.balanceOf(address(this));
        if (balance < needed) revert StakeNotReceived(balance, needed);
        _positions[provider].active += amount;
        totalActive += amount;
        emit Staked(provider, amount);
    }

    /// @inheritdoc IStakeManager
    function unstake(uint256 amount) external {
        if (amount == 0) revert ZeroAmount();
        Position storage position = _positions[msg.sender];
        if (amount > position.active) revert InsufficientStake(position.active, amount);
        uint256 remaining = position.active - amount;
        uint256 minimum = requiredStake(msg.sender);
        if (remaining < minimum) revert BelowMinimumStake(remaining, minimum);

        uint64 releaseTime = uint64(block.timestamp) + unbondingPeriod;
        position.active = remaining;
        position.unbonding += amount;
        position.releaseTime = releaseTime;
        totalActive -= amount;
        totalUnbonding += amount;
        emit Unstaked(msg.sender, amount, releaseTime);
    }

    /// @inheritdoc IStakeManager
    function withdraw() external {
        Position storage position = _positions[msg.sender];
        uint256 amount = position.unbonding;
        if (amount == 0) revert NothingUnbonding();
        if (block.timestamp < position.releaseTime) revert StillUnbonding(position.releaseTime);
        position.unbonding = 0;
        totalUnbonding -= amount;
        emit Withdrawn(msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IStakeManager
    function slash(address provider, uint256 amount, bytes32 reason)
        external
        onlyRole(NETWORK_ROLE)
    {
        if (amount == 0) revert ZeroAmount();
        (uint64 openedAt, uint256 allowance) = _slashAllowance(provider);
        if (amount > allowance) revert SlashCapExceeded(amount, allowance);
        _windows[provider] = SlashWindow(openedAt, SafeCast.toUint192(allowance - amount));

        Position storage position = _positions[provider];
        uint256 fromActive = Math.min(amount, position.active);
        position.active -= fromActive;
        position.unbonding -= amount - fromActive;
        totalActive -= fromActive;
        totalUnbonding -= amount - fromActive;
        emit Slashed(provider, amount, reason);
        token.safeTransfer(treasury, amount);
    }

    /// @inheritdoc IStakeManager
    function stakeOf(address provider) external view returns (uint256) {
        return _positions[provider].active;
    }

    /// @inheritdoc IStakeManager
    function unbondingOf(address provider)
        external
        view
        returns (uint256 amount, uint64 releaseTime)
    {
        Position storage position = _positions[provider];
        return (position.unbonding, position.releaseTime);
    }

    /// @inheritdoc IStakeManager
    function slashable(address provider) external view returns (uint256 allowance) {
        (, allowance) = _slashAllowance(provider);
    }

    /// @inheritdoc IStakeManager
    function minimumStake(uint256 computeUnits) public view returns (uint256) {
        return baseStake + stakePerUnit * computeUnits;
    }

    /// @inheritdoc IStakeManager
    function requiredStake(address provider) public view returns (uint256) {
        (, uint64 computeUnits,) = computeRegistry.providerOf(provider);
        return computeUnits == 0 ? 0 : minimumStake(computeUnits);
    }

    /// @dev A new window opens with the first slash after the last one closed, so the cap is a share
    /// of what the provider had then. Withdrawals since may have left less than the allowance.
    function _slashAllowance(address provider)
        private
        view
        returns (uint64 openedAt, uint256 allowance)
    {
        Position storage position = _positions[provider];
        uint256 held = position.active + position.unbonding;
        SlashWindow memory window = _windows[provider];
        if (window.openedAt == 0 || block.timestamp >= window.openedAt + SLASH_WINDOW) {
            return (uint64(block.timestamp), Math.mulDiv(held, slashCap, ONE));
        }
        return (window.openedAt, Math.min(window.allowance, held));
    }
}
