"""Authority, then bytes, then work: what a request passes before it is read, between real hosts."""

from __future__ import annotations

import math
import time
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from libp2p.host.exceptions import StreamFailure
from libp2p.io.exceptions import IOException
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.utils import encode_varint_prefixed
from libp2p.utils.varint import encode_uvarint

from p2p.admission.budgets import BudgetLimits
from p2p.admission.shares import MIB, Limits, Share
from p2p.admission.standing import Standing
from p2p.errors import Refused, RemoteRefused
from p2p.guards.yamux import MAX_INBOUND_STREAMS
from p2p.messages.framing import decode_response, read_frame
from p2p.messages.serving import ServiceTiming
from p2p.messages.streams import Stream, StreamBroken
from p2p.network import NetworkConfig, open_network
from p2p.peering.addresses import peer_id_object
from p2p.records.exchange import MAX_REQUEST, PROTOCOL

ECHO = "/prime/echo/1"
PLENTY = Share(1e9, 1e9, 1e9)
SMALL = BudgetLimits(
    bytes=Limits(
        strangers=Share(2 * MIB, 3 * MIB, 4 * MIB),
        proven=Share(2 * MIB, 3 * MIB, 5 * MIB),
        staked=Share(4 * MIB, math.inf, 6 * MIB),
        kept=64 * 1024,
        holders=32,
    ),
    cpu=Limits(PLENTY, PLENTY, PLENTY, kept=1e9),
)


async def echo(peer_id: str, payload: bytes) -> bytes:
    return payload


@asynccontextmanager
async def victim_and_peers(key, budgets: BudgetLimits | None = None):
    async with (
        open_network(NetworkConfig(budgets=budgets or BudgetLimits()), key(0)) as victim,
        open_network(NetworkConfig(), key(1)) as attacker,
        open_network(NetworkConfig(), key(2)) as honest,
    ):
        for node in (attacker, honest):
            await node.connect(victim.addresses[0])
        yield victim, attacker, honest


def offenders(node) -> tuple[str, ...]:
    return node._scores.offenders()


async def test_one_peer_with_all_streams_on_all_protocols_holds_its_share_and_no_more(key):
    """Each stream announces the largest message and sends all but its last byte."""
    size = MIB // 4
    async with victim_and_peers(key, SMALL) as (victim, attacker, honest):
        victim.serve(ECHO, echo, max_request=size, timing=ServiceTiming(read=600.0))
        victim.serve("/prime/other/1", echo, max_request=size, timing=ServiceTiming(read=600.0))
        protocols = [str(p) for p in victim._host.get_mux().get_protocols()]
        ours = {ECHO: size, "/prime/other/1": size, PROTOCOL: MAX_REQUEST}
        assert set(ours) < set(protocols)
        answers: list[str] = []

        async def misuse_again(number: int) -> None:
            while True:
                await misuse(number)

        async def misuse(number: int) -> None:
            protocol = protocols[number % len(protocols)]
            largest = ours.get(protocol, 64 * 1024)
            prefix = largest.to_bytes(4, "big") if protocol in ours else encode_uvarint(largest)
            try:
                stream = await attacker._host.new_stream(peer_id_object(victim.peer_id), [protocol])
                try:
                    await stream.write(prefix + bytes(largest - 1))
                    while await stream.read(4096):  # until it is reset
                        pass
                except IOException:
                    if protocol in ours:
                        await answer_of(stream)
            except (IOException, StreamFailure, StreamBroken):
                pass  # refused in whatever way

        async def answer_of(stream) -> None:
            try:
                decode_response(await read_frame(Stream(stream, victim.peer_id), 4096), 0)
            except RemoteRefused as refused:
                answers.append(refused.message)

        async with trio.open_nursery() as nursery:
            for number in range(MAX_INBOUND_STREAMS):
                nursery.start_soon(misuse_again, number)
            with trio.fail_after(120):
                most = 0
                while not any("bytes in flight of your peer id" in each for each in answers):
                    await trio.lowlevel.checkpoint()
                    most = max(most, victim.budgets.bytes.held_by(attacker.peer_id))
                    assert victim.budgets.bytes.held <= SMALL.bytes.most
                assert MIB < most <= 2 * MIB
                assert await honest.request(victim.peer_id, ECHO, b"!" * 1000, timeout=60)
            nursery.cancel_scope.cancel()
        assert honest.peer_id not in offenders(victim)
        await attacker.disconnect(victim.peer_id)
        bytes_, streams = victim.budgets.bytes, victim.budgets.streams
        with trio.fail_after(60):  # before it is connected again, and gossips
            while bytes_.held_by(attacker.peer_id) or streams.held_by(attacker.peer_id):
                await trio.lowlevel.checkpoint()


