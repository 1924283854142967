// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PrimeToken} from "src/PrimeToken.sol";

/// @notice A token that keeps one percent of every transfer.
contract FeeToken is PrimeToken {
    constructor(address owner) PrimeToken(owner, 1_000_000 ether) {}

    function _update(address from, address to, uint256 amount) internal override {
        uint256 fee = from == address(0) || to == address(0) ? 0 : amount / 100;
        super._update(from, to, amount - fee);
        if (fee != 0) super._update(from, address(0xFEE), fee);
    }
}

/// @notice A token that lets someone act in the middle of a transfer, before or after the balances
/// move.
contract HookToken is PrimeToken {
    address private actor;
    bytes private action;
    bool private early;
    bool private acting;
    bool public succeeded;

    constructor(address owner) PrimeToken(owner, 1_000_000 ether) {}

    function arm(address actor_, bytes calldata action_, bool early_) external {
        (actor, action, early) = (actor_, action_, early_);
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (early) _act();
        super._update(from, to, amount);
        if (!early) _act();
    }

    function _act() private {
        if (acting || actor == address(0)) return;
        acting = true;
        (bool done, bytes memory answer) = actor.call(action);
        succeeded = done && abi.decode(answer, (bool));
        acting = false;
    }
}

/// @notice Makes calls in its own name.
contract Puppet {
    function act(address[] calldata targets, bytes[] calldata calls) external returns (bool all) {
        all = true;
        for (uint256 i = 0; i < calls.length; i++) {
            (bool done,) = targets[i].call(calls[i]);
            all = all && done;
        }
    }
}
