// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Administered} from "./Administered.sol";
import {IComputeRegistry} from "./interfaces/IComputeRegistry.sol";
import {IDomainRegistry} from "./interfaces/IDomainRegistry.sol";
import {IPrimeNetwork} from "./interfaces/IPrimeNetwork.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {Text} from "./libraries/Text.sol";

/// @title Implementation of IPrimeNetwork, which describes the behaviour
/// @dev This contract decides; StakeManager, ComputeRegistry and DomainRegistry remember. It holds
/// neither tokens nor records, so replacing it means moving one role per module.
contract PrimeNetwork is IPrimeNetwork, Administered, EIP712, Nonces {
    using SafeERC20 for IERC20;

    bytes32 public constant FEDERATOR_ROLE = keccak256("FEDERATOR_ROLE");
    bytes32 public constant VALIDATOR_ROLE = keccak256("VALIDATOR_ROLE");
    /// @notice For a contract that slashes on a proof; held by none until one exists.
    bytes32 public constant SETTLEMENT_ROLE = keccak256("SETTLEMENT_ROLE");
    bytes32 private constant NODE_REGISTRATION_TYPEHASH =
        keccak256("NodeRegistration(address provider,address node,uint256 nonce,uint256 deadline)");

    IERC20 public immutable token;
    IStakeManager public immutable stakeManager;
    IComputeRegistry public immutable computeRegistry;
    IDomainRegistry public immutable domainRegistry;

    /// @param admin Administrator and first federator.
    constructor(
        address admin,
        IERC20 token_,
        IStakeManager stakeManager_,
        IComputeRegistry computeRegistry_,
        IDomainRegistry domainRegistry_
    ) Administered(admin) EIP712("PrimeNode", "1") {
        token = token_;
        stakeManager = stakeManager_;
        computeRegistry = computeRegistry_;
        domainRegistry = domainRegistry_;
        _setRoleAdmin(VALIDATOR_ROLE, FEDERATOR_ROLE);
        _grantRole(FEDERATOR_ROLE, admin);
    }

    /// @inheritdoc IPrimeNetwork
    function registerProvider(uint256 stake) external {
        uint256 minimum = stakeManager.minimumStake(0);
        if (stake < minimum) revert StakeBelowMinimum(stake, minimum);
        computeRegistry.addProvider(msg.sender);
        emit ProviderRegistered(msg.sender, stake);
        if (stake != 0) _pullStake(stake);
    }

    /// @inheritdoc IPrimeNetwork
    function increaseStake(uint256 amount) external {
        (uint64 registeredAt,,) = computeRegistry.providerOf(msg.sender);
        if (registeredAt == 0) revert IComputeRegistry.UnknownProvider(msg.sender);
        emit StakeIncreased(msg.sender, amount);
        _pullStake(amount);
    }

    /// @inheritdoc IPrimeNetwork
    function registerNode(
        address node,
        string calldata uri,
        uint32 computeUnits,
        uint256 deadline,
        bytes calldata nodeSignature
    ) external {
        Text.checkUri(uri);
        if (block.timestamp > deadline) revert SignatureExpired(deadline);
        bytes32 digest = _hashTypedDataV4(
            keccak256(
                abi.encode(NODE_REGISTRATION_TYPEHASH, msg.sender, node, _useNonce(node), deadline)
            )
        );
        (address signer,,) = ECDSA.tryRecoverCalldata(digest, nodeSignature);
        if (signer == address(0) || signer != node) revert InvalidSignature(node);

        computeRegistry.addNode(msg.sender, node, computeUnits);
        uint256 stake = stakeManager.stakeOf(msg.sender);
        uint256 minimum = stakeManager.requiredStake(msg.sender);
        if (stake < minimum) revert StakeBelowMinimum(stake, minimum);
        emit NodeRegistered(msg.sender, node, uri, computeUnits);
    }

    /// @inheritdoc IPrimeNetwork
    function removeNode(address node) external {
        (address provider,,,,) = computeRegistry.nodeOf(node);
        if (provider == address(0)) revert IComputeRegistry.UnknownNode(node);
        if (msg.sender != provider && msg.sender != node) revert NotProviderOrNode(msg.sender);
        emit NodeRemoved(provider, node, msg.sender);
        computeRegistry.removeNode(node);
    }

    /// @inheritdoc IPrimeNetwork
    function createDomain(string calldata name, address validationLogic, string calldata uri)
        external
        returns (uint256 domainId)
    {
        return domainRegistry.create(msg.sender, name, validationLogic, uri);
    }

    /// @inheritdoc IPrimeNetwork
    function setNodeValidated(address node, bool validated) external onlyRole(VALIDATOR_ROLE) {
        emit NodeValidationChanged(node, validated, msg.sender);
        computeRegistry.setValidated(node, validated);
    }

    /// @inheritdoc IPrimeNetwork
    function grantValidator(address account) external onlyRole(FEDERATOR_ROLE) {
        _grantRole(VALIDATOR_ROLE, account);
    }

    /// @inheritdoc IPrimeNetwork
    function revokeValidator(address account) external onlyRole(FEDERATOR_ROLE) {
        if (!_revokeRole(VALIDATOR_ROLE, account)) revert NotValidator(account);
    }

    /// @inheritdoc IPrimeNetwork
    function slash(address provider, uint256 amount, bytes32 reason) external {
        if (!hasRole(VALIDATOR_ROLE, msg.sender) && !hasRole(SETTLEMENT_ROLE, msg.sender)) {
            revert NotSlasher(msg.sender);
        }
        emit ProviderSlashed(provider, amount, reason, msg.sender);
        stakeManager.slash(provider, amount, reason);
    }

    /// @inheritdoc IPrimeNetwork
    function isValidator(address account) external view returns (bool) {
        return hasRole(VALIDATOR_ROLE, account);
    }

    /// @inheritdoc IPrimeNetwork
    function isFederator(address account) external view returns (bool) {
        return hasRole(FEDERATOR_ROLE, account);
    }

    /// @dev The tokens go straight to StakeManager, which checks that they came.
    function _pullStake(uint256 amount) private {
        token.safeTransferFrom(msg.sender, address(stakeManager), amount);
        stakeManager.stake(msg.sender, amount);
    }
}
