"""Topics between real hosts: delivery, verdicts, pacing, isolation."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from p2p.errors import ConfigError
from p2p.messages.gossip import MAX_MESSAGE
from p2p.network import NetworkConfig, Validity, open_network


def accept(author: str, data: bytes) -> Validity:
    return Validity.ACCEPT


class Inbox:
    """Collects messages and wakes whoever waits for a number of them."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self._changed = trio.Event()

    async def handle(self, author: str, data: bytes) -> None:
        self.got.append((author, data))
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, count: int) -> None:
        while len(self.got) < count:
            await self._changed.wait()


async def subscribed(network, topic: str, validate=accept) -> list[Inbox]:
    boxes = [Inbox() for _ in network]
    for node, box in zip(network, boxes, strict=True):
        node.subscribe(topic, validate, box.handle)
    with trio.fail_after(60):
        for node in network:
            while not node._gossip.mesh_peers(topic):
                await trio.testing.wait_all_tasks_blocked(0.01)
    return boxes


async def test_a_message_reaches_everybody_but_its_author_once(nodes):
    async with nodes(4) as network:
        boxes = await subscribed(network, "news")
        await network[2].publish("news", b"hello")
        with trio.fail_after(60):
            for number in (0, 1, 3):
                await boxes[number].until(1)
        await trio.testing.wait_all_tasks_blocked(0.05)
        for number in (0, 1, 3):
            assert boxes[number].got == [(network[2].peer_id, b"hello")]
        assert boxes[2].got == []


async def test_a_burst_of_messages_arrives_whole(nodes):
    async with nodes(3) as network:
        boxes = await subscribed(network, "news")
        # Beyond both the library's queue (32) and what receivers take in a second (100).
        expected = [f"message {number}".encode() for number in range(150)]
        for data in expected:
            await network[0].publish("news", data)
        with trio.fail_after(60):
            await boxes[1].until(150)
            await boxes[2].until(150)
        assert sorted(data for _, data in boxes[1].got) == sorted(expected)


@pytest.mark.parametrize(("verdict", "blamed"), [(Validity.IGNORE, False), (Validity.REJECT, True)])
async def test_only_rejection_stops_a_message_and_blames(nodes, verdict, blamed):
    async with nodes(2) as (one, two):
        tried = trio.Event()

        def judge(author: str, data: bytes) -> Validity:
            if data == b"bad":
                tried.set()
                return verdict
            return Validity.ACCEPT

        boxes = [Inbox(), Inbox()]
        one.subscribe("news", accept, boxes[0].handle)
        two.subscribe("news", judge, boxes[1].handle)
        with trio.fail_after(60):
            while not one._gossip.mesh_peers("news"):
                await trio.testing.wait_all_tasks_blocked(0.01)
            await one.publish("news", b"bad")
            await tried.wait()
            await one.publish("news", b"good")
            await boxes[1].until(1)
        assert [data for _, data in boxes[1].got] == [b"good"]
        assert (two._scores.score(one.peer_id, two._config.clock()) < 0) == blamed


async def test_own_limits(nodes):
    async with nodes(1) as (node,):
        with pytest.raises(ConfigError, match="at most"):
            await node.publish("news", bytes(MAX_MESSAGE + 1))
        node.subscribe("news", accept, Inbox().handle)
        with pytest.raises(ConfigError, match="already"):
            node.subscribe("news", accept, Inbox().handle)


async def test_an_invalid_record_on_the_topic_costs_its_sender(nodes):
    async with nodes(2) as (one, two):
        with trio.fail_after(60):
            while not one._gossip.mesh_peers("records"):
                await trio.testing.wait_all_tasks_blocked(0.01)
            await one.publish("records", b"this is no record")
            while two._scores.score(one.peer_id, two._config.clock()) >= 0:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert two.records.all() == ()


async def test_gossip_and_dht_survive_a_surprise_of_their_services(key):
    """The library's services run once; the parts that hold them are started anew, with news."""
    async with (
        open_network(NetworkConfig(network="test"), key(0)) as one,
        open_network(NetworkConfig(network="test"), key(1)) as two,
    ):
        heard = trio.Event()

        async def handler(author: str, data: bytes) -> None:
            heard.set()

        async def surprise() -> None:
            raise OverflowError("what no one thought of")

        for node in (one, two):
            node.subscribe("news", lambda author, data: Validity.ACCEPT, handler)
        await two.connect(one.addresses[0])
        one._gossip._pubsub.manager.run_task(surprise)
        one._dht._kad.manager.run_task(surprise)
        with trio.fail_after(60):
            while {t.part for t in one.troubles if t.running} != {"dht", "gossip"}:
                await trio.testing.wait_all_tasks_blocked(0.01)
            while not heard.is_set():
                await two.publish("news", b"again")
                with trio.move_on_after(0.5):
                    await heard.wait()
        assert all("no one thought of" in t.reason for t in one.troubles)
        assert one._scores.offenders() == two._scores.offenders() == ()
