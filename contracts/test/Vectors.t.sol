// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputePool} from "src/interfaces/IComputePool.sol";
import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {Leaves} from "src/libraries/Leaves.sol";
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
        access.grantRole(access.NETWORK(), address(network), 0);
        access.grantRole(access.NETWORK(), address(this), 0);
        access.grantRole(access.POOLS(), address(pools), 0);
    }

    function test_node_registration_and_pool_invite() public {
        address provider = account("provider");
        address node = account("node");
        uint256 deadline = vm.parseJsonUint(json, ".nodeRegistration.message.deadline");
        registerProvider(provider, BASE_STAKE + UNIT_STAKE);
        vm.prank(provider);
        network.registerNode(node, "", 1, deadline, signature(".nodeRegistration", 0));

        uint256 poolId = createPool(account("inviter"), RATE);
        vm.assertEq(poolId, vm.parseJsonUint(json, ".poolInvite.message.poolId"));
        vm.prank(CREATOR);
        pools.start(poolId);
        vm.prank(node);
        pools.join(poolId, node, deadline, signature(".poolInvite", 0));
        vm.assertTrue(pools.isMember(poolId, node));
    }

    /// @dev The vector's validators post the vector's root, and the chain keeps the vector's hash.
    function test_epoch_root() public {
        IReceiptSettlement.EpochRoot memory root = epochRoot();
        vm.assertEq(settlement.rootDigest(root), vm.parseJsonBytes32(json, ".epochRoot.digest"));
        // forge-lint: disable-next-line(unsafe-typecast)
        createPool(address(0), uint88(root.rate));
        fund(root.poolId, root.totalPayout);
        // The moved contract does not know the validators; their voices it asks for elsewhere.
        bytes[] memory signatures = new bytes[](2);
        for (uint256 i = 0; i < 2; i++) {
            signatures[i] = signature(".epochRoot", i);
            address signer =
                vm.parseJsonAddress(json, string.concat(".posted.signers[", vm.toString(i), "]"));
            registerProvider(validatorOwner(i), VALIDATOR_STAKE);
            registry.addNode(validatorOwner(i), signer, 1);
            settlement.network().grantValidator(signer);
        }
        settlement.postRoot(root, signatures);
        bytes32 rootHash = vm.parseJsonBytes32(json, ".posted.rootHash");
        vm.assertEq(settlement.rootHash(root.poolId, 1), rootHash);
        bytes32 signersHash = vm.parseJsonBytes32(json, ".posted.signersHash");
        vm.assertEq(rootHash, keccak256(abi.encode(settlement.rootDigest(root), signersHash)));
        vm.warp(block.timestamp + WINDOW);
        for (uint256 i = 0; i < 3; i++) {
            string memory path = leafPath("payouts", i);
            settlement.claim(
                IReceiptSettlement.Posted(root, signersHash),
                vm.parseJsonAddress(json, string.concat(path, ".value[0]")),
                vm.parseJsonUint(json, string.concat(path, ".value[1]")),
                vm.parseJsonBytes32Array(json, string.concat(path, ".proof"))
            );
        }
        vm.assertEq(purse.bookOf(root.poolId).paid, root.totalPayout);
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
            settlement.verifyReceipt(
                IReceiptSettlement.SignedReceipt(
                    receipt, signature(".receipt", 0), signature(".receipt", 1)
                )
            )
        );
    }

    function test_conviction() public view {
        IReceiptSettlement.Conviction memory conviction = IReceiptSettlement.Conviction({
            poolId: number(".conviction", "poolId"),
            node: account("node"),
            jobId: word(".conviction", "jobId"),
            evidence: word(".conviction", "evidence")
        });
        vm.assertEq(
            settlement.convictionDigest(conviction), vm.parseJsonBytes32(json, ".conviction.digest")
        );
    }

    function test_work_leaves_stand_where_their_index_says() public view {
        bytes32 root = word(".epochRoot", "receiptsRoot");
        bytes32[] memory hashes = new bytes32[](7);
        for (uint64 i = 0; i < 7; i++) {
            IReceiptSettlement.ProvenLeaf memory proven = workLeaf("work", i);
            hashes[i] = Merkle.workLeaf(proven.leaf);
            vm.assertEq(
                hashes[i], vm.parseJsonBytes32(json, string.concat(leafPath("work", i), ".leaf"))
            );
            vm.assertEq(proven.leaf.index, i);
            for (uint64 count = 0; count < 20; count++) {
                // Of other counts only those will do that put the index as deep.
                bool as7 = this.inReceipts(root, count, proven);
                vm.assertTrue(count == 7 ? as7 : !as7 || sameDepth(i, count, proven.proof.length));
            }
        }
        vm.assertEq(Merkle.unsortedTree(hashes)[0], root);
        bytes32 one = vm.parseJsonBytes32(json, ".trees.oneLeaf.root");
        vm.assertTrue(this.inReceipts(one, 1, workLeaf("oneLeaf", 0)));
        vm.assertFalse(this.inReceipts(one, 2, workLeaf("oneLeaf", 0)));
    }

    function test_payouts() public view {
        bytes32[] memory hashes = new bytes32[](3);
        uint256 total = 0;
        for (uint256 i = 0; i < 3; i++) {
            string memory path = leafPath("payouts", i);
            uint256 amount = vm.parseJsonUint(json, string.concat(path, ".value[1]"));
            hashes[i] = Merkle.payoutLeaf(
                vm.parseJsonAddress(json, string.concat(path, ".value[0]")), amount
            );
            vm.assertEq(hashes[i], vm.parseJsonBytes32(json, string.concat(path, ".leaf")));
            total += amount;
        }
        vm.assertEq(Merkle.root(hashes), word(".epochRoot", "payoutsRoot"));
        vm.assertEq(total, number(".epochRoot", "totalPayout"));
    }

    function inReceipts(bytes32 root, uint64 count, IReceiptSettlement.ProvenLeaf calldata proven)
        external
        pure
        returns (bool)
    {
        return Leaves.inReceipts(root, count, proven);
    }

    // --- reading ---

    function epochRoot() private view returns (IReceiptSettlement.EpochRoot memory) {
        return IReceiptSettlement.EpochRoot({
            poolId: number(".epochRoot", "poolId"),
            epoch: uint64(number(".epochRoot", "epoch")),
            receiptsRoot: word(".epochRoot", "receiptsRoot"),
            payoutsRoot: word(".epochRoot", "payoutsRoot"),
            receiptCount: uint64(number(".epochRoot", "receiptCount")),
            totalUnits: uint128(number(".epochRoot", "totalUnits")),
            rate: uint128(number(".epochRoot", "rate")),
            totalPayout: uint128(number(".epochRoot", "totalPayout")),
            dataHash: word(".epochRoot", "dataHash")
        });
    }

    function workLeaf(string memory tree, uint256 index)
        private
        view
        returns (IReceiptSettlement.ProvenLeaf memory)
    {
        string memory path = leafPath(tree, index);
        return IReceiptSettlement.ProvenLeaf(
            IReceiptSettlement.WorkLeaf({
                index: uint64(vm.parseJsonUint(json, string.concat(path, ".value[0]"))),
                account: vm.parseJsonAddress(json, string.concat(path, ".value[1]")),
                accountUnits: uint128(vm.parseJsonUint(json, string.concat(path, ".value[2]"))),
                epochUnits: uint128(vm.parseJsonUint(json, string.concat(path, ".value[3]"))),
                receipt: vm.parseJsonBytes32(json, string.concat(path, ".value[4]"))
            }),
            vm.parseJsonBytes32Array(json, string.concat(path, ".proof"))
        );
    }

    function leafPath(string memory tree, uint256 index) private pure returns (string memory) {
        return string.concat(".trees.", tree, ".leaves[", vm.toString(index), "]");
    }

    /// @dev Whether leaf `index` of `count` has `depth` nodes above it in the array layout.
    function sameDepth(uint256 index, uint256 count, uint256 depth) private pure returns (bool) {
        if (index >= count) return false;
        uint256 node = 2 * count - 2 - index;
        while (node != 0) {
            node = (node - 1) / 2;
            if (depth == 0) return false;
            depth--;
        }
        return depth == 0;
    }

    function move(address from, string memory key) private returns (address to) {
        to = vm.parseJsonAddress(json, key);
        vm.etch(to, from.code);
    }

    /// @dev The moved contract starts with empty storage, so its first pool has the vectors' id.
    function createPool(address inviter, uint88 rate) private returns (uint256 poolId) {
        uint256 domainId = domains.create(address(this), "x", address(settlement), "");
        vm.prank(CREATOR);
        return pools.createPool(
            IComputePool.NewPool(
                domainId, "pool", "", inviter, IRewardsDistributor.Strategy.WORK, rate
            )
        );
    }

    function validatorOwner(uint256 index) private pure returns (address) {
        // forge-lint: disable-next-line(unsafe-typecast)
        return address(uint160(0xFEED0 + index));
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
