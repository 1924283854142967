// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The pools' purse
/// @notice Holds the tokens of all pools in separate books: paid <= committed <= funded for every
/// pool, whatever the contracts that order payments do. Funding comes in through ComputePool,
/// commitments and payments are ordered by ReceiptSettlement, what is left goes back to the pool's
/// creator through ComputePool.
interface IRewardsDistributor {
    event Funded(uint256 indexed poolId, uint256 amount);
    event Committed(uint256 indexed poolId, uint256 total);
    event Paid(uint256 indexed poolId, address indexed account, uint256 amount);
    event Released(uint256 indexed poolId, address indexed to, uint256 amount);

    error ZeroAmount();
    /// @notice The tokens were not sent to this contract before `deposit` was called.
    error FundsNotReceived(uint256 balance, uint256 needed);
    /// @notice A pool cannot promise more than it was funded with.
    error CommitmentExceedsFunds(uint256 asked, uint256 funded);
    /// @notice A promise cannot fall below what was already paid.
    error CommitmentBelowPaid(uint256 asked, uint256 paid);
    error PaymentExceedsCommitment(uint256 asked, uint256 available);
    error NothingToRelease(uint256 poolId);

    /// @notice Books `amount` tokens, already sent to this contract, for a pool. POOL_ROLE only.
    function deposit(uint256 poolId, uint256 amount) external;

    /// @notice Sets the pool's total of promised rewards since its beginning. SETTLEMENT_ROLE only.
    function commit(uint256 poolId, uint256 total) external;

    /// @notice Pays `amount` of the pool's promised tokens. SETTLEMENT_ROLE only.
    function pay(uint256 poolId, address account, uint256 amount) external;

    /// @notice Pays what is not promised to `to` and returns the amount. POOL_ROLE only.
    function release(uint256 poolId, address to) external returns (uint256 amount);

    /// @notice A pool's books; all are totals since its beginning, `funded` less what was released.
    function accountOf(uint256 poolId)
        external
        view
        returns (uint256 funded, uint256 committed, uint256 paid);
}
