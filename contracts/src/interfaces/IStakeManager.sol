// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Providers' stakes
/// @notice Tokens are active (they back the provider's nodes) or unbonding (asked back, still
/// slashable, withdrawable after the unbonding period). A provider has one unbonding balance:
/// asking for more restarts the clock for all of it, which keeps slashing and withdrawal at a
/// constant cost. The contract's token balance covers active + unbonding at all times.
interface IStakeManager {
    event Staked(address indexed provider, uint256 amount);
    event Unstaked(address indexed provider, uint256 amount, uint64 releaseTime);
    event Withdrawn(address indexed provider, uint256 amount);
    /// @param bounty What of `amount` went to `informer`; the rest went to the treasury.
    event Slashed(
        address indexed provider,
        uint256 amount,
        bytes32 reason,
        address indexed informer,
        uint256 bounty
    );
    event ValidatingChanged(address indexed provider, bool validating);

    error ZeroAmount();
    error ZeroAddress();
    /// @notice A share above 100 %.
    error InvalidShare(uint16 basisPoints);
    /// @notice The tokens were not sent to this contract before `stake` was called.
    error StakeNotReceived(uint256 balance, uint256 needed);
    error InsufficientStake(uint256 stake, uint256 asked);
    /// @notice What would remain is less than the provider's nodes need: remove nodes first.
    error BelowMinimumStake(uint256 remaining, uint256 minimum);
    error NothingUnbonding();
    /// @notice Too early; try again at `releaseTime` (Unix seconds).
    error StillUnbonding(uint64 releaseTime);

    /// @notice Books `amount` tokens, already sent to this contract, as `provider`'s active stake.
    /// PrimeNetwork only: providers stake through PrimeNetwork.
    function stake(address provider, uint256 amount) external;

    /// @notice Moves the caller's active stake to unbonding. What its nodes need must remain.
    function unstake(uint256 amount) external;

    /// @notice Pays the caller's unbonding balance out, once its time has come.
    function withdraw() external;

    /// @notice Counts a provider's active stake as a validator's from now on, or no longer.
    /// PrimeNetwork only.
    function setValidating(address provider, bool validating) external;

    /// @notice Takes up to `basisPoints` of a provider's tokens, active ones first: `bountyShare()` of
    /// it to `informer`, if that is not zero, the rest to the treasury. At most a fixed share (the
    /// cap) of what the provider had when the window opened and has staked since is taken within one
    /// window, whoever asks; what is beyond is not taken and no error, so that nobody can shield
    /// another by exhausting its window. A window of a day opens with the first slash after the last
    /// one closed. Slashers only.
    /// @param reason A code or the hash of the evidence.
    function slash(address provider, uint16 basisPoints, bytes32 reason, address informer)
        external
        returns (uint256 amount);

    /// @notice Active stake.
    function stakeOf(address provider) external view returns (uint256);

    /// @notice Active stake of a provider that validates, 0 for others.
    function weightOf(address provider) external view returns (uint256);

    /// @notice Sum of all weights.
    function totalWeight() external view returns (uint256);

    /// @notice Seconds between `unstake` and `withdraw`.
    function unbondingPeriod() external view returns (uint64);

    /// @notice Share of slashed tokens, in basis points, that goes to whoever proved the fault.
    function bountyShare() external view returns (uint16);

    function treasury() external view returns (address);

    /// @notice Unbonding balance and the Unix time (seconds) from which it can be withdrawn.
    function unbondingOf(address provider)
        external
        view
        returns (uint256 amount, uint64 releaseTime);

    /// @notice Stake that a provider of `computeUnits` needs: a base plus an amount per unit.
    function minimumStake(uint256 computeUnits) external view returns (uint256);

    /// @notice Stake that `provider` needs for its present nodes; 0 when it has none.
    function requiredStake(address provider) external view returns (uint256);

    /// @notice How much of `provider`'s tokens could be slashed now.
    function slashable(address provider) external view returns (uint256);
}
