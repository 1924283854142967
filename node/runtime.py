"""The composition root: `run_node` builds a node out of its parts and runs it until interrupted.

Order matters and is the same for every role. First what can fail because of the user (folder, keys,
network file, journal), then the network, then the chain, then the roles' engines and services, and
last the HTTP port and the signed record that tells the network we are here. Everything is owned by
context managers and nurseries of this function; leaving it, for whatever reason, undoes it in
reverse order and leaves no process, socket or lock behind.

The first Ctrl-C (or SIGTERM, or SIGHUP when a terminal is closed) drains: roles finish what they
owe within `DRAIN_SECONDS`. A second one stops at once.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import structlog
import trio

from node.announcement import make_record
from node.config.datadir import DataDir, NodeStatusFile
from node.config.keystore import NodeKey, generate_key, load_key, save_key
from node.config.networkfile import NetworkFile
from node.config.schema import NodeConfig
from node.console.rotating import RotatingFile
from node.console.signals import ending_signals
from node.context import NodeContext
from node.errors import InputError
from node.http.app import create_app
from node.http.server import own_url, serve_http
from node.journal import open_journal
from node.lifecycle import Lifecycle, NodeState
from node.logs import configure_logging
from node.metrics import NodeMetrics
from node.onchain.receipt_domain import receipt_domain
from node.onchain.registration import Provider, find_provider
from node.roles.assembly import Roles, open_roles
from node.roles.keeping import open_keepers
from node.runtime_view import RuntimeView
from node.storage.pruning import Pruner
from node.storage.room import DiskWatch
from p2p.network import Network, NetworkConfig, open_network

if TYPE_CHECKING:
    from chain.client import ChainClient

DRAIN_SECONDS = 15.0
BOOTSTRAP_SECONDS = 20.0
SIMULATION_VARIABLE = "PRIME_SIMULATION"
"""Set to 1 for the nodes of a simulation, which alone may have faults."""


def run_node(config: NodeConfig) -> None:
    """Run a node until Ctrl-C. Raises `NodeError` and the packages' own errors."""
    trio.run(_run, config, strict_exception_groups=True)


async def _run(config: NodeConfig) -> None:
    if config.worker.fault and os.environ.get(SIMULATION_VARIABLE) != "1":
        raise InputError(
            f"worker.fault {config.worker.fault}: only a simulation's workers are dishonest",
            "prime-node simulate --fault worker-1:" + config.worker.fault,
        )
    configure_logging(config.log_format, config.log_level)
    log = structlog.get_logger("node")
    data = DataDir(config.data_dir)
    with data.lock():
        if config.log_file is not None:
            file = RotatingFile(config.log_file, config.retention.logs)
            configure_logging(config.log_format, config.log_level, file)
        key = _own_key(data.node_key, log)
        provider = _provider(data, config.provider, log)
        network_file = NetworkFile.load(config.network_file) if config.network_file else None
        data.remember_network(config.network_file)
        lifecycle = Lifecycle()
        async with AsyncExitStack() as stack:
            journal = await stack.enter_async_context(open_journal(data.journal, time.time))
            network = await stack.enter_async_context(
                open_network(_network_config(config, data, network_file), key.secret)
            )
            structlog.contextvars.bind_contextvars(peer=network.peer_id[-8:])
            log.info("listening", addresses=list(network.addresses))
            await _bootstrap(network, config, network_file)
            chain = await stack.enter_async_context(_open_chain(network_file, data, key))
            metrics = NodeMetrics()
            context = NodeContext(
                config=config,
                network_name=network_file.name if network_file else config.network,
                key=key.secret,
                peer_id=network.peer_id,
                address=key.address,
                provider=provider.address,
                network=network,
                journal=journal,
                receipt_domain=receipt_domain(chain),
                metrics=metrics,
                engine_dir=data.engine,
                blobs=data.blobs,
                log=log,
            )
            roles = await stack.enter_async_context(
                open_roles(
                    context, chain, key, provider, network_file.chain if network_file else None
                )
            )
            lifecycle.to(NodeState.REGISTERED)
            reasons = (roles.trouble,) if chain is None else (roles.trouble, chain_trouble(chain))
            await _serve(context, roles, lifecycle, data, reasons)
        lifecycle.to(NodeState.STOPPED)


