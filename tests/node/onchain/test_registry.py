"""Who has a stake: looked up beside any number of strangers, by a chain that is slow or down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from chain.errors import ChainUnreachable
from node.onchain.registry import ChainRegistry, RegistryTiming
from node.roles.assembly import open_roles
from p2p.admission.standing import Standing
from tests.node.onchain.registering import networked, peer

HONEST = "honest"


async def known(registry: ChainRegistry, name: str) -> float:
    """Seconds until it is known that this node has a stake."""
    began, version = trio.current_time(), -1
    with trio.fail_after(3600):
        while registry.standing(peer(name)) is not Standing.STAKED:
            version = await registry.wait_changed(max(version, registry.version))
    return trio.current_time() - began


async def test_a_newcomer_with_a_stake_is_known_beside_4096_strangers(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with networked(tmp_path) as (context, network, chain), trio.open_nursery() as nursery:
        chain.takes = 0.5
        chain.register(HONEST, "0xp")
        registry = ChainRegistry(context, chain)
        await nursery.start(registry.run)
        network.records.add(f"sybil {number}" for number in range(4096))
        await trio.sleep(5.0)
        network.connect(HONEST, "192.0.2.1")
        network.records.add([HONEST])
        assert await known(registry, HONEST) <= 1.0
        assert network.standing(peer(HONEST)) is Standing.STAKED  # the network judges by it
        assert network.standing(peer("sybil 0")) is Standing.STRANGER
        assert chain.most_at_once <= RegistryTiming().active
        nursery.cancel_scope.cancel()


async def test_a_chain_that_hangs_or_is_down_is_asked_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with networked(tmp_path) as (context, network, chain), trio.open_nursery() as nursery:
        chain.register(HONEST, "0xp")
        chain.takes = 1e6
        registry = ChainRegistry(context, chain)
        await nursery.start(registry.run)
        network.records.add([HONEST])
        await trio.sleep(20.0)
        assert chain.at_once <= 1
        chain.takes, chain.down = 0.1, True
        await trio.sleep(60.0)
        with pytest.raises(ChainUnreachable):
            await registry.confirm(peer(HONEST))
        chain.down = False
        assert await known(registry, HONEST) <= 40.0
        nursery.cancel_scope.cancel()


async def test_whoever_has_no_stake_any_more_is_a_stranger_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with networked(tmp_path) as (context, network, chain), trio.open_nursery() as nursery:
        chain.register(HONEST, "0xp")
        registry = ChainRegistry(context, chain)
        await nursery.start(registry.run)
        network.records.add([HONEST])
        await known(registry, HONEST)
        assert await registry.confirm(peer(HONEST)) == "0xp"
        asked = len(chain.asked)
        assert await registry.confirm(peer(HONEST)) == "0xp"  # the chain has just said so
        assert len(chain.asked) == asked
        chain.poor = dict(chain.staked)
        chain.staked.clear()
        await trio.sleep(700.0)
        assert network.standing(peer(HONEST)) is Standing.STRANGER
        assert await registry.confirm(peer(HONEST)) == ""
        nursery.cancel_scope.cancel()


async def test_a_node_with_a_chain_judges_its_peers_by_the_registry(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    nobody: Any = None
    async with networked(tmp_path) as (context, network, chain):
        no_roles = context.config.model_copy(update={"roles": ()})
        object.__setattr__(context, "config", no_roles)
        chain.register(HONEST, "0xp")
        network.serve = lambda *_, **__: None
        async with (
            open_roles(context, chain, nobody, nobody, None) as roles,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(roles.run)
            network.connect(HONEST, "192.0.2.1")
            await trio.sleep(1.0)
            assert network.standing(peer(HONEST)) is Standing.STAKED
            nursery.cancel_scope.cancel()
