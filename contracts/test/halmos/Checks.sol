// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PrimeToken} from "src/PrimeToken.sol";

/// @notice The cheat codes of the symbolic tests.
interface Symbolic {
    function prank(address sender) external;
    function warp(uint256 timestamp) external;
    function assume(bool condition) external pure;
    function addr(uint256 privateKey) external pure returns (address);
    function sign(uint256 privateKey, bytes32 digest)
        external
        pure
        returns (uint8 v, bytes32 r, bytes32 s);
}

/// @notice An authority that lets everyone call everything: access is not what is looked at here.
contract Anyone {
    function canCall(address, address, bytes4) external pure returns (bool, uint32) {
        return (true, 0);
    }
}

/// @notice What all symbolic tests start from: a token whose every unit belongs to the test.
abstract contract Checks {
    Symbolic internal constant vm = Symbolic(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);
    uint256 internal constant SUPPLY = type(uint128).max;

    PrimeToken internal token;
    address internal authority;

    function setUp() public virtual {
        token = new PrimeToken(address(this), SUPPLY);
        authority = address(new Anyone());
    }
}
