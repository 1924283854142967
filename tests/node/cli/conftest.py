"""Running a command line in this process, and a node for it to talk to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from node.cli import run_cli

if TYPE_CHECKING:
    import trio

    from tests.chain.conftest import World


WINDOW, UNBONDING = 600, 1000
"""Seconds in which the chain's roots can be disputed and stake unbonds; tests put the clock on."""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`cli("key", "show", …)` → exit code, stdout, stderr. Without variables of ours set."""
    for name in [name for name in os.environ if name.startswith("PRIME_NODE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = run_cli(arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


class OnChain:
    """An embedded chain with the contracts on it, its network file, and commands run against it."""

    def __init__(self, world: World, network_file: Path, cli: Cli) -> None:
        self.world = world
        self.network_file = network_file
        self._cli = cli

    async def run(self, *arguments: str | Path) -> Outcome:
        """One command, in a thread of its own since the chain is served by this one."""
        import trio

        named = ("--network-file", str(self.network_file))
        return await trio.to_thread.run_sync(lambda: self._cli(*map(str, arguments), *named))

    async def json(self, *arguments: str | Path) -> Any:
        """What a command that succeeds prints with --json."""
        shown = await self.run(*arguments, "--json")
        assert shown.code == 0, shown.err
        return json.loads(shown.out)

    async def refused(self, *arguments: str | Path, code: int = 3) -> str:
        """The one line of a command that fails."""
        shown = await self.run(*arguments)
        assert (shown.code, shown.out) == (code, ""), shown
        assert len(shown.err.splitlines()) == 1, shown.err
        return shown.err

    async def pass_time(self, seconds: int) -> None:
        """Put the chain's clock forward, and make a block there."""
        from chain.endpoint.rpc import open_rpc

        async with open_rpc(self.world.dev.url) as rpc:
            await rpc.request("evm_increaseTime", [seconds])
            await rpc.request("evm_mine", [])


@pytest.fixture
async def onchain(tmp_path: Path, nursery: trio.Nursery, cli: Cli) -> OnChain:
    """A fresh chain; imported here, so that the tests without one start quickly."""
    from chain.deployment.parameters import DeploymentParams
    from chain.devnet.bootstrap import deploy_on_devnet
    from chain.devnet.server import serve_devnet
    from node.config.networkfile import ChainTable, NetworkFile
    from tests.chain.conftest import FAST, World

    dev = await nursery.start(partial(serve_devnet, "127.0.0.1", 0, backend="py-evm"))
    owner = os.urandom(32)
    path = tmp_path / "deployer.sqlite"
    params = DeploymentParams(challenge_window=WINDOW, unbonding_period=UNBONDING)
    deployment = await deploy_on_devnet(dev.url, owner, path, params, settings=FAST)
    table = ChainTable(
        rpc_url=dev.url,
        chain_id=deployment.chain_id,
        faucet_url=f"{dev.url}/faucet",
        default_domain=deployment.default_domain,
        block=deployment.block,
        contracts=deployment.addresses,
    )
    NetworkFile(chain=table).save(tmp_path / "network.toml")
    world = World(dev, deployment, owner, tmp_path, nursery)
    return OnChain(world, tmp_path / "network.toml", cli)
