"""Clocks that differ are noticed on both sides; a majority of those who count says who is wrong."""

from __future__ import annotations

import pytest
import structlog
import trio

from p2p.admission.standing import Standing
from p2p.network import NetworkConfig, open_network
from p2p.records.clocks import MAX_HEARD, MAX_SAID, Clocks, apart

NOW = 1_700_000_000.0


def stranger(peer_id: str) -> Standing:
    return Standing.STRANGER


def test_a_majority_of_those_who_stand_highest_decides():
    clocks = Clocks(lambda peer: Standing.STAKED if peer.startswith("staked") else Standing(0))
    crowd = [f"stranger-{number}" for number in range(50)]
    for peer in crowd:
        clocks.heard(peer, 600.0)
    assert "50 of 50 peers are 10 minutes ahead of this node's" in clocks.trouble(crowd)
    clocks.heard("staked-1", 0.0)
    assert clocks.trouble([*crowd, "staked-1"]) == ""
    clocks.heard("staked-2", 600.0)
    assert clocks.trouble([*crowd, "staked-1", "staked-2"]) == ""
    clocks.heard("staked-3", 600.0)
    assert "2 of 3 peers" in clocks.trouble([*crowd, "staked-1", "staked-2", "staked-3"])
    assert clocks.trouble([]) == ""


def test_a_clock_that_was_set_is_forgiven():
    clocks = Clocks(stranger)
    assert clocks.heard("peer", -172_800.0)
    assert not clocks.heard("peer", -172_820.0)
    assert "2 days behind" in clocks.trouble(["peer"])
    clocks.heard("peer", 0.0)
    assert clocks.trouble(["peer"]) == ""
    assert clocks.heard("peer", 90.0)


def test_a_crowd_fills_neither_memory_nor_the_log():
    clocks = Clocks(stranger)
    said = sum(clocks.heard(f"peer-{number}", 600.0) for number in range(3 * MAX_HEARD))
    assert said == MAX_SAID
    assert len(clocks._ahead) == MAX_HEARD


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (61.0, "61 seconds ahead of"),
        (-600.0, "10 minutes behind"),
        (7200.0, "2 hours ahead of"),
        (-172_800.0, "2 days behind"),
    ],
)
def test_words(seconds, words):
    assert apart(seconds) == words


@pytest.mark.parametrize("ahead", [600.0, 172_800.0], ids=["ten minutes", "two days"])
async def test_two_nodes_with_clocks_apart_both_say_so(key, record, ahead):
    right = NetworkConfig(network="test", wall_clock=lambda: NOW)
    with structlog.testing.capture_logs() as logs:
        async with open_network(right, key(0)) as first:
            await first.publish_record(record(first.peer_id))
            wrong = NetworkConfig(
                network="test", bootstrap=first.addresses, wall_clock=lambda: NOW + ahead
            )
            async with open_network(wrong, key(1)) as second:
                await second.publish_record(record(second.peer_id))
                await second.bootstrap(60)
                with trio.fail_after(60):
                    while not (first.unseen and second.unseen):  # noqa: ASYNC110 - no event
                        await trio.sleep(0.02)
                words = apart(ahead)
                assert f"1 of 1 peers are {words} this node's" in first.unseen[0]
                assert "behind this node's" in second.unseen[0]
                assert first.records.get(second.peer_id) is None
    said = {line["peer"] for line in logs if line["event"] == "clocks differ"}
    assert said == {first.peer_id, second.peer_id}
