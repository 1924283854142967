// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {ComputePool} from "src/ComputePool.sol";
import {PrimeNetwork} from "src/PrimeNetwork.sol";
import {ReceiptSettlement} from "src/ReceiptSettlement.sol";
import {Fixture} from "./utils/Fixture.sol";
import {Merkle} from "./utils/Merkle.sol";

/// @notice test/vectors.json, which tools/vectors.py makes with other people's libraries and which
/// the Python tests read too. Contracts move to the file's addresses, since they are signed over.
contract VectorsTest is Fixture {
    string private json;

    function setUp() public override {
        super.setUp();
        json = vm.readFile("test/vectors.json");
        vm.chainId(vm.parseJsonUint(json, ".chainId"));
        network = PrimeNetwork(move(address(network), ".verifiers.PrimeNetwork"));
        pools = ComputePool(move(address(pools), ".verifiers.ComputePool"));
        settlement = ReceiptSettlement(move(address(settlement), ".verifiers.ReceiptSettlement"));
        stakes.grantRole(stakes.NETWORK_ROLE(), address(network));
        registry.grantRole(registry.NETWORK_ROLE(), address(network));
        registry.grantRole(registry.POOL_ROLE(), address(pools));
    }

    function test_node_registration_and_pool_invite() public {
        address provider = account("provider");
        address node = account("node");
        uint256 deadline = vm.parseJsonUint(json, ".nodeRegistration.message.deadline");
        registerProvider(provider, BASE_STAKE + UNIT_STAKE);
        vm.prank(provider);
        network.registerNode(node, "", 1, deadline, signature(".nodeRegistration", 0));

        // The moved contract starts with empty storage, so its first pool has the vector's id.
        uint256 domainId = domains.domainCount() + 1;
        domains.grantRole(domains.NETWORK_ROLE(), address(this));
        domains.create(address(this), "x", address(0), "");
        vm.prank(CREATOR);
        uint256 poolId = pools.createPool(domainId, "pool", "", account("inviter"));
        vm.assertEq(poolId, vm.parseJsonUint(json, ".poolInvite.message.poolId"));
        vm.prank(CREATOR);
        pools.start(poolId);
        vm.prank(node);
        pools.join(poolId, node, deadline, signature(".poolInvite", 0));
        vm.assertTrue(pools.isMember(poolId, node));
    }

    function test_epoch_root() public view {
        IReceiptSettlement.EpochRoot memory root = IReceiptSettlement.EpochRoot({
            poolId: number(".epochRoot", "poolId"),
            epoch: uint64(number(".epochRoot", "epoch")),
            receiptsRoot: word(".epochRoot", "receiptsRoot"),
            payoutsRoot: word(".epochRoot", "payoutsRoot"),
            totalPayout: number(".epochRoot", "totalPayout"),
            dataHash: word(".epochRoot", "dataHash")
        });
        vm.assertEq(settlement.rootDigest(root), vm.parseJsonBytes32(json, ".epochRoot.digest"));
        address first = vm.parseJsonAddress(json, ".epochRoot.signatures[0].signer");
        address second = vm.parseJsonAddress(json, ".epochRoot.signatures[1].signer");
        vm.assertTrue(first < second);
    }

    function test_receipt() public view {
        IReceiptSettlement.Receipt memory receipt = IReceiptSettlement.Receipt({
            jobId: word(".receipt", "jobId"),
            worker: account("node"),
            poolId: number(".receipt", "poolId"),
            stage: uint32(number(".receipt", "stage")),
            seq: uint32(number(".receipt", "seq")),
            counterparty: account("neighbour"),
            epoch: uint64(number(".receipt", "epoch")),
            units: uint128(number(".receipt", "units")),
            commitment: word(".receipt", "commitment")
        });
        vm.assertEq(settlement.receiptDigest(receipt), vm.parseJsonBytes32(json, ".receipt.digest"));
        vm.assertTrue(
            settlement.verifyReceipt(receipt, signature(".receipt", 0), signature(".receipt", 1))
        );
    }

    function test_payout_proofs() public view {
        bytes32 root = vm.parseJsonBytes32(json, ".trees.payouts.root");
        uint256 total = 0;
        for (uint256 i = 0; i < 5; i++) {
            string memory path = string.concat(".trees.payouts.leaves[", vm.toString(i), "]");
            address to = vm.parseJsonAddress(json, string.concat(path, ".value[0]"));
            uint256 amount = vm.parseJsonUint(json, string.concat(path, ".value[1]"));
            bytes32 leaf = Merkle.payoutLeaf(to, amount);
            vm.assertEq(leaf, vm.parseJsonBytes32(json, string.concat(path, ".leaf")));
            bytes32[] memory proof = vm.parseJsonBytes32Array(json, string.concat(path, ".proof"));
            vm.assertTrue(MerkleProof.verify(proof, root, leaf));
            total += amount;
        }
        vm.assertEq(total, number(".epochRoot", "totalPayout"));
        vm.assertEq(root, word(".epochRoot", "payoutsRoot"));
    }

    function move(address from, string memory key) private returns (address to) {
        to = vm.parseJsonAddress(json, key);
        vm.etch(to, from.code);
    }

    function account(string memory name) private view returns (address) {
        return vm.parseJsonAddress(json, string.concat(".keys.", name, ".address"));
    }

    function number(string memory vector, string memory field) private view returns (uint256) {
        return vm.parseJsonUint(json, string.concat(vector, ".message.", field));
    }

    function word(string memory vector, string memory field) private view returns (bytes32) {
        return vm.parseJsonBytes32(json, string.concat(vector, ".message.", field));
    }

    function signature(string memory vector, uint256 index) private view returns (bytes memory) {
        string memory path =
            string.concat(vector, ".signatures[", vm.toString(index), "].signature");
        return vm.parseJsonBytes(json, path);
    }
}
