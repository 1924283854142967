"""`prime-node stake`: the provider's stake, and the nodes it stands behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.options import with_option_sets
from node.cli.provider.options import SendingOptions, WalletOptions
from node.console import ask
from node.console.output import print_json, say

if TYPE_CHECKING:
    from chain.client import ChainClient
    from node.cli.provider.chain_access import Wallet

app = typer.Typer(
    no_args_is_help=True, help="The provider's stake: what stands behind its nodes' work."
)
AmountArgument = Annotated[str, typer.Argument(help='In whole tokens, like "12.5".')]
OrderOption = Annotated[
    str | None,
    typer.Option(
        "--order", help="A name for this order: under one name money moves once.", metavar="NAME"
    ),
]


@app.command("add")
@with_option_sets
def add(
    amount: AmountArgument,
    order: OrderOption = None,
    *,
    options: SendingOptions,
) -> None:
    """Stake tokens from the provider's account; the first time this also registers the provider.

    Whatever an interrupted `stake add` left unfinished is completed first and shown in the
    question. In scripts give `--order NAME`: running the same order again adds nothing.

    Example:

        prime-node stake add 12.5 --data-dir ~/provider

    You should see the transaction and the new stake.
    """
    from node.cli.provider.chain_access import (
        fund,
        new_order,
        on_chain,
        open_as_provider,
    )
    from node.onchain.amounts import parse_tokens, tokens

    wei = parse_tokens(amount)
    wallet = options.wallet()
    key = wallet.provider_key()

    async def stake() -> dict[str, Any]:
        async with open_as_provider(wallet, key) as chain:
            await chain.providers.await_added_stake()
            if order is None or not await chain.providers.has_added_stake(order):
                await _check_first(chain, wei)
                await fund(chain, wallet, wei)
            before = await chain.providers.stake_status(key.address)
            ask.confirm(
                f"Stake {tokens(wei)} from {key.address}, beside {tokens(before.active)}?",
                agreed=options.agreed,
            )
            result = await chain.providers.add_stake(wei, purpose=new_order(order))
            return await staked(chain, wallet, result.hash)

    print_staked(on_chain(stake), options.as_json)


async def _check_first(chain: ChainClient, amount: int) -> None:
    from node.errors import InputError
    from node.onchain.amounts import decimal, tokens

    least = await chain.providers.minimum_stake(0)
    if amount < least and not await chain.providers.is_registered(chain.address):
        raise InputError(
            f"a provider's first stake is at least {tokens(least)}",
            f"prime-node stake add {decimal(least)}",
        )


@app.command("unstake")
@with_option_sets
def unstake(
    amount: Annotated[str, typer.Argument(help='In whole tokens, like "12.5", or "all".')],
    order: OrderOption = None,
    *,
    options: SendingOptions,
) -> None:
    """Ask for stake back. It unbonds for a while, can still be slashed, and is then withdrawn.

    What the provider's nodes need must remain; "all" is all that they do not need. Asking for more
    starts the waiting time again for everything that is unbonding.

    Example:

        prime-node stake unstake 12.5 --data-dir ~/provider

    You should see when it is free, and then run `prime-node stake withdraw`.
    """
    from node.cli.provider.chain_access import (
        fund,
        new_order,
        on_chain,
        open_as_provider,
    )
    from node.errors import InputError
    from node.onchain.amounts import decimal, parse_tokens, tokens

    asked = None if amount == "all" else parse_tokens(amount)
    wallet = options.wallet()
    key = wallet.provider_key()

    async def take() -> dict[str, Any]:
        async with open_as_provider(wallet, key) as chain:
            await chain.providers.await_unstaked()
            done = order is not None and await chain.providers.has_unstaked(order)
            now = await chain.providers.stake_status(key.address)
            free = max(0, now.active - now.required)
            wei = free if asked is None else asked
            if not done and (wei > free or wei == 0):
                raise InputError(
                    f"{decimal(free)} of {tokens(now.active)} can be asked back: the provider's "
                    f"nodes need {tokens(now.required)}",
                    "remove nodes first: prime-node deregister" if now.required else "",
                )
            if not done:
                await fund(chain, wallet)
                again = f" (and {tokens(now.unbonding)} anew)" if now.unbonding else ""
                ask.confirm(f"Ask {tokens(wei)} back{again}?", agreed=options.agreed)
            result = await chain.providers.unstake(wei, purpose=new_order(order))
            return await staked(chain, wallet, result.hash)

    print_staked(on_chain(take), options.as_json)


@app.command("withdraw")
@with_option_sets
def withdraw(options: WalletOptions) -> None:
    """Take back into the provider's account what has unbonded.

    When it is too early, it says until when. Running it again changes nothing.

    Example:

        prime-node stake withdraw --data-dir ~/provider

    You should see the transaction, and `unbonding  0 PRIME`.
    """
    from node.cli.provider.chain_access import fund, on_chain, open_as_provider
    from node.errors import InputError
    from node.onchain.amounts import moment, tokens

    wallet = options.wallet()
    key = wallet.provider_key()

    async def take() -> dict[str, Any]:
        async with open_as_provider(wallet, key) as chain:
            await chain.providers.await_withdrawn()
            status = await chain.providers.stake_status(key.address)
            now = await chain.now()
            if status.unbonding and now < status.release_time:
                raise InputError(
                    f"too early: {tokens(status.unbonding)} are free at "
                    f"{moment(status.release_time)}, in {status.release_time - now} s",
                    "run this again then",
                )
            if status.unbonding:
                await fund(chain, wallet)
            result = await chain.providers.withdraw()
            return await staked(chain, wallet, result.hash if result else None)

    print_staked(on_chain(take), options.as_json)


@app.command("status")
@with_option_sets
def status(options: WalletOptions) -> None:
    """Show the stake, what the nodes need of it, what is unbonding, and the nodes.

    Needs no passphrase. In JSON amounts are strings of the smallest unit (10^-18).

    Example:

        prime-node stake status --data-dir ~/provider

    You should see `active`, `required`, `unbonding` and `slashable`, then one line per node.
    """
    from node.cli.provider.chain_access import on_chain, open_reader

    wallet = options.wallet()

    async def look() -> dict[str, Any]:
        async with open_reader(wallet) as chain:
            return await staked(chain, wallet, None)

    print_staked(on_chain(look), options.as_json)


async def staked(chain: ChainClient, wallet: Wallet, transaction: bytes | None) -> dict[str, Any]:
    """The provider's stake and nodes, and the transaction that was sent for it."""
    from node.cli.provider.chain_access import shown_hash

    provider = wallet.provider
    stake = await chain.providers.stake_status(provider)
    records = [await chain.nodes.find(node) for node in await chain.providers.nodes_of(provider)]
    return {
        "provider": provider,
        "active": str(stake.active),
        "required": str(stake.required),
        "unbonding": str(stake.unbonding),
        "release_time": stake.release_time if stake.unbonding else 0,
        "slashable": str(stake.slashable),
        "nodes": [
            {
                "address": record.address,
                "compute_units": record.compute_units,
                "validated": record.validated,
                "pool_id": record.pool_id,
            }
            for record in records
            if record is not None
        ],
        "transaction": shown_hash(transaction) if transaction else None,
    }


def print_staked(status: dict[str, Any], as_json: bool) -> None:
    """Print what `staked` found, for programs or for people."""
    if as_json:
        print_json(status)
        return
    from node.onchain.amounts import moment, tokens

    if status["transaction"]:
        say(f"sent       {status['transaction']}")
    say(f"provider   {status['provider']}")
    for name in ("active", "required", "unbonding", "slashable"):
        amount = tokens(int(status[name]))
        until = f"  (free at {moment(status['release_time'])}, then: prime-node stake withdraw)"
        free = name == "unbonding" and status["release_time"]
        say(f"{name:<10} {amount}{until if free else ''}")
    for node in status["nodes"]:
        where = f"pool {node['pool_id']}" if node["pool_id"] is not None else "in no pool"
        checked = ", hardware checked" if node["validated"] else ""
        say(f"node       {node['address']}  {node['compute_units']} units, {where}{checked}")
