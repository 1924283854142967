from __future__ import annotations

import pytest

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


def test_a_full_table_takes_updates_but_nobody_new_until_something_expires(signed, key):
    table = RecordTable(peer_id_of(key(99)), "test", max_records=2)
    table.accept(signed(0, at=NOW), NOW)
    table.accept(signed(1, at=NOW), NOW)
    assert table.accept(signed(2, at=NOW), NOW).reason == "the record table is full"
    assert table.accept(signed(1, at=NOW + 1), NOW).validity is Validity.ACCEPT
    later = NOW + 91 + CLOCK_SKEW
    assert table.accept(signed(2, at=later), later).validity is Validity.ACCEPT


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
