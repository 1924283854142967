// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputeRegistry} from "./IComputeRegistry.sol";
import {IDomainRegistry} from "./IDomainRegistry.sol";
import {IStakeManager} from "./IStakeManager.sol";

/// @title The network's front door
/// @notice Anyone may stake, register nodes and create domains. Federators admit validators, at most
/// one node a provider, whose voice is its provider's active stake; validators vouch for hardware.
/// Nobody slashes by his own word: that is ReceiptSettlement's, on proof or by quorum. Tokens are
/// pulled by the contract that is called: approve this one.
interface IPrimeNetwork {
    event ProviderRegistered(address indexed provider, uint256 stake);
    event StakeIncreased(address indexed provider, uint256 amount);
    event NodeRegistered(
        address indexed provider, address indexed node, string uri, uint32 computeUnits
    );
    event NodeRemoved(address indexed provider, address indexed node, address by);
    event NodeValidationChanged(address indexed node, bool validated, address indexed validator);
    event ValidatorGranted(address indexed node);
    event ValidatorRevoked(address indexed node);

    error StakeBelowMinimum(uint256 stake, uint256 minimum);
    /// @notice The deadline (Unix seconds) of a signature has passed.
    error SignatureExpired(uint256 deadline);
    /// @notice The signature is not `expected`'s over the struct with its present nonce.
    error InvalidSignature(address expected);
    error NotProviderOrNode(address caller);
    error NotValidator(address account);
    error AlreadyValidator(address account);
    /// @notice The provider has another validator; its stake can speak once only.
    error ProviderValidates(address provider, address validator);
    error TooManyValidators(uint256 limit);
    error ProviderBlacklisted(address provider);

    /// @notice Makes the caller a provider and stakes `stake` tokens, which it has approved to this
    /// contract. At least minimumStake(0); registering twice reverts with ProviderAlreadyRegistered.
    function registerProvider(uint256 stake) external;

    /// @notice Adds to a registered caller's stake; approve the tokens to this contract first.
    function increaseStake(uint256 amount) external;

    /// @notice Registers a node of the caller's. The stake must cover all of its compute units.
    /// @param node The node's address; its key consents by signing.
    /// @param uri How to reach it, at most 512 bytes; only emitted.
    /// @param computeUnits Declared capacity, at least 1.
    /// @param deadline Unix seconds after which the signature no longer counts.
    /// @param nodeSignature 65 bytes r, s, v by the node over EIP-712
    /// NodeRegistration(address provider,address node,uint256 nonce,uint256 deadline), where nonce
    /// is nonces(node).
    function registerNode(
        address node,
        string calldata uri,
        uint32 computeUnits,
        uint256 deadline,
        bytes calldata nodeSignature
    ) external;

    /// @notice Removes a node that is in no pool. Its provider or the node itself may call.
    function removeNode(address node) external;

    /// @notice Creates a domain owned by the caller; see IDomainRegistry.create.
    function createDomain(string calldata name, address validationLogic, string calldata uri)
        external
        returns (uint256 domainId);

    /// @notice States whether a node's hardware was checked. Validators only.
    function setNodeValidated(address node, bool validated) external;

    /// @notice Admits a validator: a node, registered already or later. Federators only.
    function grantValidator(address node) external;

    /// @notice Dismisses a validator; reverts with NotValidator for any other account. Federators, and
    /// the validator itself.
    function revokeValidator(address node) external;

    /// @notice Bars a provider from registering nodes and joining pools, or lifts that. What it has
    /// earned stays claimable. Federators only.
    function setBlacklisted(address provider, bool blacklisted) external;

    function isValidator(address account) external view returns (bool);

    /// @notice All validators, at most 64, in no particular order.
    function validators() external view returns (address[] memory);

    /// @notice Active stake behind a validator's signature; 0 for everyone else and for a validator
    /// whose node is not registered.
    function weightOf(address node) external view returns (uint256);

    /// @notice Sum of all validators' weights.
    function totalWeight() external view returns (uint256);

    function stakeManager() external view returns (IStakeManager);
    function computeRegistry() external view returns (IComputeRegistry);
    function domainRegistry() external view returns (IDomainRegistry);
}
