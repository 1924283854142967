// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputePool} from "src/interfaces/IComputePool.sol";
import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {ComputePool} from "src/ComputePool.sol";
import {ComputeRegistry} from "src/ComputeRegistry.sol";
import {DomainRegistry} from "src/DomainRegistry.sol";
import {PrimeNetwork} from "src/PrimeNetwork.sol";
import {PrimeToken} from "src/PrimeToken.sol";
import {ReceiptSettlement} from "src/ReceiptSettlement.sol";
import {RewardsDistributor} from "src/RewardsDistributor.sol";
import {StakeManager} from "src/StakeManager.sol";
import {Merkle} from "./Merkle.sol";
import {Vm} from "./Vm.sol";

/// @notice All contracts, deployed and wired as README.md says, and short ways to the states that
/// tests start from. The test contract is administrator and federator. EIP-712 hashes are spelt
/// out here anew rather than taken from the contracts under test.
abstract contract Fixture {
    Vm internal constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    uint64 internal constant START = 1_800_000_000;
    uint64 internal constant UNBONDING = 2 days;
    uint64 internal constant RECLAIM_DELAY = 1 days;
    uint64 internal constant WINDOW = 1 hours;
    uint256 internal constant BASE_STAKE = 100 ether;
    uint256 internal constant UNIT_STAKE = 10 ether;
    uint16 internal constant SLASH_CAP = 2_000;
    uint16 internal constant QUORUM = 2;

    uint256 internal constant NODE_KEY = 0x10DE;
    uint256 internal constant INVITER_KEY = 0x171;
    address internal constant PROVIDER = address(0xB0B);
    address internal constant CREATOR = address(0xC4EA);
    address internal constant TREASURY = address(0x7EA);
    address internal constant STRANGER = address(0x57A);
    address internal immutable NODE = vm.addr(NODE_KEY);

    /// @dev Three validators' keys, ascending by address.
    uint256[3] internal validatorKeys = [uint256(11), 12, 13];

    PrimeToken public token;
    ComputeRegistry public registry;
    DomainRegistry public domains;
    StakeManager public stakes;
    PrimeNetwork public network;
    RewardsDistributor public purse;
    ComputePool public pools;
    ReceiptSettlement public settlement;

    function setUp() public virtual {
        vm.warp(START);
        token = new PrimeToken(address(this), 1_000_000 ether);
        registry = new ComputeRegistry(address(this));
        domains = new DomainRegistry(address(this));
        stakes = new StakeManager(
            address(this), token, registry, TREASURY, UNBONDING, BASE_STAKE, UNIT_STAKE, SLASH_CAP
        );
        network = new PrimeNetwork(address(this), token, stakes, registry, domains);
        purse = new RewardsDistributor(address(this), token);
        pools = new ComputePool(token, network, purse, RECLAIM_DELAY);
        settlement = new ReceiptSettlement(network, pools, purse, QUORUM, WINDOW);

        stakes.grantRole(stakes.NETWORK_ROLE(), address(network));
        registry.grantRole(registry.NETWORK_ROLE(), address(network));
        domains.grantRole(domains.NETWORK_ROLE(), address(network));
        registry.grantRole(registry.POOL_ROLE(), address(pools));
        purse.grantRole(purse.POOL_ROLE(), address(pools));
        purse.grantRole(purse.SETTLEMENT_ROLE(), address(settlement));

        for (uint256 i = 0; i < 3; i++) {
            for (uint256 j = i + 1; j < 3; j++) {
                if (vm.addr(validatorKeys[j]) < vm.addr(validatorKeys[i])) {
                    (validatorKeys[i], validatorKeys[j]) = (validatorKeys[j], validatorKeys[i]);
                }
            }
            network.grantValidator(vm.addr(validatorKeys[i]));
        }
    }

    // --- states ---

    function giveTokens(address account, address spender, uint256 amount) internal {
        token.mint(account, amount);
        vm.prank(account);
        token.approve(spender, amount);
    }

    function registerProvider(address provider, uint256 stake) internal {
        giveTokens(provider, address(network), stake);
        vm.prank(provider);
        network.registerProvider(stake);
    }

    function registerNode(address provider, uint256 key, uint32 units) internal {
        bytes memory signature = signNode(key, provider, block.timestamp);
        vm.prank(provider);
        network.registerNode(
            vm.addr(key), "/ip4/127.0.0.1/tcp/1", units, block.timestamp, signature
        );
    }

    /// @dev PROVIDER with twice the stake that its one node of 5 units needs.
    function registeredNode() internal {
        registerProvider(PROVIDER, 2 * (BASE_STAKE + 5 * UNIT_STAKE));
        registerNode(PROVIDER, NODE_KEY, 5);
    }

    function activePool(address inviter, uint256 budget) internal returns (uint256 poolId) {
        uint256 domainId = network.createDomain("inference", address(0), "");
        vm.prank(CREATOR);
        poolId = pools.createPool(domainId, "pool", "", inviter);
        if (budget != 0) fund(poolId, budget);
        vm.prank(CREATOR);
        pools.start(poolId);
    }

    function fund(uint256 poolId, uint256 amount) internal {
        giveTokens(CREATOR, address(pools), amount);
        vm.prank(CREATOR);
        pools.fund(poolId, amount);
    }

    function joinOpen(uint256 poolId, address node) internal {
        vm.prank(node);
        pools.join(poolId, node, 0, "");
    }

    /// @dev Posts a root whose only payout is `cumulative` for `account`; its proof is empty.
    function postSingle(uint256 poolId, uint64 epoch, address account, uint256 cumulative)
        internal
    {
        IReceiptSettlement.EpochRoot memory root =
            epochRoot(poolId, epoch, Merkle.payoutLeaf(account, cumulative), cumulative);
        settlement.postRoot(root, signRoot(root, 2));
    }

    // --- messages ---

    function epochRoot(uint256 poolId, uint64 epoch, bytes32 payoutsRoot, uint256 total)
        internal
        pure
        returns (IReceiptSettlement.EpochRoot memory)
    {
        return IReceiptSettlement.EpochRoot(
            poolId, epoch, keccak256("receipts"), payoutsRoot, total, keccak256("data")
        );
    }

    function signNode(uint256 key, address provider, uint256 deadline)
        internal
        view
        returns (bytes memory)
    {
        address node = vm.addr(key);
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    "NodeRegistration(address provider,address node,uint256 nonce,uint256 deadline)"
                ),
                provider,
                node,
                network.nonces(node),
                deadline
            )
        );
        return signTyped(key, address(network), structHash);
    }

    function signInvite(uint256 key, uint256 poolId, address node, uint256 deadline)
        internal
        view
        returns (bytes memory)
    {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256("PoolInvite(uint256 poolId,address node,uint256 nonce,uint256 deadline)"),
                poolId,
                node,
                pools.inviteNonce(poolId, node),
                deadline
            )
        );
        return signTyped(key, address(pools), structHash);
    }

    function signRootWith(uint256 key, IReceiptSettlement.EpochRoot memory root)
        internal
        view
        returns (bytes memory)
    {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    "EpochRoot(uint256 poolId,uint64 epoch,bytes32 receiptsRoot,bytes32 payoutsRoot,uint256 totalPayout,bytes32 dataHash)"
                ),
                root.poolId,
                root.epoch,
                root.receiptsRoot,
                root.payoutsRoot,
                root.totalPayout,
                root.dataHash
            )
        );
        return signTyped(key, address(settlement), structHash);
    }

    /// @dev Signatures of the first `count` validators, in order.
    function signRoot(IReceiptSettlement.EpochRoot memory root, uint256 count)
        internal
        view
        returns (bytes[] memory signatures)
    {
        signatures = new bytes[](count);
        for (uint256 i = 0; i < count; i++) {
            signatures[i] = signRootWith(validatorKeys[i], root);
        }
    }

    function signTyped(uint256 key, address verifier, bytes32 structHash)
        internal
        view
        returns (bytes memory)
    {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
                ),
                keccak256("PrimeNode"),
                keccak256("1"),
                block.chainid,
                verifier
            )
        );
        return signDigest(key, keccak256(abi.encodePacked("\x19\x01", domain, structHash)));
    }

    function signDigest(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    // --- expectations ---

    function missingRole(address account, bytes32 role) internal pure returns (bytes memory) {
        return
            abi.encodeWithSignature(
                "AccessControlUnauthorizedAccount(address,bytes32)", account, role
            );
    }

    function wrongState(uint256 poolId, IComputePool.PoolState state)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encodeWithSelector(IComputePool.WrongPoolState.selector, poolId, state);
    }
}
