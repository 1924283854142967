"""A real node's process, but for the torch engine: verdicts come in from the scenario's driver.

`python -m tests.integration.settlement.node_process --data-dir … --network-file … --role …`

Data folder, key, journal, network, chain client, follower and the roles' settlement parts are those
of `prime-node run`. A worker's process claims for the accounts it is given.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog
import trio

from chain.client import ChainClient, open_chain
from chain.deployment.deployment import Deployment
from chain.transactions.machine import Rules
from chain.transactions.sender import SenderSettings
from node.announcement import make_record
from node.config.datadir import DataDir, NodeStatusFile
from node.config.keystore import load_key
from node.config.networkfile import NetworkFile
from node.config.schema import NodeConfig, PolicySection
from node.context import NodeContext
from node.journal import open_journal
from node.logs import configure_logging
from node.metrics import NodeMetrics
from node.onchain.receipt_domain import receipt_domain
from node.roles.assembly import Roles, open_follower
from node.roles.validator.assembly import open_settlement
from node.roles.validator.settlement.pending import EpochRules
from node.roles.validator.timing import SettlementTiming
from node.roles.worker.purse import GasPurse
from node.roles.worker.rewards import Rewards
from node.settlement.follower import SettlementFollower
from node.wire.messages.fields import Done
from node.wire.rpc import serve
from p2p.network import NetworkConfig, open_network
from proofs.encoding.signing import keccak256
from tests.integration.settlement.cheating import Cheat, cheating_settlement
from tests.integration.settlement.feeding import FEED, FeedRequest, receipts_of

CHAIN_POLL_SECONDS = 0.5
GAS_PER_DAY = 10**18
"""Claims follow one another in seconds here, and what is tested is that they are paid."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--network-file", type=Path, required=True)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--role", choices=["validator", "worker"], required=True)
    parser.add_argument("--provider", required=True)
    parser.add_argument("--accounts", nargs="*", default=[])
    parser.add_argument("--pool", type=int, required=True)
    parser.add_argument("--max-units", type=int, default=256)
    parser.add_argument("--quiet", type=float, default=1.0)
    parser.add_argument("--turn", type=float, default=2.0)
    parser.add_argument("--set-aside", type=float, default=2.0)
    parser.add_argument("--cheat", type=Cheat, choices=list(Cheat), default=None)
    parser.add_argument("--cheat-from", type=int, default=2)
    return parser.parse_args()


@asynccontextmanager
async def open_context(
    options: argparse.Namespace, file: NetworkFile
) -> AsyncIterator[tuple[NodeContext, ChainClient]]:
    """As `node.runtime` makes them."""
    table = file.chain
    assert table is not None
    config = NodeConfig(
        data_dir=options.data_dir,
        network_file=options.network_file,
        roles=(options.role,),
        listen=(options.listen,),
        policy=PolicySection(gas_per_day=GAS_PER_DAY),
    )
    data = DataDir(config.data_dir)
    key = load_key(data.node_key)
    settings = SenderSettings(
        rules=Rules(confirmations=table.confirmations), poll=CHAIN_POLL_SECONDS
    )
    network_config = NetworkConfig(
        listen=config.listen, bootstrap=file.bootstrap, network=file.name, data_dir=data.path
    )
    async with AsyncExitStack() as stack:
        stack.enter_context(data.lock())
        journal = await stack.enter_async_context(open_journal(data.journal, time.time))
        network = await stack.enter_async_context(open_network(network_config, key.secret))
        await network.bootstrap(60)
        chain = await stack.enter_async_context(
            open_chain(
                table.rpc_url,
                Deployment.from_dict(table.deployment()),
                key.secret,
                data.chain,
                settings=settings,
            )
        )
        context = NodeContext(
            config=config,
            network_name=file.name,
            key=key.secret,
            peer_id=network.peer_id,
            address=key.address,
            provider=options.provider,
            network=network,
            journal=journal,
            receipt_domain=receipt_domain(chain),
            metrics=NodeMetrics(),
            engine_dir=data.engine,
            blobs=data.blobs,
            log=structlog.get_logger("node"),
        )
        yield context, chain


async def main(options: argparse.Namespace) -> None:
    configure_logging("json", "info")
    file = NetworkFile.load(options.network_file)
    assert file.chain is not None
    async with open_context(options, file) as (context, chain), trio.open_nursery() as nursery:
        follower = open_follower(context, chain, file.chain)
        follower.wants = lambda pool_id: pool_id == options.pool
        if options.role == "validator":
            await start_validator(options, context, chain, follower, nursery)
        else:
            rewards = Rewards(context, chain, follower, GasPurse(context, chain), options.accounts)
            await rewards.restore()
            await nursery.start(follower.run)
            await rewards.joined(options.pool)
            nursery.start_soon(rewards.run)
        record = make_record(context, Roles(follower, None, None, None, 0), "")
        await context.network.publish_record(record)
        status = NodeStatusFile(os.getpid(), "", context.peer_id, context.network.addresses)
        DataDir(options.data_dir).write_status(status)
        context.log.info("serving", role=options.role)


async def start_validator(
    options: argparse.Namespace,
    context: NodeContext,
    chain: ChainClient,
    follower: SettlementFollower,
    nursery: trio.Nursery,
) -> None:
    rules = EpochRules(
        max_units=options.max_units,
        quiet=options.quiet,
        turn=options.turn,
        set_aside=options.set_aside,
    )
    if options.cheat is None:
        settlement = open_settlement(context, chain, follower, SettlementTiming(rules))
    else:
        begin = options.cheat_from
        settlement = cheating_settlement(context, chain, follower, rules, options.cheat, begin)

    async def on_feed(peer_id: str, request: FeedRequest) -> Done:
        async with trio.open_nursery() as accepting:
            for unit in request.units:
                receipts, bundle = receipts_of(unit), keccak256(unit.unit_id)
                accepting.start_soon(settlement.accept, peer_id, unit.unit_id, bundle, receipts)
        return Done()

    await nursery.start(follower.run)
    await settlement.restore()
    await nursery.start(settlement.run)
    serve(context.network, FEED, on_feed)


def end_with_the_driver() -> None:
    """Die when the driver does, however that ends: it holds the other end of our standard input."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    end_with_the_driver()
    trio.run(main, arguments(), strict_exception_groups=True)
