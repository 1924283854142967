from __future__ import annotations

from p2p.admission.places import Shares
from p2p.admission.standing import Standing
from p2p.admission.turns import Turns

WAITING = Shares(8, strangers=4, proven=2, staked=2)


def turns(standing=None) -> Turns:
    known = {} if standing is None else standing
    return Turns(4, WAITING, lambda key: known.get(key, Standing.STRANGER))


def test_slow_ones_of_one_subnet_leave_room_for_others():
    table = turns()
    for number in range(4096):
        table.ask(f"sybil {number}", "203.0.113.0/24")
        table.start()
    assert table.waiting <= WAITING.limit
    table.ask("honest", "10.0.0.0/24")
    assert table.start() == ("honest",)


def test_of_one_subnet_the_newest_is_next():
    table = turns()
    for number in range(100):
        table.ask(f"sybil {number}", "same")
    first = table.start()
    assert len(first) == 2
    table.ask("honest", "same")
    table.done(first[0])
    assert table.start() == ("honest",)


def test_the_staked_go_first():
    table = turns({"staked": Standing.STAKED, "proven": Standing.PROVEN})
    for name in ("staked", "proven", "a", "b"):
        table.ask(name, "same")
    assert table.start() == ("staked", "proven")


def test_who_left_gets_no_turn_and_one_at_work_asks_in_vain():
    table = turns()
    table.ask("gone", "x")
    table.forget("gone")
    assert table.start() == ()
    table.ask("a", "x")
    assert table.start() == ("a",)
    table.ask("a", "x")
    assert table.start() == ()
    table.done("a")
    table.ask("a", "x")
    assert table.start() == ("a",)
