// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IDomainRegistry} from "./interfaces/IDomainRegistry.sol";
import {Text} from "./libraries/Text.sol";

/// @title Implementation of IDomainRegistry, which describes the behaviour
contract DomainRegistry is IDomainRegistry, AccessManaged {
    /// @notice Number of domains; also the latest id.
    uint256 public domainCount;
    mapping(uint256 domainId => Domain) private _domains;

    constructor(address access) AccessManaged(access) {}

    /// @inheritdoc IDomainRegistry
    function create(
        address owner,
        string calldata name,
        address validationLogic,
        string calldata uri
    ) external restricted returns (uint256 domainId) {
        Text.checkName(name);
        Text.checkUri(uri);
        domainId = ++domainCount;
        _domains[domainId] = Domain(owner, uint64(block.timestamp), validationLogic, name, uri);
        emit DomainCreated(domainId, owner, validationLogic, name, uri);
    }

    /// @inheritdoc IDomainRegistry
    function domainOf(uint256 domainId) external view returns (Domain memory) {
        if (!exists(domainId)) revert UnknownDomain(domainId);
        return _domains[domainId];
    }

    /// @inheritdoc IDomainRegistry
    function exists(uint256 domainId) public view returns (bool) {
        return domainId != 0 && domainId <= domainCount;
    }
}
