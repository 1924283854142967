// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Kinds of work
/// @notice A domain names a kind of work (inference, synthetic data, ...) and says how it is
/// validated. Records never change; a new way of validating is a new domain.
interface IDomainRegistry {
    struct Domain {
        address owner;
        uint64 createdAt;
        address validationLogic;
        string name;
        string uri;
    }

    event DomainCreated(
        uint256 indexed domainId,
        address indexed owner,
        address validationLogic,
        string name,
        string uri
    );

    error UnknownDomain(uint256 domainId);

    /// @notice Records a domain and returns its id, counted from 1. PrimeNetwork only.
    /// @param owner Who asked for it.
    /// @param name 1 to 64 bytes; names need not be unique, ids are.
    /// @param validationLogic The contract that settles validated work of this domain's pools; it may
    /// order payments from their budgets and has no other power. Zero where pools pay by time only.
    /// @param uri Where the domain is described, at most 512 bytes.
    function create(
        address owner,
        string calldata name,
        address validationLogic,
        string calldata uri
    ) external returns (uint256 domainId);

    /// @notice A domain's record. Reverts with UnknownDomain.
    function domainOf(uint256 domainId) external view returns (Domain memory);

    /// @notice Whether such a domain was created.
    function exists(uint256 domainId) external view returns (bool);
}
