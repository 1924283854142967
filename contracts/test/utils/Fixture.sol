// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputePool} from "src/interfaces/IComputePool.sol";
import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {ComputePool} from "src/ComputePool.sol";
import {ComputeRegistry} from "src/ComputeRegistry.sol";
import {DomainRegistry} from "src/DomainRegistry.sol";
import {PrimeAccess} from "src/PrimeAccess.sol";
import {PrimeNetwork} from "src/PrimeNetwork.sol";
import {PrimeToken} from "src/PrimeToken.sol";
import {ReceiptSettlement} from "src/ReceiptSettlement.sol";
import {RewardsDistributor} from "src/RewardsDistributor.sol";
import {StakeManager} from "src/StakeManager.sol";
import {Messages} from "./Messages.sol";

/// @notice All contracts, deployed and wired as README.md says, three staked validators, and short
/// ways to the states that tests start from. The test contract is administrator and federator.
abstract contract Fixture is Messages {
    uint64 internal constant START = 1_800_000_000;
    uint64 internal constant UNBONDING = 2 days;
    uint64 internal constant RECLAIM_DELAY = 1 days;
    uint64 internal constant WINDOW = 1 hours;
    uint64 internal constant ANSWER_WINDOW = 2 hours;
    uint256 internal constant BASE_STAKE = 100 ether;
    uint256 internal constant UNIT_STAKE = 10 ether;
    uint256 internal constant VALIDATOR_STAKE = 1_000 ether;
    uint256 internal constant BOND = 5 ether;
    uint88 internal constant RATE = 0.001 ether;
    uint16 internal constant SLASH_CAP = 2_000;
    uint16 internal constant BOUNTY_SHARE = 3_000;
    uint16 internal constant SIGNER_SLASH = 1_000;
    uint16 internal constant CONVICTION_SLASH = 500;
    /// @dev Two of the three validators, whose stakes are equal.
    uint16 internal constant QUORUM = 6_000;

    uint256 internal constant NODE_KEY = 0x10DE;
    uint256 internal constant INVITER_KEY = 0x171;
    uint256 internal constant CREATOR_KEY = 0xC4EA;
    address internal constant PROVIDER = address(0xB0B);
    address internal constant TREASURY = address(0x7EA);
    address internal constant STRANGER = address(0x57A);
    address internal immutable NODE = vm.addr(NODE_KEY);
    /// @dev Creates the pools and countersigns for lone stages.
    address internal immutable CREATOR = vm.addr(CREATOR_KEY);

    /// @dev Three validators' keys, ascending by address. validatorProvider(i) stakes for number i.
    uint256[3] internal validatorKeys = [uint256(11), 12, 13];

    PrimeToken public token;
    PrimeAccess public access;
    ComputeRegistry public registry;
    DomainRegistry public domains;
    StakeManager public stakes;
    PrimeNetwork public network;
    RewardsDistributor public purse;
    ComputePool public pools;
    ReceiptSettlement public settlement;

    function setUp() public virtual {
        vm.warp(START);
        token = newToken();
        access = new PrimeAccess(address(this));
        registry = new ComputeRegistry(address(access));
        domains = new DomainRegistry(address(access));
        stakes = new StakeManager(address(access), token, registry, stakeTerms());
        network = new PrimeNetwork(address(access), token, stakes, registry, domains);
        purse = new RewardsDistributor(address(access), token);
        pools = new ComputePool(token, network, purse, RECLAIM_DELAY);
        settlement = newSettlement(settlementTerms());

        wire();
        for (uint256 i = 0; i < 3; i++) {
            for (uint256 j = i + 1; j < 3; j++) {
                if (vm.addr(validatorKeys[j]) < vm.addr(validatorKeys[i])) {
                    (validatorKeys[i], validatorKeys[j]) = (validatorKeys[j], validatorKeys[i]);
                }
            }
            registerProvider(validatorProvider(i), VALIDATOR_STAKE);
            registerNode(validatorProvider(i), validatorKeys[i], 1);
            network.grantValidator(validator(i));
        }
    }

    // --- deployment ---

    function newToken() internal virtual returns (PrimeToken) {
        return new PrimeToken(address(this), 1_000_000 ether);
    }

    function stakeTerms() internal pure returns (StakeManager.Terms memory) {
        return StakeManager.Terms({
            treasury: TREASURY,
            unbondingPeriod: UNBONDING,
            baseStake: BASE_STAKE,
            stakePerUnit: UNIT_STAKE,
            slashCap: SLASH_CAP,
            bountyShare: BOUNTY_SHARE
        });
    }

    function settlementTerms() internal pure returns (ReceiptSettlement.Terms memory) {
        return ReceiptSettlement.Terms({
            quorum: QUORUM,
            challengeWindow: WINDOW,
            answerWindow: ANSWER_WINDOW,
            bond: BOND,
            signerSlash: SIGNER_SLASH,
            convictionSlash: CONVICTION_SLASH
        });
    }

    function newSettlement(ReceiptSettlement.Terms memory terms)
        internal
        returns (ReceiptSettlement)
    {
        return new ReceiptSettlement(address(access), token, network, pools, purse, terms);
    }

    function wire() internal {
        uint64 asNetwork = access.NETWORK();
        uint64 asPools = access.POOLS();
        uint64 asFederator = access.FEDERATOR();
        allow(address(stakes), stakes.stake.selector, asNetwork);
        allow(address(stakes), stakes.setValidating.selector, asNetwork);
        allow(address(stakes), stakes.slash.selector, access.SLASHER());
        allow(address(registry), registry.addProvider.selector, asNetwork);
        allow(address(registry), registry.addNode.selector, asNetwork);
        allow(address(registry), registry.removeNode.selector, asNetwork);
        allow(address(registry), registry.setValidated.selector, asNetwork);
        allow(address(registry), registry.setBlacklisted.selector, asNetwork);
        allow(address(registry), registry.enterPool.selector, asPools);
        allow(address(registry), registry.exitPool.selector, asPools);
        allow(address(domains), domains.create.selector, asNetwork);
        allow(address(purse), purse.open.selector, asPools);
        allow(address(purse), purse.deposit.selector, asPools);
        allow(address(purse), purse.payTime.selector, asPools);
        allow(address(purse), purse.release.selector, asPools);
        allow(address(network), network.grantValidator.selector, asFederator);
        allow(address(network), network.revokeValidator.selector, asFederator);
        allow(address(network), network.setBlacklisted.selector, asFederator);
        allow(address(settlement), settlement.cancelRoot.selector, asFederator);
        access.grantRole(asNetwork, address(network), 0);
        access.grantRole(asPools, address(pools), 0);
        access.grantRole(access.SLASHER(), address(settlement), 0);
        access.grantRole(asFederator, address(this), 0);
    }

    function allow(address target, bytes4 selector, uint64 role) internal {
        bytes4[] memory selectors = new bytes4[](1);
        selectors[0] = selector;
        access.setTargetFunctionRole(target, selectors, role);
    }

    // --- states ---

    function validator(uint256 index) internal view returns (address) {
        return vm.addr(validatorKeys[index]);
    }

    function validatorProvider(uint256 index) internal pure returns (address) {
        // forge-lint: disable-next-line(unsafe-typecast)
        return address(uint160(0xFA10 + index));
    }

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

    /// @dev An active pool of CREATOR's that pays RATE for validated work.
    function activePool(address inviter, uint256 budget) internal returns (uint256 poolId) {
        return activePool(inviter, budget, IRewardsDistributor.Strategy.WORK, RATE);
    }

    function activePool(
        address inviter,
        uint256 budget,
        IRewardsDistributor.Strategy strategy,
        uint88 rate
    ) internal returns (uint256 poolId) {
        poolId = newPool(inviter, strategy, rate);
        if (budget != 0) fund(poolId, budget);
        vm.prank(CREATOR);
        pools.start(poolId);
    }

    /// @dev A pool in state PENDING.
    function newPool(address inviter, IRewardsDistributor.Strategy strategy, uint88 rate)
        internal
        returns (uint256 poolId)
    {
        uint256 domainId = network.createDomain("inference", address(settlement), "");
        vm.prank(CREATOR);
        return pools.createPool(
            IComputePool.NewPool({
                domainId: domainId,
                name: "pool",
                uri: "",
                inviter: inviter,
                strategy: strategy,
                rate: rate
            })
        );
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

    function signNode(uint256 key, address provider, uint256 deadline)
        internal
        view
        returns (bytes memory)
    {
        address node = vm.addr(key);
        return
            signTyped(
                key, address(network), nodeHash(provider, node, network.nonces(node), deadline)
            );
    }

    function signInvite(uint256 key, uint256 poolId, address node, uint256 deadline)
        internal
        view
        returns (bytes memory)
    {
        uint256 nonce = pools.inviteNonce(poolId, node);
        return signTyped(key, address(pools), inviteHash(poolId, node, nonce, deadline));
    }

    // --- expectations ---

    function unauthorized(address account) internal pure returns (bytes memory) {
        return abi.encodeWithSignature("AccessManagedUnauthorized(address)", account);
    }

    function wrongState(uint256 poolId, IComputePool.PoolState state)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encodeWithSelector(IComputePool.WrongPoolState.selector, poolId, state);
    }
}
