// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PrimeToken} from "src/PrimeToken.sol";

/// @notice A token that calls back in the middle of every transfer while it is armed, as one with
/// hooks for senders and receivers would.
contract HookedToken is PrimeToken {
    address public target;
    bytes public data;
    /// @notice How often it called, and how many of these calls succeeded.
    uint256 public calls;
    uint256 public successes;
    bytes public lastRefusal;
    bool private _calling;

    constructor(address owner, uint256 supply) PrimeToken(owner, supply) {}

    function arm(address target_, bytes calldata data_) external {
        (target, data, calls, successes) = (target_, data_, 0, 0);
    }

    function disarm() external {
        target = address(0);
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (target != address(0) && !_calling) hook();
        super._update(from, to, amount);
        if (target != address(0) && !_calling) hook();
    }

    function hook() private {
        _calling = true;
        calls++;
        (bool success, bytes memory result) = target.call(data);
        if (success) successes++;
        else lastRefusal = result;
        _calling = false;
    }
}
