// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title The token in which providers stake and pools pay
/// @notice An ERC-20 with 18 decimals and ERC-2612 permits. The owner may mint; ownership moves in
/// two steps, so it cannot be lost to a mistyped address.
contract PrimeToken is ERC20, ERC20Permit, Ownable2Step {
    /// @param initialOwner Receives the initial supply and the right to mint.
    /// @param initialSupply In wei of the token (1e-18).
    constructor(address initialOwner, uint256 initialSupply)
        ERC20("Prime", "PRIME")
        ERC20Permit("Prime")
        Ownable(initialOwner)
    {
        _mint(initialOwner, initialSupply);
    }

    /// @notice Creates `amount` new tokens for `account`. Owner only.
    function mint(address account, uint256 amount) external onlyOwner {
        _mint(account, amount);
    }
}