async def _serve(
    context: NodeContext,
    roles: Roles,
    lifecycle: Lifecycle,
    data: DataDir,
    reasons: Sequence[Callable[[], str]],
) -> None:
    config = context.config
    keepers = await open_keepers(config, context.journal, roles)
    pruner = Pruner(keepers, lambda: context.journal.failing, context.log)
    view = RuntimeView(context, roles, lifecycle, reasons, pruner)
    app = create_app(
        view, token=data.api_token(), metrics=context.metrics, bound_host=config.http_host
    )
    async with trio.open_nursery() as nursery:
        interrupted = trio.Event()
        nursery.start_soon(context.journal.let_go_when_cancelled)
        watch = DiskWatch(context.journal, config.retention.free_reserve, context.log)
        context.supervisor.keep(nursery, "disk watch", watch.run)
        context.supervisor.keep(nursery, "retention", pruner.run)
        nursery.start_soon(_watch_signals, interrupted, nursery.cancel_scope, context.log)
        await nursery.start(roles.run)
        port = await nursery.start(serve_http, app, config.http_host, config.http_port)
        url = own_url(config.http_host, port)
        await context.network.publish_record(make_record(context, roles, url))
        lifecycle.to(NodeState.SERVING)
        data.write_status(
            NodeStatusFile(os.getpid(), url, context.peer_id, context.network.addresses)
        )
        context.log.info(
            "serving",
            roles=list(config.roles),
            http=url,
            addresses=list(context.network.addresses),
        )
        await interrupted.wait()
        lifecycle.to(NodeState.DRAINING)
        context.log.info("draining; press Ctrl-C again to stop at once")
        with trio.move_on_after(DRAIN_SECONDS) as scope:
            await roles.drain()
        if scope.cancelled_caught:
            context.log.warning("left with work under way", seconds=DRAIN_SECONDS)
        nursery.cancel_scope.cancel()


async def _watch_signals(
    interrupted: trio.Event,
    scope: trio.CancelScope,
    log: structlog.typing.FilteringBoundLogger,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(*ending_signals()) as signals:
        task_status.started()
        async for number in signals:
            # A closed terminal and its shell both send SIGHUP; nobody asks twice by that.
            if interrupted.is_set() and number != signal.SIGHUP:
                log.warning("stopping at once")
                scope.cancel()
                return
            interrupted.set()


def _own_key(path: os.PathLike[str], log: structlog.typing.FilteringBoundLogger) -> NodeKey:
    """The key in this file; a new one where there is none yet."""
    from pathlib import Path

    file = Path(path)
    if not file.exists():
        save_key(file, generate_key())
        log.info("new key", file=str(file))
    return load_key(file)


def _provider(
    data: DataDir, named: str | None, log: structlog.typing.FilteringBoundLogger
) -> Provider:
    """Whose node this is; a provider with a new key where nothing says so yet."""
    found = find_provider(data, named)
    if found is None:
        key = _own_key(data.provider_key, log)
        return Provider(key.address, key, data.path)
    return found


def _network_config(
    config: NodeConfig, data: DataDir, network_file: NetworkFile | None
) -> NetworkConfig:
    bootstrap = config.bootstrap or (network_file.bootstrap if network_file else ())
    return NetworkConfig(
        listen=config.listen,
        bootstrap=bootstrap,
        network=network_file.name if network_file else config.network,
        external=config.external,
        data_dir=data.path,
    )


async def _bootstrap(
    network: Network, config: NodeConfig, network_file: NetworkFile | None
) -> None:
    """Find the network. An orchestrator may be the first node there is."""
    addresses = config.bootstrap or (network_file.bootstrap if network_file else ())
    others = [address for address in addresses if not address.endswith(network.peer_id)]
    if others:
        await network.bootstrap(BOOTSTRAP_SECONDS)
    elif "orchestrator" not in config.roles:
        if config.network_file is not None:
            raise InputError(
                f"{config.network_file} names no bootstrap peer",
                "give --bootstrap <multiaddr>; the orchestrator prints its own when it serves",
            )
        raise InputError("no bootstrap address", "give --bootstrap <multiaddr>")


@asynccontextmanager
async def _open_chain(
    network_file: NetworkFile | None, data: DataDir, key: NodeKey
) -> AsyncIterator[ChainClient | None]:
    """The chain that the network file names, None where it names none."""
    if network_file is None or network_file.chain is None:
        yield None
        return
    from chain.client import open_chain
    from chain.deployment.deployment import Deployment
    from chain.transactions.machine import Rules
    from chain.transactions.sender import SenderSettings

    table = network_file.chain
    deployment = Deployment.from_dict(table.deployment())
    settings = SenderSettings(rules=Rules(confirmations=table.confirmations))
    async with open_chain(
        table.rpc_url, deployment, key.secret, data.chain, settings=settings
    ) as chain:
        yield chain


def chain_trouble(chain: ChainClient) -> Callable[[], str]:
    """Says why the chain cannot be read just now, "" where it can."""

    def trouble() -> str:
        return (
            chain.rpc.trouble and f"the chain {chain.rpc.url} is not readable: {chain.rpc.trouble}"
        )

    return trouble
