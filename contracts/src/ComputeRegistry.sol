// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {IComputeRegistry} from "./interfaces/IComputeRegistry.sol";

/// @title Implementation of IComputeRegistry, which describes the behaviour
/// @dev A node has one pool field, so "at most one pool" holds by construction. That field shares a
/// storage slot with the rest of the node's record.
contract ComputeRegistry is IComputeRegistry, AccessManaged {
    using EnumerableSet for EnumerableSet.AddressSet;
    using SafeCast for uint256;

    struct Provider {
        uint64 registeredAt;
        uint64 computeUnits;
        bool blacklisted;
    }

    struct Node {
        address provider;
        uint32 computeUnits;
        bool validated;
        uint56 poolId;
    }

    mapping(address provider => Provider) private _providers;
    mapping(address provider => EnumerableSet.AddressSet) private _nodesOf;
    mapping(address node => Node) private _nodes;
    /// @inheritdoc IComputeRegistry
    mapping(address node => address) public ownerOf;

    constructor(address access) AccessManaged(access) {}

    /// @inheritdoc IComputeRegistry
    function addProvider(address provider) external restricted {
        if (provider == address(0)) revert ZeroAddress();
        if (_providers[provider].registeredAt != 0) revert ProviderAlreadyRegistered(provider);
        _providers[provider].registeredAt = uint64(block.timestamp);
        emit ProviderAdded(provider);
    }

    /// @inheritdoc IComputeRegistry
    function addNode(address provider, address node, uint32 computeUnits) external restricted {
        if (node == address(0)) revert ZeroAddress();
        if (computeUnits == 0) revert NoComputeUnits();
        if (_providers[provider].registeredAt == 0) revert UnknownProvider(provider);
        address known = _nodes[node].provider;
        if (known != address(0)) revert NodeAlreadyRegistered(node, known);
        address owner = ownerOf[node];
        if (owner != address(0) && owner != provider) revert NodeOwnedBy(node, owner);

        ownerOf[node] = provider;
        _nodes[node] = Node(provider, computeUnits, false, 0);
        _nodesOf[provider].add(node);
        _providers[provider].computeUnits += computeUnits;
        emit NodeAdded(provider, node, computeUnits);
    }

    /// @inheritdoc IComputeRegistry
    function removeNode(address node) external restricted {
        Node memory record = _known(node);
        if (record.poolId != 0) revert NodeInPool(node, record.poolId);
        delete _nodes[node];
        _nodesOf[record.provider].remove(node);
        _providers[record.provider].computeUnits -= record.computeUnits;
        emit NodeRemoved(record.provider, node);
    }

    /// @inheritdoc IComputeRegistry
    function setValidated(address node, bool validated) external restricted {
        _known(node);
        _nodes[node].validated = validated;
        emit NodeValidated(node, validated);
    }

    /// @inheritdoc IComputeRegistry
    function setBlacklisted(address provider, bool blacklisted) external restricted {
        _providers[provider].blacklisted = blacklisted;
        emit ProviderBlacklisted(provider, blacklisted);
    }

    /// @inheritdoc IComputeRegistry
    function enterPool(address node, uint256 poolId) external restricted {
        uint56 current = _known(node).poolId;
        if (current != 0) revert NodeInPool(node, current);
        _nodes[node].poolId = SafeCast.toUint56(poolId);
        emit NodePoolChanged(node, poolId);
    }

    /// @inheritdoc IComputeRegistry
    function exitPool(address node) external restricted {
        if (_known(node).poolId == 0) revert NodeNotInPool(node);
        _nodes[node].poolId = 0;
        emit NodePoolChanged(node, 0);
    }

    /// @inheritdoc IComputeRegistry
    function nodeOf(address node)
        external
        view
        returns (address provider, uint32 computeUnits, bool validated, bool active, uint256 poolId)
    {
        Node memory record = _nodes[node];
        return
            (
                record.provider,
                record.computeUnits,
                record.validated,
                record.poolId != 0,
                record.poolId
            );
    }

    /// @inheritdoc IComputeRegistry
    function isBlacklisted(address provider) external view returns (bool) {
        return _providers[provider].blacklisted;
    }

    /// @inheritdoc IComputeRegistry
    function providerOf(address provider)
        external
        view
        returns (uint64 registeredAt, uint64 computeUnits, uint256 nodeCount)
    {
        Provider memory record = _providers[provider];
        return (record.registeredAt, record.computeUnits, _nodesOf[provider].length());
    }

    /// @inheritdoc IComputeRegistry
    function nodesOf(address provider) external view returns (address[] memory) {
        return _nodesOf[provider].values();
    }

    function _known(address node) private view returns (Node memory record) {
        record = _nodes[node];
        if (record.provider == address(0)) revert UnknownNode(node);
    }
}
