// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The pools' purse
/// @notice Holds the tokens of all pools in separate books: paid <= funded for every pool, whatever
/// the contracts that order payments do, and never more than they say they have promised. How a pool rewards is fixed when it is created:
/// WORK pays for validated work, at most `rate` wei a unit; the contract that the pool's domain names
/// (ReceiptSettlement) orders the payments. FIXED pays `rate` wei for each compute unit and second of
/// membership. SHARE divides the whole budget, once the pool has ended, by compute units times
/// seconds of membership.
interface IRewardsDistributor {
    enum Strategy {
        WORK,
        FIXED,
        SHARE
    }

    /// @param settlement WORK: who may order payments. Zero for the others.
    /// @param rate Wei: WORK for a unit of work, FIXED for a compute unit and second; SHARE 0.
    /// @dev Fits two storage slots.
    /// @param funded All that was ever deposited, less what was released.
    struct Book {
        Strategy strategy;
        address settlement;
        uint88 rate;
        uint128 funded;
        uint128 paid;
    }

    event BookOpened(
        uint256 indexed poolId, Strategy strategy, address indexed settlement, uint88 rate
    );
    event Funded(uint256 indexed poolId, uint256 amount);
    event Paid(uint256 indexed poolId, address indexed account, uint256 amount);
    event Released(uint256 indexed poolId, address indexed to, uint256 amount);

    error ZeroAmount();
    /// @notice The rate does not fit the strategy: 0 for SHARE, above 0 for the others.
    error InvalidRate(uint88 rate);
    /// @notice WORK needs a domain that names its settlement contract.
    error NoSettlement();
    error BookExists(uint256 poolId);
    /// @notice The tokens were not sent to this contract before `deposit` was called.
    error FundsNotReceived(uint256 balance, uint256 needed);
    error NotSettlement(address caller);
    error WrongStrategy(Strategy strategy);
    error PaymentExceedsFunds(uint256 asked, uint256 available);
    error NothingToClaim(uint256 poolId, address account);
    error NothingToRelease(uint256 poolId);

    /// @notice Opens a new pool's book. ComputePool only.
    function open(uint256 poolId, Strategy strategy, address settlement, uint88 rate) external;

    /// @notice Books `amount` tokens, already sent to this contract, for a pool. ComputePool only.
    function deposit(uint256 poolId, uint256 amount) external;

    /// @notice WORK: pays `amount` to `account`, within what is left of the funds and of the
    /// settlement's own `committed(poolId)`. The pool's settlement only.
    function pay(uint256 poolId, address account, uint256 amount) external;

    /// @notice FIXED and SHARE: pays `account` what its `unitSeconds` of `totalUnitSeconds` have earned
    /// beyond what it was paid; where the budget falls short, as much as is there, and the rest stays
    /// owed. ComputePool only, which says whether the pool has `ended`.
    function payTime(
        uint256 poolId,
        address account,
        uint256 unitSeconds,
        uint256 totalUnitSeconds,
        bool ended
    ) external returns (uint256 amount);

    /// @notice Pays what no account can claim any more to `to`. ComputePool only.
    function release(uint256 poolId, address to, uint256 totalUnitSeconds)
        external
        returns (uint256 amount);

    function bookOf(uint256 poolId) external view returns (Book memory);

    /// @notice Total that a pool has paid an account for time.
    function paidForTime(uint256 poolId, address account) external view returns (uint256);
}
