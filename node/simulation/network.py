"""Starting a simulated network: the chain, the orchestrator, then everybody else.

Every node is an ordinary `prime-node run` with its own folder, key and ports. All that a node is
handed is the network file. Keys are made beforehand, so that the addresses are known for the table
and for the validators' role on chain.
"""

from __future__ import annotations

from dataclasses import dataclass

import tomli_w
import trio

from node.config.datadir import DataDir
from node.config.files import write_atomically
from node.config.keystore import generate_key, load_key, save_key
from node.config.networkfile import NetworkFile
from node.simulation.options import CRASH, SimulationOptions, Topology, TopologyNode
from node.simulation.process import Child, Children

START_SECONDS = 180.0
SEQUENCES_IN_FLIGHT = 16
TOKENS_PER_SEQUENCE = 512
LOOPBACK = "/ip4/127.0.0.1/tcp/0"


@dataclass(frozen=True)
class SimulatedNode:
    """A node's name, folder and addresses on chain."""

    name: str
    data: DataDir
    address: str
    provider: str


class SimulatedNetwork:
    """The processes of a simulation, by name."""

    def __init__(self, options: SimulationOptions, topology: Topology, children: Children) -> None:
        self.options = options
        self.network_file = options.output / "network.toml"
        self.nodes: dict[str, SimulatedNode] = {}
        self.running: dict[str, Child] = {}
        self._topology = topology
        self._arguments: dict[str, list[str]] = {}
        self._children = children
        names = ("orchestrator", *options.worker_names, *options.validator_names)
        for name in names:
            self.nodes[name] = self._make_node(name)

    @property
    def pids(self) -> dict[str, int]:
        """The process id of every child that was started, by name."""
        return {name: child.pid for name, child in self.running.items()}

    async def start_chain(self) -> None:
        """The embedded chain with contracts, or the RPC that was asked for."""
        arguments = ["chain", "dev", "--port", "0", "--network-file", str(self.network_file)]
        if self.options.rpc_url is not None:
            arguments += ["--rpc-url", self.options.rpc_url]
        for name in self.options.validator_names:
            arguments += ["--validator", self.nodes[name].address]
        child = await self._children.start("chain", [*arguments, "--json"])
        child.outlives_others = True  # nodes that leave still write to the chain
        self.running["chain"] = child
        await child.wait_for("chain ready", START_SECONDS)

    async def start_orchestrator(self) -> None:
        """The orchestrator, which is also the bootstrap peer; its address goes into the file."""
        settings = {
            "stages": self.options.stages or self.options.workers,
            "sequences_in_flight": SEQUENCES_IN_FLIGHT,
            "tokens_per_sequence": TOKENS_PER_SEQUENCE,
            "formation_wait": START_SECONDS,
        }
        config = self.nodes["orchestrator"].data.config
        write_atomically(config, tomli_w.dumps({"orchestrator": settings}).encode())
        child = await self._start("orchestrator", [])
        line = await child.wait_for("serving", START_SECONDS)
        network = NetworkFile.load(self.network_file)
        network.updated(bootstrap=tuple(line["addresses"])).save(self.network_file)

    async def start_others(self) -> None:
        """All workers and validators at once."""
        async with trio.open_nursery() as nursery:
            for name in self.options.worker_names:
                nursery.start_soon(self._start_worker, name)
            for name in self.options.validator_names:
                nursery.start_soon(self._start_and_wait, name, ["--threads", "1"])

    async def restart(self, name: str) -> None:
        """Start a killed node again: the same folder and key, and the address it had before."""
        line = await self.running[name].wait_for("serving", START_SECONDS)
        await self.running[name].ended.wait()
        listen = line["addresses"][0].partition("/p2p/")[0]
        arguments = [listen if word == LOOPBACK else word for word in self._arguments[name]]
        self.running[name] = child = await self._children.start(name, arguments)
        await child.wait_for("serving", START_SECONDS)

    async def _start_worker(self, name: str) -> None:
        whole = (self.options.stages or self.options.workers) == 1
        unnamed = TopologyNode(vram=0) if whole else TopologyNode()
        node = self._topology.workers.get(name, unnamed)
        arguments = ["--vram", str(node.vram), "--threads", "1"]
        if node.location is not None:
            arguments += ["--location", ",".join(str(part) for part in node.location)]
        if node.region:
            arguments += ["--region", node.region]
        for fault in self.options.faults:
            if fault.node == name and fault.kind != CRASH:
                arguments += ["--fault", fault.kind]
        await self._start_and_wait(name, arguments)

    async def _start_and_wait(self, name: str, arguments: list[str]) -> None:
        child = await self._start(name, arguments)
        await child.wait_for("serving", START_SECONDS)

    async def _start(self, name: str, arguments: list[str]) -> Child:
        role = name.partition("-")[0]
        common = ["run", "--role", role, "--data-dir", str(self.nodes[name].data.path)]
        common += ["--network-file", str(self.network_file), "--listen", LOOPBACK]
        common += ["--http-port", "0", "--model-store", str(self.options.model_store)]
        common += ["--log-format", "json", "--log-level", self.options.log_level]
        if role == "orchestrator":
            common += ["--model", self.options.model]
        self._arguments[name] = [*common, *arguments]
        child = await self._children.start(name, self._arguments[name])
        self.running[name] = child
        return child

    def _make_node(self, name: str) -> SimulatedNode:
        data = DataDir(self.options.output / "nodes" / name)
        data.create()
        for path in (data.node_key, data.provider_key):
            if not path.exists():
                save_key(path, generate_key())
        return SimulatedNode(
            name, data, load_key(data.node_key).address, load_key(data.provider_key).address
        )
