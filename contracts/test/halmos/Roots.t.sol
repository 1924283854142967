// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputePool} from "src/interfaces/IComputePool.sol";
import {IPrimeNetwork} from "src/interfaces/IPrimeNetwork.sol";
import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {ReceiptSettlement} from "src/ReceiptSettlement.sol";
import {Checks} from "./Checks.sol";

/// @notice Epoch roots for all amounts: what a root may promise and what claims take of it. Quorums are
/// not looked at here: every signer has all the weight there is. This test is network, stakes and
/// purse.
contract RootsChecks is Checks {
    uint256 private constant POOL = 1;
    uint256 private constant KEY = 11;
    address private constant ACCOUNT = address(0xA);

    ReceiptSettlement private settlement;
    uint128 private funded;
    uint88 private rate;
    uint256 private paid;

    function setUp() public override {
        super.setUp();
        vm.warp(1_800_000_000);
        settlement = new ReceiptSettlement(
            authority,
            token,
            IPrimeNetwork(address(this)),
            IComputePool(address(this)),
            IRewardsDistributor(address(this)),
            ReceiptSettlement.Terms(6_000, 1 hours, 1 hours, 0, 0, 0)
        );
    }

    // --- what the settlement asks of others ---

    function stakeManager() external view returns (address) {
        return address(this);
    }

    function computeRegistry() external view returns (address) {
        return address(this);
    }

    function unbondingPeriod() external pure returns (uint64) {
        return 7 days;
    }

    function weightOf(address) external pure returns (uint256) {
        return 1;
    }

    function totalWeight() external pure returns (uint256) {
        return 1;
    }

    function bookOf(uint256) external view returns (IRewardsDistributor.Book memory) {
        return IRewardsDistributor.Book(
            IRewardsDistributor.Strategy.WORK, address(settlement), rate, funded, 0
        );
    }

    function pay(uint256, address, uint256 amount) external {
        paid += amount;
    }

    // --- checks ---

    /// @dev A root that the contract takes promises exactly its units at its rate, and no product wraps.
    function check_total_is_the_product(
        uint128 funds,
        uint88 poolRate,
        uint128 units,
        uint128 rootRate,
        uint128 total
    ) public {
        (funded, rate) = (funds, poolRate);
        post(1, units, rootRate, total, "");
        assert(units != 0);
        assert(rootRate <= poolRate);
        assert(uint256(units) * rootRate == total);
        assert(settlement.committed(POOL) == total);
    }

    /// @dev A later one comes on top of the first, and voiding takes off what posting put on.
    function check_later_total(uint128 funds, uint32 first, uint128 units, uint128 total) public {
        (funded, rate) = (funds, 1);
        post(1, first, 1, first, "");
        vm.warp(block.timestamp + 1 hours);
        IReceiptSettlement.Posted memory posted = post(2, units, 1, total, "");
        assert(uint256(units) + first == total);
        settlement.cancelRoot(posted);
        assert(settlement.committed(POOL) == first);
    }

    /// @dev Whatever is asked for and in what order, an account has what the highest leaf says.
    function check_claims(uint256 one, uint256 two, uint256 asked, bool backwards) public {
        (funded, rate) = (2, 1);
        IReceiptSettlement.Posted memory first = post(1, 1, 1, 1, leaf(one));
        vm.warp(block.timestamp + 1 hours);
        IReceiptSettlement.Posted memory second = post(2, 1, 1, 2, leaf(two));
        vm.warp(block.timestamp + 1 hours);
        bytes32[] memory proof = new bytes32[](0);
        if (backwards) (first, second, one, two) = (second, first, two, one);
        try settlement.claim(first, ACCOUNT, asked, proof) {
            assert(asked == one);
        } catch {
            assert(asked != one || one == 0);
        }
        uint256 before = settlement.claimed(POOL, ACCOUNT);
        try settlement.claim(second, ACCOUNT, two, proof) {
            assert(two > before);
        } catch {
            assert(two <= before);
        }
        uint256 claimed = settlement.claimed(POOL, ACCOUNT);
        assert(claimed == (two > before ? two : before));
        assert(paid == claimed);
    }

    function post(uint64 epoch, uint128 units, uint128 rootRate, uint128 total, bytes32 payoutsRoot)
        private
        returns (IReceiptSettlement.Posted memory)
    {
        IReceiptSettlement.EpochRoot memory root = IReceiptSettlement.EpochRoot({
            poolId: POOL,
            epoch: epoch,
            receiptsRoot: "",
            payoutsRoot: payoutsRoot,
            receiptCount: 1,
            totalUnits: units,
            rate: rootRate,
            totalPayout: total,
            dataHash: ""
        });
        bytes[] memory signatures = new bytes[](1);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, settlement.rootDigest(root));
        signatures[0] = abi.encodePacked(r, s, v);
        settlement.postRoot(root, signatures);
        address[] memory signers = new address[](1);
        signers[0] = vm.addr(KEY);
        return IReceiptSettlement.Posted(root, keccak256(abi.encode(signers)));
    }

    function leaf(uint256 cumulative) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(ACCOUNT, cumulative))));
    }
}
