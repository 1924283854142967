// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputePool} from "src/interfaces/IComputePool.sol";
import {Handler} from "./utils/Handler.sol";
import {Vm} from "./utils/Vm.sol";

/// @notice What holds after any sequence of the handler's actions. That rewards and epochs never
/// fall is checked by the handler around each action.
contract InvariantsTest {
    Vm private constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);
    address private constant TREASURY = address(0x7EA);
    Handler private handler;

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function setUp() public {
        handler = new Handler();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[15] memory actions = [
            Handler.pass.selector,
            Handler.stake.selector,
            Handler.unstake.selector,
            Handler.withdraw.selector,
            Handler.slash.selector,
            Handler.addNode.selector,
            Handler.removeNode.selector,
            Handler.join.selector,
            Handler.leave.selector,
            Handler.ejectOrReadmit.selector,
            Handler.fundPool.selector,
            Handler.endOrReclaim.selector,
            Handler.postRoot.selector,
            Handler.cancelRoot.selector,
            Handler.claim.selector
        ];
        bytes4[] memory selectors = new bytes4[](actions.length);
        for (uint256 i = 0; i < actions.length; i++) {
            selectors[i] = actions[i];
        }
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), selectors);
    }

    /// @dev One campaign for all: forge runs a separate one for each invariant function.
    function invariant_books_balance() external view {
        check_stakes_are_covered_and_accounted_for();
        check_claimed_within_committed_within_funded();
        check_a_node_is_in_at_most_one_pool();
        check_units_are_counted_per_provider();
    }

    function check_stakes_are_covered_and_accounted_for() private view {
        uint256 active = 0;
        uint256 unbonding = 0;
        for (uint256 i = 0; i < handler.PROVIDERS(); i++) {
            (uint256 waiting,) = handler.stakes().unbondingOf(handler.provider(i));
            active += handler.stakes().stakeOf(handler.provider(i));
            unbonding += waiting;
        }
        vm.assertEq(active, handler.stakes().totalActive(), "sum of active stakes");
        vm.assertEq(unbonding, handler.stakes().totalUnbonding(), "sum of unbonding stakes");
        uint256 balance = handler.token().balanceOf(address(handler.stakes()));
        vm.assertEq(balance, active + unbonding, "balance of StakeManager");
        uint256 slashed = handler.token().balanceOf(TREASURY);
        vm.assertEq(balance + slashed, handler.stakedNet(), "slashed within what was staked");
    }

    function check_claimed_within_committed_within_funded() private view {
        uint256 held = 0;
        for (uint256 poolId = 1; poolId <= handler.POOLS(); poolId++) {
            (uint256 funded, uint256 committed, uint256 paid) = handler.purse().accountOf(poolId);
            uint256 claimed = 0;
            for (uint256 i = 0; i < handler.PROVIDERS(); i++) {
                claimed += handler.settlement().claimed(poolId, handler.provider(i));
            }
            vm.assertEq(claimed, paid, "claimed is what was paid");
            vm.assertLe(paid, committed, "paid within committed");
            vm.assertLe(committed, funded, "committed within funded");
            vm.assertEq(funded, handler.fundedNet(poolId), "funded is what came in");
            vm.assertLe(
                handler.settlement().latestRoot(poolId).totalPayout,
                committed,
                "what can be claimed is committed"
            );
            held += funded - paid;
        }
        vm.assertEq(held, handler.purse().totalHeld(), "sum over pools");
        vm.assertEq(
            held, handler.token().balanceOf(address(handler.purse())), "balance of the purse"
        );
    }

    function check_a_node_is_in_at_most_one_pool() private view {
        uint256[] memory members = new uint256[](handler.POOLS() + 1);
        uint256[] memory units = new uint256[](handler.POOLS() + 1);
        for (uint256 i = 0; i < handler.NODES(); i++) {
            address node = handler.node(i);
            (, uint32 nodeUnits,,, uint256 poolOf) = handler.registry().nodeOf(node);
            uint256 memberships = 0;
            for (uint256 poolId = 1; poolId <= handler.POOLS(); poolId++) {
                if (!handler.pools().isMember(poolId, node)) continue;
                memberships++;
                members[poolId]++;
                units[poolId] += nodeUnits;
                vm.assertEq(poolId, poolOf, "registry and pool agree");
            }
            vm.assertEq(memberships, poolOf == 0 ? 0 : 1, "at most one pool");
        }
        for (uint256 poolId = 1; poolId <= handler.POOLS(); poolId++) {
            IComputePool.Pool memory pool = handler.pools().poolInfo(poolId);
            vm.assertEq(pool.memberCount, members[poolId], "members counted");
            vm.assertEq(pool.computeUnits, units[poolId], "capacity counted");
        }
    }

    function check_units_are_counted_per_provider() private view {
        for (uint256 i = 0; i < handler.PROVIDERS(); i++) {
            address provider = handler.provider(i);
            (, uint64 computeUnits, uint256 nodeCount) = handler.registry().providerOf(provider);
            uint256 units = 0;
            address[] memory nodes = handler.registry().nodesOf(provider);
            for (uint256 n = 0; n < nodes.length; n++) {
                (address owner, uint32 nodeUnits,,,) = handler.registry().nodeOf(nodes[n]);
                vm.assertEq(owner, provider);
                units += nodeUnits;
            }
            vm.assertEq(units, computeUnits, "units of the nodes");
            vm.assertEq(nodes.length, nodeCount, "number of nodes");
        }
    }
}
