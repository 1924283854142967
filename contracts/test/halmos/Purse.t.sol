// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRewardsDistributor} from "src/interfaces/IRewardsDistributor.sol";
import {RewardsDistributor} from "src/RewardsDistributor.sol";
import {Checks} from "./Checks.sol";

/// @notice RewardsDistributor for all amounts, whatever those who order payments say. This test is the
/// pools' settlement.
contract PurseChecks is Checks {
    address private constant ALICE = address(0xA);
    address private constant BOB = address(0xB);
    uint256 private constant POOL = 1;
    uint256 private constant OTHER = 2;

    RewardsDistributor private purse;
    uint256 private promised;

    function setUp() public override {
        super.setUp();
        purse = new RewardsDistributor(authority, token);
    }

    function committed(uint256) external view returns (uint256) {
        return promised;
    }

    /// @dev WORK: paid is within promised and funded, and another pool's money is not touched.
    function check_pay(uint128 funds, uint256 promise_, uint256 one, uint256 two, uint64 others)
        public
    {
        open(IRewardsDistributor.Strategy.WORK, 1);
        deposit(POOL, funds);
        deposit(OTHER, others);
        promised = promise_;
        purse.pay(POOL, ALICE, one);
        purse.pay(POOL, BOB, two);
        IRewardsDistributor.Book memory book = purse.bookOf(POOL);
        assert(book.paid == one + two);
        assert(book.paid <= funds);
        assert(book.paid <= promise_);
        assert(purse.totalHeld() == uint256(funds) - one - two + others);
        assert(token.balanceOf(address(purse)) == purse.totalHeld());
    }

    /// @dev WORK: what is released leaves what is promised or paid, whatever the promise.
    function check_release_of_work(uint128 funds, uint256 first, uint256 paid, uint256 second)
        public
    {
        open(IRewardsDistributor.Strategy.WORK, 1);
        deposit(POOL, funds);
        promised = first;
        purse.pay(POOL, ALICE, paid);
        promised = second;
        uint256 amount = purse.release(POOL, BOB, 0);
        IRewardsDistributor.Book memory book = purse.bookOf(POOL);
        assert(amount + book.funded == funds);
        assert(book.paid <= book.funded);
        assert(second <= book.funded);
        assert(token.balanceOf(address(purse)) == purse.totalHeld());
    }

    /// @dev FIXED: two claims, never more than was earned and never more than was funded.
    function check_fixed(uint16 rate, uint32 funds, uint16 before, uint16 later) public {
        open(IRewardsDistributor.Strategy.FIXED, rate);
        deposit(POOL, funds);
        uint256 one = purse.payTime(POOL, ALICE, before, before, false);
        assert(one <= uint256(rate) * before);
        assert(one == uint256(rate) * before || one == funds);
        uint256 two = purse.payTime(POOL, ALICE, later, later, true);
        assert(one + two <= uint256(rate) * later);
        assert(one + two <= funds);
        assert(one + two == uint256(rate) * later || one + two == funds);
        assert(purse.paidForTime(POOL, ALICE) == one + two);
    }

    /// @dev FIXED: a release leaves all that was earned.
    function check_release_of_time(uint16 rate, uint40 funds, uint16 unitSeconds) public {
        open(IRewardsDistributor.Strategy.FIXED, rate);
        deposit(POOL, funds);
        uint256 amount = purse.release(POOL, BOB, unitSeconds);
        assert(purse.bookOf(POOL).funded == uint256(rate) * unitSeconds);
        assert(amount + purse.bookOf(POOL).funded == funds);
        assert(token.balanceOf(BOB) == amount);
    }

    /// @dev SHARE: shares never add up to more than the budget.
    function check_share(uint32 funds, uint16 alice, uint16 bob) public {
        vm.assume(alice != 0 && bob != 0 && funds != 0);
        uint256 total = uint256(alice) + bob;
        open(IRewardsDistributor.Strategy.SHARE, 0);
        deposit(POOL, funds);
        vm.assume(uint256(funds) * alice >= total && uint256(funds) * bob >= total);
        uint256 one = purse.payTime(POOL, ALICE, alice, total, true);
        uint256 two = purse.payTime(POOL, BOB, bob, total, true);
        assert(one + two <= funds);
        assert(one == uint256(funds) * alice / total);
    }

    function open(IRewardsDistributor.Strategy strategy, uint88 rate) private {
        bool work = strategy == IRewardsDistributor.Strategy.WORK;
        purse.open(POOL, strategy, work ? address(this) : address(0), rate);
    }

    function deposit(uint256 poolId, uint256 amount) private {
        if (amount == 0) return;
        assert(token.transfer(address(purse), amount));
        purse.deposit(poolId, amount);
    }
}
