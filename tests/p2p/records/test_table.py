from __future__ import annotations

import pytest

from p2p.admission.standing import Standing
from p2p.identity import peer_id_of
from p2p.messages.validity import Validity
from p2p.records.record import open_record
from p2p.records.table import CLOCK_SKEW, MAX_TTL, RecordTable

NOW = 1_700_000_000.0


@pytest.fixture
def table(key):
    return RecordTable(peer_id_of(key(99)), "test")


def test_the_newest_record_of_each_peer_is_kept(table, signed, key):
    old, new = signed(0, at=NOW, region="old"), signed(0, at=NOW + 1, region="new")
    assert table.accept(old, NOW).validity is Validity.ACCEPT
    assert table.accept(new, NOW).validity is Validity.ACCEPT
    assert table.get(peer_id_of(key(0)), NOW).region == "new"
    assert table.version == 2


@pytest.mark.parametrize(
    ("number", "made", "validity", "reason"),
    [
        (0, {"at": NOW, "ttl": 0.0}, Validity.REJECT, "lifetime"),
        (0, {"at": NOW, "ttl": MAX_TTL + 1}, Validity.REJECT, "lifetime"),
        (0, {"at": NOW, "ttl": -5.0}, Validity.REJECT, "lifetime"),
        (99, {"at": NOW}, Validity.IGNORE, "own"),
        (0, {"at": NOW - 1000}, Validity.IGNORE, "expired"),
        (0, {"at": NOW + CLOCK_SKEW + 1}, Validity.IGNORE, "future"),
        (0, {"at": NOW, "network": "other"}, Validity.REJECT, "signed"),
    ],
)
def test_each_check_has_its_tag(table, signed, number, made, validity, reason):
    verdict = table.accept(signed(number, **made), NOW)
    assert verdict.validity is validity
    assert reason in verdict.reason
    assert verdict.record is None
    assert len(table) == 0
    assert table.version == 0


def test_duplicates_and_older_ones_are_ignored(table, signed):
    wire = signed(0, at=NOW)
    table.accept(wire, NOW)
    for repeat in (wire, signed(0, at=NOW - 1), signed(0, at=NOW, region="same number")):
        assert table.accept(repeat, NOW).validity is Validity.IGNORE
    assert table.version == 1


def test_clocks_apart_within_the_bound_do_no_harm(table, signed):
    assert table.accept(signed(0, at=NOW + CLOCK_SKEW), NOW).validity is Validity.ACCEPT
    late = signed(1, at=NOW - 90 - CLOCK_SKEW + 1)
    assert table.accept(late, NOW).validity is Validity.ACCEPT


def test_expired_records_are_not_shown_and_then_dropped(table, signed, key):
    table.accept(signed(0, at=NOW), NOW)
    peer = peer_id_of(key(0))
    assert table.get(peer, NOW + 89) is not None
    assert table.get(peer, NOW + 90) is None
    assert table.all(NOW + 90) == ()
    assert table.expire(NOW + 90) == 0  # kept for the skew, so that an old copy cannot return
    assert table.expire(NOW + 91 + CLOCK_SKEW) == 1
    assert len(table) == 0


def test_4096_sybils_do_not_shut_a_newcomer_out_nor_push_out_whoever_is_connected(signed, key):
    """They claim a new subnet each; the peer that is connected is seen somewhere else."""
    connected, newcomer = peer_id_of(key(0)), peer_id_of(key(1))
    table = RecordTable(
        peer_id_of(key(99)),
        "test",
        max_records=16,
        seen_at=lambda peer_id: "198.51.100.0/24" if peer_id == connected else "",
    )
    table.accept(signed(0, at=NOW), NOW)
    for number in range(100, 200):
        wire = signed(number, at=NOW, addresses=(f"/ip4/203.0.{number}.9/tcp/9",))
        assert table.accept(wire, NOW).validity is Validity.ACCEPT
        assert len(table) <= 16
    assert table.get(connected, NOW) is not None
    assert table.accept(signed(1, at=NOW), NOW).validity is Validity.ACCEPT
    assert table.get(newcomer, NOW) is not None


def test_a_crowd_that_names_one_subnet_displaces_itself(signed, key):
    table = RecordTable(peer_id_of(key(99)), "test", max_records=8)
    table.accept(signed(0, at=NOW, addresses=("/ip4/198.51.100.1/tcp/1",)), NOW)
    for number in range(100, 150):
        table.accept(signed(number, at=NOW, addresses=("/ip4/203.0.113.9/tcp/9",)), NOW)
    assert table.get(peer_id_of(key(0)), NOW) is not None
    assert len(table) == 8


def test_the_staked_keep_their_places(signed, key):
    staked = {peer_id_of(key(number)) for number in range(4)}
    table = RecordTable(
        peer_id_of(key(99)),
        "test",
        max_records=8,
        judge=lambda peer_id: Standing.STAKED if peer_id in staked else Standing.STRANGER,
    )
    for number in (*range(4), *range(100, 150)):
        table.accept(signed(number, at=NOW), NOW)
    assert staked <= {record.peer_id for record in table.all(NOW)}


def test_our_own_record_is_ours_alone(table, signed, key):
    table.put_own(open_record(signed(99, at=NOW, region="mine"), "test"))
    table.accept(signed(99, at=NOW + 5, region="echo"), NOW)
    assert table.get(peer_id_of(key(99)), NOW).region == "mine"


def test_pages_cover_everything_once_in_order(table, signed):
    wires = [signed(number, at=NOW) for number in range(9)]
    for wire in wires:
        table.accept(wire, NOW)
    after, pages = "", []
    while True:
        page, after = table.page(after, NOW, max_bytes=2 * len(wires[0]) + 10)
        pages.append(page)
        if not after:
            break
    assert [len(page) for page in pages] == [2, 2, 2, 2, 1]
    got = [open_record(wire, "test").record for page in pages for wire in page]
    assert got == list(table.all(NOW))
    assert sorted(w for page in pages for w in page) == sorted(wires)


def test_a_page_holds_at_least_one_record(table, signed):
    table.accept(signed(0, at=NOW), NOW)
    assert len(table.page("", NOW, max_bytes=1)[0]) == 1
