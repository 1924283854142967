// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IComputeRegistry} from "./interfaces/IComputeRegistry.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";

/// @title Implementation of IStakeManager, which describes the behaviour
/// @dev `stake` trusts no caller's word: it compares the token balance with the books. Of slashed
/// tokens a fixed share goes to whoever proved the fault, the rest to the treasury; a provider that
/// informs on itself therefore still loses.
contract StakeManager is IStakeManager, AccessManaged {
    using SafeERC20 for IERC20;

    struct Position {
        uint128 active;
        uint128 unbonding;
        uint64 releaseTime;
        bool validating;
    }

    /// @param treasury Receives what is slashed, less bounties.
    /// @param unbondingPeriod Seconds between `unstake` and `withdraw`.
    /// @param slashCap Share of a provider's tokens that one window may take, in basis points.
    /// @param bountyShare Share of slashed tokens for the informer, in basis points.
    struct Terms {
        address treasury;
        uint64 unbondingPeriod;
        uint256 baseStake;
        uint256 stakePerUnit;
        uint16 slashCap;
        uint16 bountyShare;
    }

    /// @dev What may still be slashed until `openedAt` + SLASH_WINDOW.
    struct SlashWindow {
        uint64 openedAt;
        uint192 allowance;
    }

    uint64 public constant SLASH_WINDOW = 1 days;
    uint16 private constant ONE = 10_000;

    IERC20 public immutable token;
    IComputeRegistry public immutable computeRegistry;
    /// @inheritdoc IStakeManager
    address public immutable treasury;
    /// @inheritdoc IStakeManager
    uint64 public immutable unbondingPeriod;
    uint256 public immutable baseStake;
    uint256 public immutable stakePerUnit;
    /// @notice Share of a provider's tokens that one window may take, in basis points.
    uint16 public immutable slashCap;
    /// @inheritdoc IStakeManager
    uint16 public immutable bountyShare;

    uint256 public totalActive;
    uint256 public totalUnbonding;
    /// @inheritdoc IStakeManager
    uint256 public totalWeight;
    mapping(address provider => Position) private _positions;
    mapping(address provider => SlashWindow) private _windows;

    constructor(
        address access,
        IERC20 token_,
        IComputeRegistry computeRegistry_,
        Terms memory terms
    ) AccessManaged(access) {
        if (terms.treasury == address(0)) revert ZeroAddress();
        if (terms.slashCap > ONE) revert InvalidShare(terms.slashCap);
        // All of it would let a slashed provider take its tokens back through an informer of its own.
        if (terms.bountyShare > ONE / 2) revert InvalidShare(terms.bountyShare);
        token = token_;
        computeRegistry = computeRegistry_;
        treasury = terms.treasury;
        unbondingPeriod = terms.unbondingPeriod;
        baseStake = terms.baseStake;
        stakePerUnit = terms.stakePerUnit;
        slashCap = terms.slashCap;
        bountyShare = terms.bountyShare;
    }

    /// @inheritdoc IStakeManager
    function stake(address provider, uint256 amount) external restricted {
        if (amount == 0) revert ZeroAmount();
        uint256 needed = totalActive + totalUnbonding + amount;
        uint256 balance = token.balanceOf(address(this));
        if (balance < needed) revert StakeNotReceived(balance, needed);
        Position storage position = _positions[provider];
        position.active += SafeCast.toUint128(amount);
        totalActive += amount;
        if (position.validating) totalWeight += amount;
        SlashWindow storage window = _windows[provider];
        if (_isOpen(window)) {
            window.allowance += SafeCast.toUint192(amount * slashCap / ONE);
        }
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
        position.active = SafeCast.toUint128(remaining);
        position.unbonding += SafeCast.toUint128(amount);
        position.releaseTime = releaseTime;
        totalActive -= amount;
        totalUnbonding += amount;
        if (position.validating) totalWeight -= amount;
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
    function setValidating(address provider, bool validating) external restricted {
        Position storage position = _positions[provider];
        if (position.validating == validating) return;
        position.validating = validating;
        totalWeight = validating ? totalWeight + position.active : totalWeight - position.active;
        emit ValidatingChanged(provider, validating);
    }

    /// @inheritdoc IStakeManager
    function slash(address provider, uint16 basisPoints, bytes32 reason, address informer)
        external
        restricted
        returns (uint256 amount)
    {
        if (basisPoints > ONE) revert InvalidShare(basisPoints);
        Position storage position = _positions[provider];
        uint256 held = uint256(position.active) + position.unbonding;
        (uint64 openedAt, uint256 allowance) = _slashAllowance(provider);
        amount = Math.min(held * basisPoints / ONE, allowance);
        if (amount == 0) return 0;
        _windows[provider] = SlashWindow(openedAt, SafeCast.toUint192(allowance - amount));

        uint256 fromActive = Math.min(amount, position.active);
        position.active -= SafeCast.toUint128(fromActive);
        position.unbonding -= SafeCast.toUint128(amount - fromActive);
        totalActive -= fromActive;
        totalUnbonding -= amount - fromActive;
        if (position.validating) totalWeight -= fromActive;
        uint256 bounty = informer == address(0) ? 0 : amount * bountyShare / ONE;
        emit Slashed(provider, amount, reason, informer, bounty);
        if (bounty != 0) token.safeTransfer(informer, bounty);
        token.safeTransfer(treasury, amount - bounty);
    }

    /// @inheritdoc IStakeManager
    function stakeOf(address provider) external view returns (uint256) {
        return _positions[provider].active;
    }

    /// @inheritdoc IStakeManager
    function weightOf(address provider) external view returns (uint256) {
        Position storage position = _positions[provider];
        return position.validating ? position.active : 0;
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
    /// of what the provider had then and has staked since: fresh stake is never beyond reach.
    /// Withdrawals since may have left less than the allowance.
    function _slashAllowance(address provider)
        private
        view
        returns (uint64 openedAt, uint256 allowance)
    {
        Position storage position = _positions[provider];
        uint256 held = uint256(position.active) + position.unbonding;
        SlashWindow storage window = _windows[provider];
        if (_isOpen(window)) return (window.openedAt, Math.min(window.allowance, held));
        return (uint64(block.timestamp), held * slashCap / ONE);
    }

    function _isOpen(SlashWindow storage window) private view returns (bool) {
        uint64 openedAt = window.openedAt;
        return openedAt != 0 && block.timestamp < openedAt + SLASH_WINDOW;
    }
}
