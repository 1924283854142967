"""The chain as an onlooker sees it: token balances of everybody in a simulation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from node.config.keystore import generate_key
from node.config.networkfile import NetworkFile
from node.errors import NodeError

if TYPE_CHECKING:
    from chain.client import ChainClient
    from node.simulation.network import SimulatedNetwork

Balances = dict[str, int]
"""Tokens (smallest unit) by node name: what each node's provider holds."""


class Ledger:
    """Reads the chain of a simulation; it never sends anything."""

    def __init__(self, chain: ChainClient, network: SimulatedNetwork) -> None:
        self._chain = chain
        self._network = network

    async def balances(self) -> Balances:
        """What every worker's provider holds now."""
        return {
            name: await self._chain.token_balance(self._network.nodes[name].provider)
            for name in self._network.options.worker_names
        }

    async def stakes(self) -> Balances:
        """What every worker's and validator's provider has staked now."""
        options = self._network.options
        return {
            name: await self._chain.providers.stake_of(self._network.nodes[name].provider)
            for name in (*options.worker_names, *options.validator_names)
        }

    async def unclaimed(self, pool_id: int) -> int:
        """What the pool's newest root owes beyond what was claimed, in the smallest unit."""
        owed = (await self._chain.settlement.epochs_of(pool_id)).total_payout
        paid = 0
        for name in self._network.options.worker_names:
            paid += await self._chain.settlement.claimed(
                pool_id, self._network.nodes[name].provider
            )
        return owed - paid


@asynccontextmanager
async def open_ledger(network: SimulatedNetwork) -> AsyncIterator[Ledger]:
    """Open the chain that the simulation's network file names."""
    from chain.client import open_chain
    from chain.deployment.deployment import Deployment

    table = NetworkFile.load(network.network_file).chain
    if table is None:
        raise NodeError("the network file names no chain")
    deployment = Deployment.from_dict(table.deployment())
    path = network.options.output / "nodes" / "onlooker.sqlite"
    async with open_chain(table.rpc_url, deployment, generate_key().secret, path) as chain:
        yield Ledger(chain, network)