async def test_who_may_not_ask_is_told_before_its_bytes_are_read(key):
    async with victim_and_peers(key) as (victim, stranger, member):
        asked: list[str] = []

        async def members_only(peer_id: str) -> None:
            asked.append(peer_id)
            if peer_id != member.peer_id:
                raise Refused("not_a_member", "you are nobody here")

        victim.serve(ECHO, echo, max_request=8 * MIB, authorize=members_only)
        with pytest.raises(RemoteRefused) as refused:
            await stranger.request(victim.peer_id, ECHO, bytes(8 * MIB), timeout=120)
        assert refused.value.code == "not_a_member"
        assert victim.standing(stranger.peer_id) is Standing.STRANGER
        assert await member.request(victim.peer_id, ECHO, b"yes", timeout=60) == b"yes"
        assert victim.standing(member.peer_id) is Standing.STAKED
        assert asked == [stranger.peer_id, member.peer_id]
        assert offenders(victim) == ()


async def test_a_peer_without_cpu_budget_is_told_so_and_not_blamed(key):
    async with victim_and_peers(key) as (victim, greedy, honest):
        victim.serve(ECHO, echo)
        crowd = victim.budgets.asker(greedy.peer_id)
        victim.budgets.charge(crowd, 3.0)
        with pytest.raises(RemoteRefused, match="CPU seconds of your peer id") as refused:
            await greedy.request(victim.peer_id, ECHO, b"", timeout=60)
        assert refused.value.code == "busy"
        assert await honest.request(victim.peer_id, ECHO, b"!", timeout=60) == b"!"
        assert offenders(victim) == offenders(greedy) == ()


async def test_what_a_call_costs_is_charged_to_its_peer(key):
    async with victim_and_peers(key) as (victim, client, _):

        async def costly(peer_id: str, payload: bytes) -> bytes:
            started = time.thread_time()
            while time.thread_time() - started < 0.2:
                pass
            await trio.lowlevel.checkpoint()
            raise Refused("no", "after all that work")

        victim.serve(ECHO, costly)
        now = victim._config.clock()
        with pytest.raises(RemoteRefused, match="no"):
            await client.request(victim.peer_id, ECHO, b"", timeout=60)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert victim.budgets.cpu.level(client.peer_id, now) >= 0.2


async def test_silent_dht_streams_of_one_peer_keep_nobody_out(key):
    async with victim_and_peers(key) as (victim, attacker, honest):
        target, protocol = peer_id_object(victim.peer_id), ["/prime/kad/1.0.0"]
        for _ in range(40):
            await attacker._host.new_stream(target, protocol)
        await trio.testing.wait_all_tasks_blocked(0.01)
        stream = await honest._host.new_stream(target, protocol)
        question = Message(type=Message.MessageType.FIND_NODE, key=target.to_bytes())
        await stream.write(encode_varint_prefixed(question.SerializeToString()))
        with trio.fail_after(60):
            assert await stream.read(1)


async def test_a_request_that_breaks_off_gives_its_place_back(key):
    async with victim_and_peers(key) as (victim, client, _):
        victim.serve(ECHO, echo, concurrency=4, timing=ServiceTiming(read=0.2))
        for _ in range(3):
            stream = await client.open_stream(victim.peer_id, ECHO, 5)
            await stream.send_all(b"\0\0\x10\0only a part")
            with trio.fail_after(60), pytest.raises(StreamBroken):
                await stream.receive_some()
        assert await client.request(victim.peer_id, ECHO, b"!", timeout=60) == b"!"
        with trio.fail_after(60):
            while victim.budgets.bytes.held:
                await trio.testing.wait_all_tasks_blocked(0.01)
