"""Two nodes with one key: both notice."""

from __future__ import annotations

import structlog
import trio

from p2p.network import NetworkConfig, open_network
from p2p.records.own import LASTS, REMEMBERED, OwnRecords
from p2p.records.record import open_record

NOW = 1_700_000_000.0


def test_only_another_nodes_records_are_another_nodes(signed):
    own = OwnRecords()
    earlier_run = open_record(signed(0, at=NOW - 50, region="before"), "test")
    assert not own.seen(earlier_run, NOW)
    mine = [open_record(signed(0, at=NOW + 20 * n), "test") for n in range(3 * REMEMBERED)]
    for record in mine:
        own.made(record)
    assert not any(own.seen(record, NOW) for record in (earlier_run, *mine))
    assert own.trouble(NOW) == ""
    assert len(own._made) == REMEMBERED
    last = NOW + 20 * 3 * REMEMBERED
    fields = {"addresses": ("/ip4/10.0.0.7/tcp/4001/p2p/x",), "region": "copy"}
    other = open_record(signed(0, at=last, **fields), "test")
    assert own.seen(other, last)
    assert not own.seen(other, last)
    assert other.record.peer_id in own.trouble(last)
    assert "at /ip4/10.0.0.7/tcp/4001; stop one of the two" in own.trouble(last)
    assert own.trouble(last + LASTS + 1) == ""


async def test_a_copied_data_folder_is_noticed_by_both_of_its_nodes(key, record):
    with structlog.testing.capture_logs() as logs:
        async with open_network(NetworkConfig(network="test"), key(0)) as common:
            await common.publish_record(record(common.peer_id))
            config = NetworkConfig(network="test", bootstrap=common.addresses)
            async with open_network(config, key(1)) as one, open_network(config, key(1)) as copy:
                for node in (one, copy):
                    await node.bootstrap(60)
                    await node.publish_record(record(node.peer_id))
                with trio.fail_after(120):
                    while not (one.unseen and copy.unseen):
                        await trio.sleep(0.5)
                        for node in (one, copy):  # again and again, as every node does
                            await node.publish_record(record(node.peer_id))
                for node, other in ((one, copy), (copy, one)):
                    (said,) = node.unseen
                    assert "a second node runs with this node's key" in said
                    assert other.addresses[0].partition("/p2p/")[0] in said
    assert sum(line["event"] == "identity in use elsewhere" for line in logs) == 2
