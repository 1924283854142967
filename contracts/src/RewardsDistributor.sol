// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Administered} from "./Administered.sol";
import {IRewardsDistributor} from "./interfaces/IRewardsDistributor.sol";

/// @title Implementation of IRewardsDistributor, which describes the behaviour
/// @dev Kept apart from ReceiptSettlement so that money and proofs do not share a contract: a new way
/// to settle needs one new role holder here, and the limits below hold for it too.
contract RewardsDistributor is IRewardsDistributor, Administered {
    using SafeERC20 for IERC20;

    struct Account {
        uint256 funded;
        uint256 committed;
        uint256 paid;
    }

    bytes32 public constant POOL_ROLE = keccak256("POOL_ROLE");
    bytes32 public constant SETTLEMENT_ROLE = keccak256("SETTLEMENT_ROLE");

    IERC20 public immutable token;
    /// @notice Sum over pools of funded - paid.
    uint256 public totalHeld;
    mapping(uint256 poolId => Account) private _accounts;

    constructor(address admin, IERC20 token_) Administered(admin) {
        token = token_;
    }

    /// @inheritdoc IRewardsDistributor
    function deposit(uint256 poolId, uint256 amount) external onlyRole(POOL_ROLE) {
        if (amount == 0) revert ZeroAmount();
        uint256 needed = totalHeld + amount;
        uint256 balance = token.balanceOf(address(this));
        if (balance < needed) revert FundsNotReceived(balance, needed);
        totalHeld = needed;
        _accounts[poolId].funded += amount;
        emit Funded(poolId, amount);
    }

    /// @inheritdoc IRewardsDistributor
    function commit(uint256 poolId, uint256 total) external onlyRole(SETTLEMENT_ROLE) {
        Account storage account = _accounts[poolId];
        if (total > account.funded) revert CommitmentExceedsFunds(total, account.funded);
        if (total < account.paid) revert CommitmentBelowPaid(total, account.paid);
        account.committed = total;
        emit Committed(poolId, total);
    }

    /// @inheritdoc IRewardsDistributor
    function pay(uint256 poolId, address account, uint256 amount)
        external
        onlyRole(SETTLEMENT_ROLE)
    {
        if (amount == 0) revert ZeroAmount();
        Account storage books = _accounts[poolId];
        uint256 available = books.committed - books.paid;
        if (amount > available) revert PaymentExceedsCommitment(amount, available);
        books.paid += amount;
        totalHeld -= amount;
        emit Paid(poolId, account, amount);
        token.safeTransfer(account, amount);
    }

    /// @inheritdoc IRewardsDistributor
    function release(uint256 poolId, address to)
        external
        onlyRole(POOL_ROLE)
        returns (uint256 amount)
    {
        Account storage account = _accounts[poolId];
        amount = account.funded - account.committed;
        if (amount == 0) revert NothingToRelease(poolId);
        account.funded = account.committed;
        totalHeld -= amount;
        emit Released(poolId, to, amount);
        token.safeTransfer(to, amount);
    }

    /// @inheritdoc IRewardsDistributor
    function accountOf(uint256 poolId)
        external
        view
        returns (uint256 funded, uint256 committed, uint256 paid)
    {
        Account storage account = _accounts[poolId];
        return (account.funded, account.committed, account.paid);
    }
}
