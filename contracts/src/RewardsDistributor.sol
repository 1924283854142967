// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IRewardsDistributor} from "./interfaces/IRewardsDistributor.sol";
import {IReceiptSettlement} from "./interfaces/IReceiptSettlement.sol";

/// @title Implementation of IRewardsDistributor, which describes the behaviour
/// @dev Money and proofs do not share a contract: whatever a pool's settlement gets wrong, it can pay
/// out of that pool's book only, and never more than is in it or than its roots have promised.
contract RewardsDistributor is IRewardsDistributor, AccessManaged {
    using SafeERC20 for IERC20;

    IERC20 public immutable token;
    /// @notice Sum over pools of funded - paid.
    uint256 public totalHeld;
    mapping(uint256 poolId => Book) private _books;
    /// @inheritdoc IRewardsDistributor
    mapping(uint256 poolId => mapping(address account => uint256)) public paidForTime;

    constructor(address access, IERC20 token_) AccessManaged(access) {
        token = token_;
    }

    /// @inheritdoc IRewardsDistributor
    function open(uint256 poolId, Strategy strategy, address settlement, uint88 rate)
        external
        restricted
    {
        if ((rate == 0) != (strategy == Strategy.SHARE)) revert InvalidRate(rate);
        bool byWork = strategy == Strategy.WORK;
        if (byWork && settlement.code.length == 0) revert NoSettlement();
        Book storage book = _books[poolId];
        // Another ComputePool that counts from 1, too, must not take over the books of this one's pools.
        bool known = book.strategy != Strategy.WORK || book.settlement != address(0);
        if (known) revert BookExists(poolId);
        book.strategy = strategy;
        book.settlement = byWork ? settlement : address(0);
        book.rate = rate;
        emit BookOpened(poolId, strategy, book.settlement, rate);
    }

    /// @inheritdoc IRewardsDistributor
    function deposit(uint256 poolId, uint256 amount) external restricted {
        if (amount == 0) revert ZeroAmount();
        uint256 needed = totalHeld + amount;
        uint256 balance = token.balanceOf(address(this));
        if (balance < needed) revert FundsNotReceived(balance, needed);
        totalHeld = needed;
        _books[poolId].funded += SafeCast.toUint128(amount);
        emit Funded(poolId, amount);
    }

    /// @inheritdoc IRewardsDistributor
    function pay(uint256 poolId, address account, uint256 amount) external {
        Book storage book = _books[poolId];
        if (msg.sender != book.settlement) revert NotSettlement(msg.sender);
        if (amount == 0) revert ZeroAmount();
        // Payouts that add up to more than the roots' totals must not eat into later epochs' budget.
        uint256 promised = IReceiptSettlement(msg.sender).committed(poolId);
        uint256 available = Math.saturatingSub(Math.min(promised, book.funded), book.paid);
        if (amount > available) revert PaymentExceedsFunds(amount, available);
        _pay(book, poolId, account, amount);
    }

    /// @inheritdoc IRewardsDistributor
    function payTime(
        uint256 poolId,
        address account,
        uint256 unitSeconds,
        uint256 totalUnitSeconds,
        bool ended
    ) external restricted returns (uint256 amount) {
        Book storage book = _books[poolId];
        uint256 earned = 0;
        if (book.strategy == Strategy.FIXED) {
            earned = book.rate * unitSeconds;
        } else if (book.strategy == Strategy.SHARE && ended) {
            earned = unitSeconds == 0 ? 0 : book.funded * unitSeconds / totalUnitSeconds;
        } else {
            revert WrongStrategy(book.strategy);
        }
        uint256 before = paidForTime[poolId][account];
        amount = Math.min(earned - before, book.funded - book.paid);
        if (amount == 0) revert NothingToClaim(poolId, account);
        // What is not paid for want of budget was not consumed: it is owed as before.
        paidForTime[poolId][account] = before + amount;
        _pay(book, poolId, account, amount);
    }

    /// @inheritdoc IRewardsDistributor
    function release(uint256 poolId, address to, uint256 totalUnitSeconds)
        external
        restricted
        returns (uint256 amount)
    {
        Book storage book = _books[poolId];
        uint256 owed = _owed(book, poolId, totalUnitSeconds);
        uint256 kept = Math.min(Math.max(owed, book.paid), book.funded);
        amount = book.funded - kept;
        if (amount == 0) revert NothingToRelease(poolId);
        book.funded = SafeCast.toUint128(kept);
        totalHeld -= amount;
        emit Released(poolId, to, amount);
        token.safeTransfer(to, amount);
    }

    /// @inheritdoc IRewardsDistributor
    function bookOf(uint256 poolId) external view returns (Book memory) {
        return _books[poolId];
    }

    /// @dev What accounts have a right to since the pool's beginning, as far as anybody knows.
    function _owed(Book storage book, uint256 poolId, uint256 totalUnitSeconds)
        private
        view
        returns (uint256)
    {
        if (book.strategy == Strategy.WORK) {
            return IReceiptSettlement(book.settlement).committed(poolId);
        }
        if (book.strategy == Strategy.FIXED) return book.rate * totalUnitSeconds;
        return totalUnitSeconds == 0 ? 0 : book.funded;
    }

    function _pay(Book storage book, uint256 poolId, address account, uint256 amount) private {
        book.paid += SafeCast.toUint128(amount);
        totalHeld -= amount;
        emit Paid(poolId, account, amount);
        token.safeTransfer(account, amount);
    }
}
