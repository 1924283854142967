// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Fixture} from "../utils/Fixture.sol";

/// @notice PrimeToken: supply, ownership, permits.
contract TokenTest is Fixture {
    function test_starts_with_the_owner() public view {
        vm.assertEq(token.balanceOf(address(this)), 1_000_000 ether);
        vm.assertEq(token.owner(), address(this));
        vm.assertEq(uint256(token.decimals()), 18);
    }

    function test_ownership_moves_in_two_steps() public {
        token.transferOwnership(STRANGER);
        vm.assertEq(token.owner(), address(this));
        expectNotOwner(PROVIDER);
        vm.prank(PROVIDER);
        token.acceptOwnership();
        vm.prank(STRANGER);
        token.acceptOwnership();
        expectNotOwner(address(this));
        token.mint(address(this), 1);
        vm.prank(STRANGER);
        token.mint(PROVIDER, 1);
        vm.assertEq(token.balanceOf(PROVIDER), 1);
    }

    function test_a_permit_counts_once_and_in_time() public {
        (uint8 v, bytes32 r, bytes32 s) = signPermit(NODE_KEY, 5, 0, START);
        token.permit(NODE, PROVIDER, 5, START, v, r, s);
        vm.assertEq(token.allowance(NODE, PROVIDER), 5);
        vm.expectPartialRevert(bytes4(keccak256("ERC2612InvalidSigner(address,address)")));
        token.permit(NODE, PROVIDER, 5, START, v, r, s);

        (v, r, s) = signPermit(NODE_KEY, 6, 1, START);
        vm.warp(START + 1);
        vm.expectRevert(abi.encodeWithSignature("ERC2612ExpiredSignature(uint256)", START));
        token.permit(NODE, PROVIDER, 6, START, v, r, s);
    }

    function testFuzz_only_the_owners_key_permits(uint128 key, uint256 amount) public {
        vm.assume(key != 0 && key != NODE_KEY);
        (uint8 v, bytes32 r, bytes32 s) = signPermit(key, amount, 0, START);
        vm.expectPartialRevert(bytes4(keccak256("ERC2612InvalidSigner(address,address)")));
        token.permit(NODE, PROVIDER, amount, START, v, r, s);
    }

    function signPermit(uint256 key, uint256 amount, uint256 nonce, uint256 deadline)
        private
        view
        returns (uint8, bytes32, bytes32)
    {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
                ),
                NODE,
                PROVIDER,
                amount,
                nonce,
                deadline
            )
        );
        bytes memory packed = abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), structHash);
        return vm.sign(key, keccak256(packed));
    }

    function expectNotOwner(address account) private {
        vm.expectRevert(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", account));
    }
}
