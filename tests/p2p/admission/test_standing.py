from __future__ import annotations

import pytest

from p2p.admission.sources import UNKNOWN, claimed_subnet, subnet
from p2p.admission.standing import (
    MAX_REMEMBERED,
    PROVEN_AFTER,
    REMEMBERED,
    Conduct,
    Standing,
)


def test_time_without_an_offence_proves_a_peer():
    conduct = Conduct()
    conduct.connected("a", 0)
    assert conduct.standing("a", PROVEN_AFTER - 1) is Standing.STRANGER
    assert conduct.standing("a", PROVEN_AFTER) is Standing.PROVEN
    conduct.offended("a", PROVEN_AFTER)
    assert conduct.standing("a", PROVEN_AFTER + 1) is Standing.STRANGER
    assert conduct.standing("a", 2 * PROVEN_AFTER) is Standing.PROVEN


def test_what_was_proven_is_remembered_for_a_while():
    conduct = Conduct()
    conduct.connected("a", 0)
    conduct.disconnected("a", PROVEN_AFTER)
    assert conduct.standing("a", PROVEN_AFTER + REMEMBERED - 1) is Standing.PROVEN
    assert conduct.standing("a", PROVEN_AFTER + REMEMBERED) is Standing.STRANGER
    conduct.offended("a", PROVEN_AFTER)
    assert conduct.standing("a", PROVEN_AFTER + 1) is Standing.STRANGER


def test_memory_is_bounded():
    conduct = Conduct()
    for number in range(2 * MAX_REMEMBERED):
        conduct.connected(str(number), 0)
        conduct.disconnected(str(number), PROVEN_AFTER)
    assert len(conduct._proven) == MAX_REMEMBERED
    assert not conduct._since


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("203.0.113.9", "203.0.113.0/24"),
        ("::ffff:203.0.113.9", "203.0.113.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("Node.Example", "node.example"),
    ],
)
def test_subnets_are_as_coarse_as_addresses_cost_money(host, expected):
    assert subnet(host) == expected


def test_the_first_address_that_names_a_place_counts():
    assert claimed_subnet(("/tcp/1", "/ip4/10.1.2.3/tcp/1", "/ip4/9.9.9.9/tcp/1")) == "10.1.2.0/24"
    assert claimed_subnet(("", "/ip4")) == UNKNOWN
