// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {
    AccessControlDefaultAdminRules
} from "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";

/// @title Roles under one administrator
/// @notice Contracts name one another by role, so that cyclic references can be wired after
/// deployment and a module can be replaced without a proxy. There is exactly one administrator;
/// handing over takes a proposal, a day's delay and an acceptance by the new one. Whoever holds the
/// office can name any contract to any role and so is trusted with staked tokens: outside a
/// development chain it must be a timelock.
abstract contract Administered is AccessControlDefaultAdminRules {
    uint48 internal constant ADMIN_TRANSFER_DELAY = 1 days;

    constructor(address admin) AccessControlDefaultAdminRules(ADMIN_TRANSFER_DELAY, admin) {}
}
