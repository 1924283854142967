// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {HandlerState} from "./HandlerState.sol";

/// @notice The handler's actions on stakes, nodes, validators and the blacklist.
abstract contract HandlerStakes is HandlerState {
    uint256 private convictions;

    function stake(uint256 who, uint96 amount) external rising {
        address account = parties[who % PARTIES];
        uint256 sum = 1 + amount % 100 ether;
        giveTokens(account, address(network), sum);
        vm.prank(account);
        network.increaseStake(sum);
        bookStake(account, sum);
        done["stake"]++;
    }

    function unstake(uint256 who, uint96 amount) external rising {
        address account = parties[who % PARTIES];
        uint256 required = stakes.requiredStake(account);
        uint256 held = stakes.stakeOf(account);
        if (held <= required) return;
        vm.prank(account);
        stakes.unstake(1 + amount % (held - required));
        done["unstake"]++;
    }

    function withdraw(uint256 who) external rising {
        address account = parties[who % PARTIES];
        (uint256 amount, uint64 releaseTime) = stakes.unbondingOf(account);
        if (amount == 0 || block.timestamp < releaseTime) return;
        stakedNet -= amount;
        vm.prank(account);
        stakes.withdraw();
        done["withdraw"]++;
    }

    function addNode(uint256 which, uint8 units) external rising {
        address node = nodes[which % NODES];
        address owner = registry.ownerOf(node);
        (address provider,,,,) = registry.nodeOf(node);
        if (provider != address(0) || registry.isBlacklisted(owner)) return;
        if (network.isValidator(node) && voiceOf(owner) != address(0)) return;
        (, uint64 held,) = registry.providerOf(owner);
        uint32 added = 1 + units % 16;
        if (stakes.stakeOf(owner) < stakes.minimumStake(held + added)) return;
        registerNode(owner, keyOf[node], added);
        done["addNode"]++;
    }

    function removeNode(uint256 which) external rising {
        address node = nodes[which % NODES];
        (address provider,,, bool active,) = registry.nodeOf(node);
        if (provider == address(0) || active) return;
        vm.prank(which % 2 == 0 ? node : provider);
        network.removeNode(node);
        done["removeNode"]++;
    }

    function grantOrRevoke(uint256 which) external rising {
        address node = nodes[which % NODES];
        (address provider,,,,) = registry.nodeOf(node);
        if (network.isValidator(node)) {
            if (which % 2 == 0) vm.prank(node);
            network.revokeValidator(node);
            done["revoke"]++;
        } else if (provider == address(0) || voiceOf(provider) == address(0)) {
            network.grantValidator(node);
            done["grant"]++;
        }
    }

    /// @dev Nobody but a federator or the validator itself; no role but by the administrator.
    function revokeWrongly(uint256 which, uint256 by) external rising {
        address node = nodes[which % NODES];
        address caller = nodes[by % NODES];
        if (caller == node) caller = STRANGER;
        vm.prank(caller);
        (bool dismissed,) = address(network).call(abi.encodeCall(network.revokeValidator, (node)));
        vm.assertFalse(dismissed, "a validator was dismissed by another");
        address[4] memory holders =
            [address(network), address(pools), address(settlement), address(this)];
        uint64[4] memory roles =
            [access.NETWORK(), access.POOLS(), access.SLASHER(), access.FEDERATOR()];
        uint256 i = which % 4;
        bytes memory data = abi.encodeCall(access.revokeRole, (roles[i], holders[i]));
        vm.prank(caller);
        (bool revoked,) = address(access).call(data);
        vm.assertFalse(revoked, "a role was revoked by another");
        // Revoking it from an account that does not have it takes it from nobody.
        access.revokeRole(roles[i], caller);
    }

    function blacklist(uint256 who, bool barred) external rising {
        network.setBlacklisted(parties[who % PARTIES], barred);
    }

    function donate(uint96 amount) external rising {
        token.mint(address(stakes), amount);
        token.mint(address(purse), amount);
        donatedToStakes += amount;
        donatedToPurse += amount;
    }

    function convict(uint256 which, uint256 mask) external rising {
        IReceiptSettlement.Conviction memory conviction = IReceiptSettlement.Conviction(
            1, nodes[which % NODES], bytes32(++convictions), keccak256("evidence")
        );
        address[] memory signers = voices(mask);
        if (!haveQuorum(signers)) signers = voices(type(uint256).max);
        if (!haveQuorum(signers)) return;
        bytes32 digest = typedDigest(address(settlement), convictionStructHash(conviction));
        uint256[PARTIES] memory before = heldBy();
        settlement.convict(conviction, signAll(signers, digest));
        bookSlashes(before, false);
        done["convict"]++;
    }

    /// @dev The node that speaks for a provider now.
    function voiceOf(address provider) private view returns (address) {
        address[] memory all = network.validators();
        for (uint256 i = 0; i < all.length; i++) {
            (address of_,,,,) = registry.nodeOf(all[i]);
            if (of_ == provider) return all[i];
        }
        return address(0);
    }
}
