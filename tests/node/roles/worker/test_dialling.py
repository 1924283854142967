"""Which hosts are dialled because a neighbour says so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.roles.worker.dialling import announced_hosts, may_dial, may_look_up, parse_host

PUBLIC, OTHER, LAN = "8.8.4.4", "1.1.1.1", "192.168.1.20"


def dialled(host: str, seen: str | None, *said: str, private: bool = False) -> bool:
    address = parse_host(host)
    assert address is not None
    saw = None if seen is None else parse_host(seen)
    known = {a for a in map(parse_host, said) if a is not None}
    return may_dial(address, seen=saw, said=known, private=private)


def test_where_it_is_seen_and_where_its_record_says() -> None:
    assert dialled(PUBLIC, PUBLIC)
    assert dialled(PUBLIC, OTHER, PUBLIC)
    assert not dialled(PUBLIC, OTHER)
    assert not dialled(PUBLIC, None)


@pytest.mark.parametrize(
    "inside",
    [
        *(LAN, "10.0.0.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "172.17.0.1"),
        *("::1", "fe80::1", "fc00::1", "::ffff:192.168.1.20", "64:ff9b::a00:1", "2002:a00:1::1"),
    ],
)
def test_a_record_does_not_point_into_the_operators_network(inside: str) -> None:
    assert not dialled(inside, PUBLIC, inside, PUBLIC)
    assert dialled(inside, inside)
    assert dialled(inside, PUBLIC, inside, private=True)
    assert not dialled(inside, PUBLIC, private=True)


@pytest.mark.parametrize("nowhere", ["0.0.0.0", "::", "224.0.0.1", "ff02::1"])
def test_nobody_lives_there(nowhere: str) -> None:
    assert not dialled(nowhere, PUBLIC, nowhere, private=True)


def test_an_address_is_the_same_however_it_is_written() -> None:
    assert dialled("::ffff:8.8.4.4", PUBLIC)
    assert parse_host("a.example") is None
    assert parse_host("0x7f.1") is None


def test_only_announced_names_are_looked_up() -> None:
    announced = announced_hosts(
        ["/dns4/Node.example/tcp/4001", f"/ip4/{PUBLIC}/tcp/1", "junk", "/"]
    )
    assert announced == {"node.example", PUBLIC}
    assert may_look_up("node.EXAMPLE", announced)
    assert not may_look_up("router.lan", announced)


@given(st.ip_addresses(), st.ip_addresses(), st.lists(st.ip_addresses(), max_size=3))
def test_nothing_private_is_dialled_unless_the_neighbour_is_there(address, seen, said) -> None:
    allowed = may_dial(address, seen=seen, said=set(said), private=False)
    assert not allowed or address == seen or (address.is_global and address in said)
