// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {Fixture} from "./utils/Fixture.sol";
import {Merkle} from "./utils/Merkle.sol";

/// @notice Gas of the calls that recur each epoch. Each call is a transaction of its own, so the
/// figures hold calldata and the base fee of 21,000. They are written to snapshots/Gas.json, which is
/// committed: a change of cost is a reviewed difference (FORGE_SNAPSHOT_CHECK=true fails on one).
/// forge-config: default.isolate = true
contract GasTest is Fixture {
    uint256 private constant ACCOUNTS = 64;
    uint256 private poolId;
    bytes32[] private leaves;

    function setUp() public override {
        super.setUp();
        poolId = activePool(address(0), 1_000 ether);
        settlement.setQuorum(3);
    }

    function test_gas_of_an_epoch() public {
        post(1, 1 ether);
        vm.snapshotGasLastCall("Gas", "postRoot, 3 signatures, first epoch");
        vm.warp(block.timestamp + WINDOW);
        claim(7, 1 ether);
        vm.snapshotGasLastCall("Gas", "claim, 64 accounts, first of the account");

        post(2, 2 ether);
        vm.warp(block.timestamp + WINDOW);
        post(3, 3 ether);
        vm.snapshotGasLastCall("Gas", "postRoot, 3 signatures, third epoch and later");
        vm.warp(block.timestamp + WINDOW);
        claim(7, 3 ether);
        vm.snapshotGasLastCall("Gas", "claim, 64 accounts, later");
        vm.assertEq(token.balanceOf(account(7)), 3 ether);
    }

    function post(uint64 epoch, uint256 each) private {
        leaves = new bytes32[](ACCOUNTS);
        for (uint256 i = 0; i < ACCOUNTS; i++) {
            leaves[i] = Merkle.payoutLeaf(account(i), each);
        }
        IReceiptSettlement.EpochRoot memory root =
            epochRoot(poolId, epoch, Merkle.root(leaves), each * ACCOUNTS);
        bytes[] memory signatures = signRoot(root, 3);
        settlement.postRoot(root, signatures);
    }

    function claim(uint256 index, uint256 cumulative) private {
        settlement.claim(poolId, account(index), cumulative, Merkle.proof(leaves, index));
    }

    function account(uint256 index) private pure returns (address) {
        return vm.addr(0xACC0000 + index);
    }
}
