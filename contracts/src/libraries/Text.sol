// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Length limits of names and URIs
/// @notice Every node reads these strings back from events, so the writer must not be able to make
/// them large.
library Text {
    uint256 internal constant MAX_NAME = 64;
    uint256 internal constant MAX_URI = 512;

    /// @notice A string is longer than its limit; both in bytes.
    error TextTooLong(uint256 length, uint256 limit);
    /// @notice A name must not be empty.
    error EmptyName();

    function checkName(string calldata name) internal pure {
        if (bytes(name).length == 0) revert EmptyName();
        _check(name, MAX_NAME);
    }

    function checkUri(string calldata uri) internal pure {
        _check(uri, MAX_URI);
    }

    function _check(string calldata text, uint256 limit) private pure {
        uint256 length = bytes(text).length;
        if (length > limit) revert TextTooLong(length, limit);
    }
}
