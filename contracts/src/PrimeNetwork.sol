// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {IComputeRegistry} from "./interfaces/IComputeRegistry.sol";
import {IDomainRegistry} from "./interfaces/IDomainRegistry.sol";
import {IPrimeNetwork} from "./interfaces/IPrimeNetwork.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {Text} from "./libraries/Text.sol";

/// @title Implementation of IPrimeNetwork, which describes the behaviour
/// @dev This contract decides; StakeManager, ComputeRegistry and DomainRegistry remember. It holds no
/// tokens and, but for the validators' names, no records, so replacing it means moving one role.
contract PrimeNetwork is IPrimeNetwork, AccessManaged, EIP712, Nonces {
    using EnumerableSet for EnumerableSet.AddressSet;
    using SafeERC20 for IERC20;

    uint256 private constant MAX_VALIDATORS = 64;
    bytes32 private constant NODE_REGISTRATION_TYPEHASH =
        keccak256("NodeRegistration(address provider,address node,uint256 nonce,uint256 deadline)");

    IERC20 public immutable token;
    IStakeManager public immutable stakeManager;
    IComputeRegistry public immutable computeRegistry;
    IDomainRegistry public immutable domainRegistry;

    EnumerableSet.AddressSet private _validators;
    /// @dev The provider that a registered validator speaks for, and back.
    mapping(address node => address provider) private _speaksFor;
    mapping(address provider => address node) private _validatorOf;

    constructor(
        address access,
        IERC20 token_,
        IStakeManager stakeManager_,
        IComputeRegistry computeRegistry_,
        IDomainRegistry domainRegistry_
    ) AccessManaged(access) EIP712("PrimeNode", "1") {
        token = token_;
        stakeManager = stakeManager_;
        computeRegistry = computeRegistry_;
        domainRegistry = domainRegistry_;
    }

    /// @inheritdoc IPrimeNetwork
    function registerProvider(uint256 stake) external {
        uint256 minimum = stakeManager.minimumStake(0);
        if (stake < minimum) revert StakeBelowMinimum(stake, minimum);
        emit ProviderRegistered(msg.sender, stake);
        computeRegistry.addProvider(msg.sender);
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
        if (computeRegistry.isBlacklisted(msg.sender)) revert ProviderBlacklisted(msg.sender);
        if (block.timestamp > deadline) revert SignatureExpired(deadline);
        bytes32 digest = _hashTypedDataV4(
            keccak256(
                abi.encode(NODE_REGISTRATION_TYPEHASH, msg.sender, node, _useNonce(node), deadline)
            )
        );
        (address signer,,) = ECDSA.tryRecoverCalldata(digest, nodeSignature);
        if (signer == address(0) || signer != node) revert InvalidSignature(node);

        emit NodeRegistered(msg.sender, node, uri, computeUnits);
        if (_validators.contains(node)) _speak(node, msg.sender);
        computeRegistry.addNode(msg.sender, node, computeUnits);
        uint256 stake = stakeManager.stakeOf(msg.sender);
        uint256 minimum = stakeManager.requiredStake(msg.sender);
        if (stake < minimum) revert StakeBelowMinimum(stake, minimum);
    }

    /// @inheritdoc IPrimeNetwork
    function removeNode(address node) external {
        (address provider,,,,) = computeRegistry.nodeOf(node);
        if (provider == address(0)) revert IComputeRegistry.UnknownNode(node);
        if (msg.sender != provider && msg.sender != node) revert NotProviderOrNode(msg.sender);
        emit NodeRemoved(provider, node, msg.sender);
        _silence(node);
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
    function setNodeValidated(address node, bool validated) external {
        if (!_validators.contains(msg.sender)) revert NotValidator(msg.sender);
        emit NodeValidationChanged(node, validated, msg.sender);
        computeRegistry.setValidated(node, validated);
    }

    /// @inheritdoc IPrimeNetwork
    function grantValidator(address node) external restricted {
        if (_validators.length() == MAX_VALIDATORS) revert TooManyValidators(MAX_VALIDATORS);
        if (!_validators.add(node)) revert AlreadyValidator(node);
        emit ValidatorGranted(node);
        (address provider,,,,) = computeRegistry.nodeOf(node);
        if (provider != address(0)) _speak(node, provider);
    }

    /// @inheritdoc IPrimeNetwork
    function revokeValidator(address node) external {
        if (msg.sender != node) _checkCanCall(msg.sender, msg.data);
        if (!_validators.remove(node)) revert NotValidator(node);
        emit ValidatorRevoked(node);
        _silence(node);
    }

    /// @inheritdoc IPrimeNetwork
    function setBlacklisted(address provider, bool blacklisted) external restricted {
        computeRegistry.setBlacklisted(provider, blacklisted);
    }

    /// @inheritdoc IPrimeNetwork
    function isValidator(address account) external view returns (bool) {
        return _validators.contains(account);
    }

    /// @inheritdoc IPrimeNetwork
    function validators() external view returns (address[] memory) {
        return _validators.values();
    }

    /// @inheritdoc IPrimeNetwork
    function weightOf(address node) external view returns (uint256) {
        address provider = _speaksFor[node];
        return provider == address(0) ? 0 : stakeManager.stakeOf(provider);
    }

    /// @inheritdoc IPrimeNetwork
    function totalWeight() external view returns (uint256) {
        return stakeManager.totalWeight();
    }

    /// @dev A validator that is registered speaks for its provider's stake, which counts from now on.
    function _speak(address node, address provider) private {
        address other = _validatorOf[provider];
        if (other != address(0)) revert ProviderValidates(provider, other);
        _speaksFor[node] = provider;
        _validatorOf[provider] = node;
        stakeManager.setValidating(provider, true);
    }

    function _silence(address node) private {
        address provider = _speaksFor[node];
        if (provider == address(0)) return;
        delete _speaksFor[node];
        delete _validatorOf[provider];
        stakeManager.setValidating(provider, false);
    }

    /// @dev The tokens go straight to StakeManager, which checks that they came.
    function _pullStake(uint256 amount) private {
        token.safeTransferFrom(msg.sender, address(stakeManager), amount);
        stakeManager.stake(msg.sender, amount);
    }
}
