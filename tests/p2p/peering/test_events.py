from __future__ import annotations

import pytest
import trio

from p2p.peering.events import PeerConnected, PeerDisconnected, PeerEvents


async def test_every_subscriber_gets_every_event():
    events = PeerEvents()
    one, two = events.subscribe(), events.subscribe()
    events.publish(PeerConnected("a"))
    events.publish(PeerDisconnected("a"))
    for channel in (one, two):
        assert await channel.receive() == PeerConnected("a")
        assert await channel.receive() == PeerDisconnected("a")


async def test_a_slow_subscriber_loses_the_oldest_and_nobody_else_waits():
    events = PeerEvents(capacity=2)
    slow, quick = events.subscribe(), events.subscribe()
    for name in "abc":
        events.publish(PeerConnected(name))
        assert await quick.receive() == PeerConnected(name)
    assert [slow.receive_nowait().peer_id for _ in range(2)] == ["b", "c"]
    assert events.dropped == 1


async def test_a_closed_subscription_is_forgotten():
    events = PeerEvents()
    async with events.subscribe():
        events.publish(PeerConnected("a"))
    events.publish(PeerConnected("b"))
    assert not events._channels


async def test_the_end_ends_all_subscriptions():
    events = PeerEvents()
    channel = events.subscribe()
    events.publish(PeerConnected("a"))
    events.close()
    assert await channel.receive() == PeerConnected("a")
    with pytest.raises(trio.EndOfChannel):
        await channel.receive()
