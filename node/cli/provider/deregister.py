"""`prime-node deregister`: leave pools, remove nodes, ask for the stake back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.options import with_option_sets
from node.cli.provider.options import SendingOptions
from node.console import ask
from node.console.output import print_json, say

if TYPE_CHECKING:
    from chain.client import ChainClient
    from node.cli.provider.chain_access import Wallet


Note = Callable[[str], None]


@with_option_sets
def command(
    node: Annotated[
        str | None, typer.Option("--node", help="Another node's address (provider's key needed).")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All nodes of the provider.")] = False,
    unstake: Annotated[
        bool,
        typer.Option("--unstake", help="Also ask for the return of all stake that no node needs."),
    ] = False,
    *,
    options: SendingOptions,
) -> None:
    """Take a node off the network: leave its pool, remove its registration, ask for the stake back.

    Stop the node first. Each step is shown; what is done already is skipped, so an interrupted run
    is simply run again. The node is the one whose key is in the data folder, or --node; --all takes
    all of the provider's. With the node's own key alone its stake stays with the provider;
    --unstake needs the provider's key. What was earned can still be claimed.

    Example:

        prime-node deregister --data-dir ~/worker-1 --unstake

    You should see `left pool`, `removed`, and when the stake is free; then `prime-node stake
    withdraw`.
    """
    from node.cli.options import check_address
    from node.cli.provider.chain_access import (
        fund,
        on_chain,
        open_as_node,
        open_as_provider,
    )

    wallet = options.wallet()
    own = wallet.node_address()
    named = check_address(node) if node else own
    as_provider = every or unstake or node is not None
    _check(wallet, named, every, as_provider)
    key = wallet.provider_key() if as_provider else wallet.node_key()
    opened = open_as_provider if as_provider else open_as_node
    done: list[str] = []

    def note(step: str) -> None:
        done.append(step)
        say(step, err=options.as_json)

    async def work() -> dict[str, Any]:
        async with opened(wallet, key) as chain:
            provider = key.address if as_provider else await _provider_of(chain, named)
            targets = (
                await chain.providers.nodes_of(provider) if every else [named] if named else []
            )
            registered = [await chain.nodes.find(target) for target in targets]
            if any(registered) or unstake:
                _agree(targets, unstake, options.agreed)
                await fund(chain, wallet)
            for target in targets:
                await _remove(chain, target, note)
            if unstake:
                await _unstake(chain, provider, note)
            return await _remaining(chain, provider)

    with _held(wallet, as_provider and own is not None):
        left = on_chain(work)
    if options.as_json:
        print_json({"steps": done, **left})
        return
    _show(left)


def _check(wallet: Wallet, named: str | None, every: bool, as_provider: bool) -> None:
    from node.errors import InputError, ResourceError

    if named is None and not every:
        raise InputError(
            f"{wallet.data.path}: no node key here", "name the node with --node, or take --all"
        )
    holder = wallet.data.holder()
    if holder is not None:
        raise ResourceError(
            f"{wallet.data.path}: the node runs (pid {holder})", "stop it first: Ctrl-C, or kill"
        )


def _agree(nodes: list[str], unstake: bool, agreed: bool) -> None:
    what = f"node {nodes[0]}" if len(nodes) == 1 else f"{len(nodes)} nodes"
    tail = " and ask for the stake back" if unstake else ""
    ask.confirm(f"Take {what} off the network{tail}?", agreed=agreed)


def _held(wallet: Wallet, wanted: bool) -> AbstractContextManager[None]:
    """The data folder's lock, so that its node cannot start meanwhile."""
    return wallet.data.lock() if wanted else nullcontext()


async def _provider_of(chain: ChainClient, node: str | None) -> str:
    owner = await chain.nodes.owner_of(node) if node else None
    if owner is None:
        from node.errors import InputError

        raise InputError(f"node {node} was never registered", "there is nothing to take back")
    return owner


async def _remove(chain: ChainClient, node: str, note: Note) -> None:
    record = await chain.nodes.find(node)
    if record is None:
        note(f"{node}: not registered (any more)")
        return
    if record.pool_id is not None:
        await chain.pools.leave(record.pool_id, node=node)
        note(f"{node}: left pool {record.pool_id}")
    await chain.nodes.remove(node)
    note(f"{node}: removed")


async def _unstake(chain: ChainClient, provider: str, note: Note) -> None:
    """Ask for the return of the stake that no remaining node needs; the chain shows what an earlier
    run asked for."""
    from node.cli.provider.chain_access import new_order
    from node.onchain.amounts import tokens

    await chain.providers.await_unstaked()
    status = await chain.providers.stake_status(provider)
    free = status.active - status.required
    if free <= 0:
        note(f"{provider}: no stake to ask back")
        return
    await chain.providers.unstake(free, purpose=new_order(None))
    note(f"{provider}: asked back {tokens(free)}")


async def _remaining(chain: ChainClient, provider: str) -> dict[str, Any]:
    status = await chain.providers.stake_status(provider)
    return {
        "provider": provider,
        "nodes": await chain.providers.nodes_of(provider),
        "active": str(status.active),
        "unbonding": str(status.unbonding),
        "release_time": status.release_time if status.unbonding else 0,
    }


def _show(left: dict[str, Any]) -> None:
    from node.onchain.amounts import moment, tokens

    say(f"provider   {left['provider']}: {len(left['nodes'])} node(s) left")
    say(f"staked     {tokens(int(left['active']))}")
    if int(left["unbonding"]):
        say(f"unbonding  {tokens(int(left['unbonding']))} until {moment(left['release_time'])}")
        say("next       prime-node stake withdraw, from then on")
    elif int(left["active"]):
        say("next       prime-node stake unstake all, where the provider's key lies")
