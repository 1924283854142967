"""`deregister`: every step, again and again, on a real chain."""

from __future__ import annotations

from pathlib import Path

from chain.client import ChainClient
from node.config.datadir import DataDir
from node.config.keystore import load_key
from node.onchain.amounts import UNIT
from tests.node.cli.conftest import UNBONDING, OnChain


async def member(onchain: OnChain, folder: Path) -> tuple[str, ChainClient, int]:
    """A folder with both keys, whose node is in a pool: provider, the node's client, pool."""
    keys = []
    for which in ("--provider", "--node"):
        made = await onchain.json("wallet", "new", which, "--no-encrypt", "--data-dir", folder)
        keys.append(made["address"])
    await onchain.json("stake", "register-node", "--units", "2", "--data-dir", folder)
    owner = await onchain.world.client(onchain.world.owner_key)
    pool = await owner.pools.create("pool", rate=1)
    await owner.pools.fund(pool, UNIT)
    await owner.pools.start(pool)
    node = await onchain.world.client(load_key(folder / "node.key").secret)
    await node.pools.join(pool)
    return keys[0], node, pool


async def test_all_steps_and_then_nothing_is_left_to_do(onchain: OnChain, tmp_path: Path) -> None:
    folder = tmp_path / "worker"
    provider, client, pool = await member(onchain, folder)
    node = client.address
    at = ("--data-dir", folder)
    with DataDir(folder).lock():
        said = await onchain.refused("deregister", "--yes", *at, code=5)
    assert "the node runs (pid" in said
    assert "add --yes" in await onchain.refused("deregister", *at)

    gone = await onchain.json("deregister", "--unstake", *at)
    assert gone["steps"] == [
        f"{node}: left pool {pool}",
        f"{node}: removed",
        f"{provider}: asked back 12 PRIME",
    ]
    assert (gone["nodes"], gone["active"], gone["unbonding"]) == ([], "0", str(12 * UNIT))
    again = await onchain.run("deregister", "--unstake", "--yes", *at)
    assert again.code == 0, again.err
    assert f"{node}: not registered (any more)" in again.out
    assert f"{provider}: no stake to ask back" in again.out
    assert "next       prime-node stake withdraw" in again.out
    await onchain.pass_time(UNBONDING)
    assert (await onchain.json("stake", "withdraw", *at))["unbonding"] == "0"


async def test_the_nodes_own_key_is_enough_to_leave(onchain: OnChain, tmp_path: Path) -> None:
    folder = tmp_path / "worker"
    provider, client, pool = await member(onchain, folder)
    node = client.address
    (folder / "provider.key").rename(tmp_path / "cold.key")
    (folder / "config.toml").write_text(f'provider = "{provider}"\n')
    said = await onchain.refused("deregister", "--unstake", "--yes", "--data-dir", folder)
    assert "the provider's key is not here" in said
    # An earlier run left the pool and died.
    await client.pools.leave(pool)
    gone = await onchain.json("deregister", "--data-dir", folder)
    assert gone["steps"] == [f"{node}: removed"]
    assert gone["active"] == str(12 * UNIT)


async def test_a_provider_takes_all_its_nodes_back(onchain: OnChain, tmp_path: Path) -> None:
    folder, cold = tmp_path / "worker", tmp_path / "cold"
    _, client, _ = await member(onchain, folder)
    node = client.address
    DataDir(cold).create()
    (folder / "provider.key").rename(cold / "provider.key")
    said = await onchain.refused("deregister", "--yes", "--data-dir", cold)
    assert "take --all" in said
    gone = await onchain.json("deregister", "--all", "--data-dir", cold)
    assert gone["steps"][-1] == f"{node}: removed"
    assert gone["nodes"] == []
    nothing = await onchain.json("deregister", "--all", "--data-dir", cold)
    assert nothing["steps"] == []


async def test_a_node_that_never_was(onchain: OnChain, tmp_path: Path) -> None:
    await onchain.json("wallet", "new", "--node", "--data-dir", tmp_path / "n")
    said = await onchain.refused("deregister", "--yes", "--data-dir", tmp_path / "n")
    assert "was never registered" in said
