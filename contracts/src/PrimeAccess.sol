// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";

/// @title Who may do what, for all contracts of one deployment
/// @notice OpenZeppelin's AccessManager: a role's holder can be bound to a delay between announcing a
/// call and making it, which is the timelock. Outside a development chain the administrator must be
/// so bound. Added is a handover in two steps, so that the office cannot be lost to a mistyped
/// address: the administrator offers, the successor accepts, and only then the old one is out.
contract PrimeAccess is AccessManager {
    /// @notice Admits and dismisses validators, cancels pending roots, blacklists providers.
    uint64 public constant FEDERATOR = 1;
    /// @notice Held by PrimeNetwork.
    uint64 public constant NETWORK = 2;
    /// @notice Held by ComputePool.
    uint64 public constant POOLS = 3;
    /// @notice Held by ReceiptSettlement.
    uint64 public constant SLASHER = 4;

    /// @param by The administrator who offers; it must still be one when the offer is accepted.
    /// @param delay Seconds between announcing and making a call, for the successor.
    struct Offer {
        address by;
        address to;
        uint32 delay;
    }

    Offer public offer;

    event AdminOffered(address indexed by, address indexed to, uint32 delay);
    event AdminAccepted(address indexed by, address indexed to, uint32 delay);

    error NotOffered(address account);
    /// @notice Call `offerAdmin` itself, after its delay, not through `execute`: the offer must name who
    /// makes it.
    error OfferedThroughExecute();

    constructor(address admin) AccessManager(admin) {}

    /// @notice Offers the caller's office to `to`, replacing an earlier offer. Administrator only;
    /// offering to the zero address takes an offer back.
    function offerAdmin(address to, uint32 delay) external onlyAuthorized {
        if (msg.sender == address(this)) revert OfferedThroughExecute();
        offer = Offer(msg.sender, to, delay);
        emit AdminOffered(msg.sender, to, delay);
    }

    /// @notice Takes the offered office over from whoever offered it.
    function acceptAdmin() external {
        Offer memory accepted = offer;
        if (accepted.to == address(0) || accepted.to != msg.sender) revert NotOffered(msg.sender);
        delete offer;
        // Someone dismissed since has nothing left to give.
        if (!_revokeRole(ADMIN_ROLE, accepted.by)) revert NotOffered(msg.sender);
        _grantRole(ADMIN_ROLE, msg.sender, getRoleGrantDelay(ADMIN_ROLE), accepted.delay);
        emit AdminAccepted(accepted.by, msg.sender, accepted.delay);
    }
}
