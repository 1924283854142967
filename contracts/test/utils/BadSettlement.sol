// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {RewardsDistributor} from "src/RewardsDistributor.sol";

/// @notice A settlement that says it has promised whatever it is told to say.
contract BadSettlement {
    RewardsDistributor private immutable purse;
    uint256 private promised;
    bool private refusing;
    uint256 private reentering;

    constructor(RewardsDistributor purse_) {
        purse = purse_;
    }

    function say(uint256 amount) external {
        promised = amount;
    }

    function refuse() external {
        refusing = true;
    }

    function reenter(uint256 poolId) external {
        refusing = false;
        reentering = poolId;
    }

    function pay(uint256 poolId, address account, uint256 amount) external {
        purse.pay(poolId, account, amount);
    }

    /// @dev Declared a view by its interface; here it is none.
    function committed(uint256) external returns (uint256) {
        if (refusing) revert("no");
        if (reentering != 0) purse.pay(reentering, address(this), 1);
        return promised;
    }
}
