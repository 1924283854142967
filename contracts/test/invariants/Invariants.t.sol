// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IComputePool} from "src/interfaces/IComputePool.sol";
import {IReceiptSettlement} from "src/interfaces/IReceiptSettlement.sol";
import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {Handler} from "./Handler.sol";
import {Vm} from "../utils/Vm.sol";

/// @notice What holds after any sequence of the handler's actions. That payments never fall and that
/// slashes stay within the cap is checked by the handler around each action.
contract InvariantsTest {
    Vm private constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);
    address private constant TREASURY = address(0x7EA);
    uint256 private constant BOND = 5 ether;
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
        bytes4[28] memory actions = [
            // What the rest waits for comes more often.
            handler.pass.selector,
            handler.pass.selector,
            handler.postRoot.selector,
            handler.postRoot.selector,
            handler.dispute.selector,
            handler.dispute.selector,
            handler.answer.selector,
            handler.uphold.selector,
            handler.cancelRoot.selector,
            handler.claimWork.selector,
            handler.stake.selector,
            handler.unstake.selector,
            handler.withdraw.selector,
            handler.addNode.selector,
            handler.removeNode.selector,
            handler.grantOrRevoke.selector,
            handler.revokeWrongly.selector,
            handler.blacklist.selector,
            handler.donate.selector,
            handler.convict.selector,
            handler.join.selector,
            handler.join.selector,
            handler.leave.selector,
            handler.ejectOrReadmit.selector,
            handler.fundPool.selector,
            handler.endPool.selector,
            handler.reclaim.selector,
            handler.claimTime.selector
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
        check_weights_are_validators_active_stakes();
        check_work_is_paid_within_promises_within_funds();
        check_time_is_paid_within_what_was_earned();
        check_the_purse_holds_what_the_books_say();
        check_bonds_are_held_for_open_disputes();
        check_a_node_is_in_at_most_one_pool();
        check_units_are_counted_per_provider();
        check_roles_are_where_they_were_put();
    }

    function check_stakes_are_covered_and_accounted_for() private view {
        uint256 active = 0;
        uint256 unbonding = 0;
        for (uint256 i = 0; i < handler.PARTIES(); i++) {
            (uint256 waiting,) = handler.stakes().unbondingOf(handler.parties(i));
            active += handler.stakes().stakeOf(handler.parties(i));
            unbonding += waiting;
        }
        vm.assertEq(active, handler.stakes().totalActive(), "sum of active stakes");
        vm.assertEq(unbonding, handler.stakes().totalUnbonding(), "sum of unbonding stakes");
        uint256 balance = balanceOf(address(handler.stakes()));
        vm.assertEq(
            balance, active + unbonding + handler.donatedToStakes(), "balance of StakeManager"
        );
        vm.assertEq(
            active + unbonding + handler.slashed(), handler.stakedNet(), "nothing else was taken"
        );
        vm.assertEq(balanceOf(TREASURY), handler.toTreasury(), "the treasury's share");
    }

    function check_weights_are_validators_active_stakes() private view {
        uint256 sum = 0;
        for (uint256 i = 0; i < handler.PARTIES(); i++) {
            sum += handler.stakes().weightOf(handler.parties(i));
        }
        vm.assertEq(sum, handler.stakes().totalWeight(), "sum of providers' weights");
        address[] memory validators = handler.network().validators();
        for (uint256 i = 0; i < validators.length; i++) {
            uint256 weight = handler.network().weightOf(validators[i]);
            (address provider,,,,) = handler.registry().nodeOf(validators[i]);
            vm.assertEq(weight, handler.stakes().weightOf(provider), "a validator's weight");
            sum -= weight;
        }
        vm.assertEq(sum, 0, "sum of validators' weights");
    }

    function check_work_is_paid_within_promises_within_funds() private view {
        for (uint256 poolId = 1; poolId <= handler.WORK_POOLS(); poolId++) {
            IRewardsDistributor.Book memory book = handler.purse().bookOf(poolId);
            uint256 committed = handler.settlement().committed(poolId);
            uint256 claimed = 0;
            uint256 earned = 0;
            for (uint256 i = 0; i < handler.PARTIES(); i++) {
                uint256 mine = handler.settlement().claimed(poolId, handler.parties(i));
                vm.assertLe(mine, handler.earned(poolId, handler.parties(i)), "claimed as earned");
                claimed += mine;
                earned += handler.earned(poolId, handler.parties(i));
            }
            vm.assertEq(claimed, book.paid, "claimed is what was paid");
            vm.assertLe(claimed, committed, "claimed within committed");
            vm.assertLe(committed, book.funded, "committed within funded");
            vm.assertEq(committed, earned, "committed is what was earned");
            vm.assertEq(book.funded, handler.fundedNet(poolId), "funded is what came in");
            uint64 last = handler.settlement().epochsOf(poolId).epoch;
            if (handler.settlement().isFinal(poolId, last)) {
                vm.assertEq(handler.countedTwice(poolId), 0, "a receipt counts once");
                vm.assertEq(uint256(handler.faultOf(poolId)), 0, "no wrong root is final");
            }
        }
    }

    function check_time_is_paid_within_what_was_earned() private view {
        for (uint256 poolId = handler.WORK_POOLS() + 1; poolId <= handler.POOLS(); poolId++) {
            IRewardsDistributor.Book memory book = handler.purse().bookOf(poolId);
            uint256 total = handler.pools().totalUnitSeconds(poolId);
            uint256 sum = 0;
            uint256 paid = 0;
            for (uint256 i = 0; i < handler.PARTIES(); i++) {
                sum += handler.pools().unitSeconds(poolId, handler.parties(i));
                paid += handler.purse().paidForTime(poolId, handler.parties(i));
            }
            vm.assertEq(sum, total, "sum of unit seconds");
            vm.assertEq(paid, book.paid, "paid for time");
            vm.assertLe(paid, book.funded, "paid within funded");
            if (book.strategy == IRewardsDistributor.Strategy.FIXED) {
                vm.assertLe(paid, book.rate * total, "paid within earned");
            }
            vm.assertEq(book.funded, handler.fundedNet(poolId), "funded is what came in");
        }
    }

    function check_the_purse_holds_what_the_books_say() private view {
        uint256 held = 0;
        for (uint256 poolId = 1; poolId <= handler.POOLS(); poolId++) {
            IRewardsDistributor.Book memory book = handler.purse().bookOf(poolId);
            held += book.funded - book.paid;
        }
        vm.assertEq(held, handler.purse().totalHeld(), "sum over pools");
        uint256 balance = balanceOf(address(handler.purse()));
        vm.assertEq(balance, held + handler.donatedToPurse(), "balance of the purse");
    }

    function check_bonds_are_held_for_open_disputes() private view {
        uint256 open = 0;
        uint256[3] memory standing;
        for (uint256 id = 1; id <= handler.settlement().disputeCount(); id++) {
            IReceiptSettlement.Dispute memory asked = handler.settlement().disputeOf(id);
            if (asked.kind == IReceiptSettlement.DisputeKind.NONE) continue;
            open++;
            bytes32 root = handler.settlement().rootHash(asked.poolId, asked.epoch);
            if (root == asked.root) standing[asked.poolId]++;
        }
        vm.assertEq(balanceOf(address(handler.settlement())), BOND * open, "bonds");
        for (uint256 poolId = 1; poolId <= handler.WORK_POOLS(); poolId++) {
            uint256 counted = handler.settlement().epochsOf(poolId).openDisputes;
            vm.assertEq(counted, standing[poolId], "open disputes");
        }
    }

    function check_a_node_is_in_at_most_one_pool() private view {
        uint256[] memory members = new uint256[](handler.POOLS() + 1);
        uint256[] memory units = new uint256[](handler.POOLS() + 1);
        for (uint256 i = 0; i < handler.NODES(); i++) {
            address node = handler.nodes(i);
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
        for (uint256 i = 0; i < handler.PARTIES(); i++) {
            address provider = handler.parties(i);
            (, uint64 computeUnits, uint256 nodeCount) = handler.registry().providerOf(provider);
            uint256 units = 0;
            address[] memory nodes = handler.registry().nodesOf(provider);
            for (uint256 n = 0; n < nodes.length; n++) {
                (address owner, uint32 nodeUnits,,,) = handler.registry().nodeOf(nodes[n]);
                vm.assertEq(owner, provider);
                vm.assertEq(handler.registry().ownerOf(nodes[n]), provider);
                units += nodeUnits;
            }
            vm.assertEq(units, computeUnits, "units of the nodes");
            vm.assertEq(nodes.length, nodeCount, "number of nodes");
        }
    }

    function check_roles_are_where_they_were_put() private view {
        hasRole(handler.access().NETWORK(), address(handler.network()));
        hasRole(handler.access().POOLS(), address(handler.pools()));
        hasRole(handler.access().SLASHER(), address(handler.settlement()));
        hasRole(handler.access().FEDERATOR(), address(handler));
        hasRole(0, address(handler));
    }

    function hasRole(uint64 role, address account) private view {
        (bool has,) = handler.access().hasRole(role, account);
        vm.assertTrue(has, "role");
    }

    function balanceOf(address account) private view returns (uint256) {
        return handler.token().balanceOf(account);
    }
}
