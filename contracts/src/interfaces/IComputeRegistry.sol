// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Who provides which node
/// @notice A provider is the cold wallet that stakes; a node is a hot key that works. This contract
/// only remembers: PrimeNetwork decides about registration, ComputePool about membership. A node's
/// owner is the first provider that registered it, for good: a removed node can come back to that
/// provider only, so past work always pays the one who did it.
interface IComputeRegistry {
    event ProviderAdded(address indexed provider);
    event NodeAdded(address indexed provider, address indexed node, uint32 computeUnits);
    event NodeRemoved(address indexed provider, address indexed node);
    event NodeValidated(address indexed node, bool validated);
    event ProviderBlacklisted(address indexed provider, bool blacklisted);
    event NodePoolChanged(address indexed node, uint256 indexed poolId);

    error ProviderAlreadyRegistered(address provider);
    error UnknownProvider(address provider);
    error NodeAlreadyRegistered(address node, address provider);
    error UnknownNode(address node);
    /// @notice The node must leave its pool first.
    error NodeInPool(address node, uint256 poolId);
    error NodeNotInPool(address node);
    /// @notice The node was another provider's first; a node key never changes hands.
    error NodeOwnedBy(address node, address owner);
    error NoComputeUnits();
    error ZeroAddress();

    /// @notice Remembers a provider. PrimeNetwork only.
    function addProvider(address provider) external;

    /// @notice Remembers `node` as one of `provider`'s. PrimeNetwork only.
    /// @param computeUnits Declared capacity, at least 1; decides the stake that is needed.
    function addNode(address provider, address node, uint32 computeUnits) external;

    /// @notice Forgets a node that is in no pool. PrimeNetwork only.
    function removeNode(address node) external;

    /// @notice Notes whether validators have checked the node's hardware. PrimeNetwork only.
    function setValidated(address node, bool validated) external;

    /// @notice Bars a provider from registering nodes and joining pools, or lifts that. PrimeNetwork
    /// only.
    function setBlacklisted(address provider, bool blacklisted) external;

    /// @notice Puts a node that is in no pool into one. ComputePool only.
    function enterPool(address node, uint256 poolId) external;

    /// @notice Takes a node out of its pool. ComputePool only.
    function exitPool(address node) external;

    /// @notice A node's record; all zero when the node is unknown.
    /// @return provider Its provider.
    /// @return computeUnits Its declared capacity.
    /// @return validated Whether a validator has checked its hardware.
    /// @return active Whether it is in a pool now.
    /// @return poolId That pool, or 0.
    function nodeOf(address node)
        external
        view
        returns (address provider, uint32 computeUnits, bool validated, bool active, uint256 poolId);

    /// @notice The provider that registered a node first; zero if none ever did.
    function ownerOf(address node) external view returns (address);

    function isBlacklisted(address provider) external view returns (bool);

    /// @notice A provider's record; all zero when the provider is unknown.
    /// @return registeredAt Unix time of registration in seconds.
    /// @return computeUnits Sum over its nodes.
    /// @return nodeCount Number of its nodes.
    function providerOf(address provider)
        external
        view
        returns (uint64 registeredAt, uint64 computeUnits, uint256 nodeCount);

    /// @notice All nodes of a provider, in no particular order. For reading from outside: it grows
    /// with the number of nodes.
    function nodesOf(address provider) external view returns (address[] memory);
}
