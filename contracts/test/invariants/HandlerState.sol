// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {Epochs} from "../utils/Epochs.sol";

/// @notice What the invariant tests' handler knows: who there is, and books of its own, kept apart
/// from the contracts' to compare them with. Three providers with two working nodes each, the
/// fixture's three validators, two pools that pay for work and two that pay for time.
abstract contract HandlerState is Epochs {
    /// @dev What is wrong with a pool's pending root.
    enum Fault {
        NONE,
        TWICE,
        PAYOUT,
        LEAF
    }

    struct Window {
        uint256 openedAt;
        uint256 base;
        uint256 taken;
    }

    uint256 public constant PARTIES = 6;
    uint256 public constant NODES = 9;
    uint256 public constant WORK_POOLS = 2;
    uint256 public constant POOLS = 4;
    uint256 internal constant WORKERS = 6;

    address[PARTIES] public parties;
    address[NODES] public nodes;
    mapping(address node => uint256) internal keyOf;

    /// @dev Everything ever staked, less what was withdrawn.
    uint256 public stakedNet;
    uint256 public slashed;
    /// @dev What the treasury must have had of slashed stakes and lost bonds.
    uint256 public toTreasury;
    uint256 public donatedToStakes;
    uint256 public donatedToPurse;
    mapping(address provider => Window) private windows;

    /// @dev Everything ever paid into a pool, less what its creator took back.
    mapping(uint256 poolId => uint256) public fundedNet;
    /// @dev Units times rate of the receipts in standing roots: by pool, and by pool and account.
    mapping(uint256 poolId => uint256) public promised;
    mapping(uint256 poolId => mapping(address account => uint256)) public earned;
    /// @dev How often standing roots count a work unit, and how many they count more than once.
    mapping(uint256 poolId => mapping(bytes32 jobId => uint256)) internal times;
    mapping(uint256 poolId => uint256) public countedTwice;
    mapping(uint256 poolId => Fault) public faultOf;
    mapping(uint256 poolId => mapping(uint256 epoch => bytes)) internal stored;
    /// @dev How often an action did something, by its name.
    mapping(bytes32 what => uint256) public done;

    constructor() {
        setUp();
        for (uint256 i = 0; i < 3; i++) {
            parties[i] = workerProvider(i);
            parties[3 + i] = validatorProvider(i);
            registerProvider(parties[i], 1_000 ether);
            nodes[WORKERS + i] = validator(i);
            keyOf[validator(i)] = validatorKeys[i];
        }
        for (uint256 i = 0; i < WORKERS; i++) {
            nodes[i] = worker(i);
            keyOf[nodes[i]] = workerKey(i);
            // forge-lint: disable-next-line(unsafe-typecast)
            registerNode(parties[i / 2], workerKey(i), uint32(3 + i));
        }
        stakedNet = 3_000 ether + 3 * VALIDATOR_STAKE;
        address inviter = vm.addr(INVITER_KEY);
        activePool(address(0), 4 ether);
        activePool(inviter, 4 ether);
        activePool(inviter, 4 ether, IRewardsDistributor.Strategy.FIXED, 1e12);
        activePool(address(0), 4 ether, IRewardsDistributor.Strategy.SHARE, 0);
        for (uint256 poolId = 1; poolId <= POOLS; poolId++) {
            fundedNet[poolId] = 4 ether;
        }
    }

    /// @dev What accounts and providers were paid only ever rises, whatever happens.
    modifier rising() {
        uint256[] memory before = paidNow();
        _;
        uint256[] memory now_ = paidNow();
        for (uint256 i = 0; i < before.length; i++) {
            vm.assertGe(now_[i], before[i], "a cumulative payment fell");
        }
    }

    function paidNow() private view returns (uint256[] memory paid) {
        paid = new uint256[](POOLS * PARTIES);
        for (uint256 i = 0; i < paid.length; i++) {
            (uint256 poolId, address account) = (1 + i / PARTIES, parties[i % PARTIES]);
            paid[i] = poolId <= WORK_POOLS
                ? settlement.claimed(poolId, account)
                : purse.paidForTime(poolId, account);
        }
    }

    // --- stakes ---

    function heldBy() internal view returns (uint256[PARTIES] memory held) {
        for (uint256 i = 0; i < PARTIES; i++) {
            (uint256 unbonding,) = stakes.unbondingOf(parties[i]);
            held[i] = stakes.stakeOf(parties[i]) + unbonding;
        }
    }

    /// @dev Books what slashes have taken since `before`, and checks the cap by its definition.
    function bookSlashes(uint256[PARTIES] memory before, bool informed) internal {
        uint256[PARTIES] memory held = heldBy();
        for (uint256 i = 0; i < PARTIES; i++) {
            uint256 amount = before[i] - held[i];
            if (amount == 0) continue;
            Window storage window = windows[parties[i]];
            if (!isOpen(window)) {
                (window.openedAt, window.base, window.taken) = (block.timestamp, before[i], 0);
            }
            window.taken += amount;
            vm.assertLe(window.taken, window.base * SLASH_CAP / 10_000, "slashed within the cap");
            slashed += amount;
            toTreasury += amount - (informed ? amount * BOUNTY_SHARE / 10_000 : 0);
        }
    }

    function bookStake(address provider, uint256 amount) internal {
        stakedNet += amount;
        if (isOpen(windows[provider])) windows[provider].base += amount;
    }

    function isOpen(Window storage window) private view returns (bool) {
        return window.openedAt != 0 && block.timestamp < window.openedAt + 1 days;
    }

    // --- quorums ---

    /// @dev Validators with a voice, ascending; those that `mask` names, or all.
    function voices(uint256 mask) internal view returns (address[] memory signers) {
        address[] memory all = network.validators();
        uint256 count = 0;
        for (uint256 i = 0; i < all.length; i++) {
            if (network.weightOf(all[i]) == 0 || (mask >> i) & 1 == 0) continue;
            address one = all[i];
            uint256 place = count++;
            // Those already chosen stand sorted at the front of `all`.
            while (place > 0 && all[place - 1] > one) {
                all[place] = all[place - 1];
                place--;
            }
            all[place] = one;
        }
        signers = new address[](count);
        for (uint256 i = 0; i < count; i++) {
            signers[i] = all[i];
        }
    }

    function haveQuorum(address[] memory signers) internal view returns (bool) {
        uint256 weight = 0;
        for (uint256 i = 0; i < signers.length; i++) {
            weight += network.weightOf(signers[i]);
        }
        return weight != 0 && weight * 10_000 >= network.totalWeight() * QUORUM;
    }

    function signAll(address[] memory signers, bytes32 digest)
        internal
        view
        returns (bytes[] memory signatures)
    {
        signatures = new bytes[](signers.length);
        for (uint256 i = 0; i < signers.length; i++) {
            signatures[i] = signDigest(keyOf[signers[i]], digest);
        }
    }

    // --- roots ---

    function load(uint256 poolId, uint256 number) internal view returns (Epoch memory) {
        bytes storage kept = stored[poolId][number];
        return kept.length == 0 ? noEpoch(poolId) : abi.decode(kept, (Epoch));
    }

    function bookRoot(Epoch memory epoch, Fault fault) internal {
        uint256 poolId = epoch.root.poolId;
        stored[poolId][epoch.root.epoch] = abi.encode(epoch);
        faultOf[poolId] = fault;
        for (uint256 i = 0; i < epoch.receipts.length; i++) {
            IReceiptSettlement.Receipt memory receipt = epoch.receipts[i].receipt;
            uint256 amount = uint256(receipt.units) * epoch.root.rate;
            promised[poolId] += amount;
            earned[poolId][registry.ownerOf(receipt.worker)] += amount;
            if (++times[poolId][receipt.jobId] == 2) countedTwice[poolId]++;
        }
    }

    function unbookRoot(Epoch memory epoch) internal {
        uint256 poolId = epoch.root.poolId;
        delete stored[poolId][epoch.root.epoch];
        faultOf[poolId] = Fault.NONE;
        for (uint256 i = 0; i < epoch.receipts.length; i++) {
            IReceiptSettlement.Receipt memory receipt = epoch.receipts[i].receipt;
            uint256 amount = uint256(receipt.units) * epoch.root.rate;
            promised[poolId] -= amount;
            earned[poolId][registry.ownerOf(receipt.worker)] -= amount;
            if (--times[poolId][receipt.jobId] == 1) countedTwice[poolId]--;
        }
    }
}
