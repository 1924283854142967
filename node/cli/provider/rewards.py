"""`prime-node rewards`: what was earned, and claiming it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.options import with_option_sets
from node.cli.provider.options import WalletOptions
from node.console.output import print_json, say, show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chain.client import ChainClient
    from node.cli.provider.chain_access import Wallet
    from node.settlement.earnings import Earning

app = typer.Typer(no_args_is_help=True, help="What the provider has earned, and taking it.")
PoolOption = Annotated[
    list[int] | None, typer.Option("--pool", min=1, help="Only this pool; may be repeated.")
]
CLAIM_GAS = 150_000
_COLUMNS = ("earned", "claimed", "claimable", "pending")


@app.command("list")
@with_option_sets
def list_(
    pool: PoolOption = None,
    *,
    options: WalletOptions,
) -> None:
    """Show, pool by pool, what is earned, claimed, claimable and pending.

    Looks at the proofs that the node has kept in this data folder, whether or not it runs, and at
    the chain. `pending` is in a root that can still be disputed. Needs no passphrase. In JSON
    amounts are strings of the smallest unit (10^-18).

    Example:

        prime-node rewards list --data-dir ~/worker-1

    You should see one line per pool. `prime-node rewards claim` takes what is claimable.
    """
    from node.cli.provider.chain_access import on_chain, open_reader

    wallet = options.wallet()
    account = wallet.provider

    async def look() -> list[Earning]:
        async with open_reader(wallet) as chain:
            return await _find(chain, wallet, pool)

    earnings = on_chain(look)
    if options.as_json:
        print_json({"provider": account, "pools": [_describe(earning) for earning in earnings]})
        return
    _show(account, earnings)


@app.command("claim")
@with_option_sets
def claim(
    pool: PoolOption = None,
    minimum: Annotated[
        str | None,
        typer.Option("--min", help="Only pools with at least this many tokens to claim."),
    ] = None,
    *,
    options: WalletOptions,
) -> None:
    """Have everything that is final paid to the provider's account, in one transaction.

    Anyone may ask for it; the tokens always go to the provider. Gas is paid by the provider's key
    where it is here, else by the node's. A running node claims by itself: then its key is not used.
    Claiming again changes nothing.

    Example:

        prime-node rewards claim --min 5 --data-dir ~/worker-1

    You should see the transaction and how much was paid.
    """
    from node.cli.provider.chain_access import (
        fund,
        on_chain,
        open_as_node,
        open_as_provider,
        open_reader,
        shown_hash,
    )
    from node.onchain.amounts import parse_tokens

    least = parse_tokens(minimum) if minimum is not None else 1
    wallet = options.wallet()
    account = wallet.provider

    async def due() -> list[Earning]:
        async with open_reader(wallet) as chain:
            found = await _find(chain, wallet, pool)
        return [earning for earning in found if earning.claimable >= least]

    earnings = on_chain(due)
    sent: list[str] = []
    if earnings:
        as_provider = wallet.data.provider_key.exists()
        if not as_provider:
            _refuse_while_running(wallet)
        key = wallet.provider_key() if as_provider else wallet.node_key()
        opened = open_as_provider if as_provider else open_as_node

        async def take() -> list[bytes]:
            async with opened(wallet, key) as chain:
                await fund(chain, wallet, gas=CLAIM_GAS * (len(earnings) + 1))
                return await _claim(chain, account, earnings)

        sent = [shown_hash(hash_) for hash_ in on_chain(take)]
    paid = sum(earning.claimable for earning in earnings)
    if options.as_json:
        pools = [earning.pool_id for earning in earnings]
        print_json(
            {"provider": account, "claimed": str(paid), "pools": pools, "transactions": sent}
        )
        return
    from node.onchain.amounts import tokens

    for hash_ in sent:
        say(f"sent     {hash_}")
    say(f"claimed  {tokens(paid)} for {account}" if earnings else "nothing to claim now")


async def _find(chain: ChainClient, wallet: Wallet, pools: Sequence[int] | None) -> list[Earning]:
    from node.settlement.earnings import find_earnings

    journal: Path = wallet.data.journal
    found = await find_earnings(chain, wallet.provider, journal, pools or ())
    return [earning for earning in found if not pools or earning.pool_id in pools]


async def _claim(chain: ChainClient, account: str, earnings: Sequence[Earning]) -> list[bytes]:
    claims = [claim for earning in earnings if (claim := earning.claim()) is not None]
    results = await chain.settlement.claim_many(claims) if claims else []
    for earning in earnings:
        if earning.by_time:
            result = await chain.pools.claim_time(earning.pool_id, account)
            results += [result] if result is not None else []
    return [result.hash for result in results]


def _refuse_while_running(wallet: Wallet) -> None:
    from node.errors import ResourceError

    holder = wallet.data.holder()
    if holder is not None:
        raise ResourceError(
            f"the node runs (pid {holder}) and claims by itself, with the only key that is here",
            "set worker.claim_above lower (0: all that is worth its gas), or stop the node first",
        )


def _describe(earning: Earning) -> dict[str, Any]:
    return {
        "pool_id": earning.pool_id,
        "by_time": earning.by_time,
        "earned": str(earning.earned),
        "claimed": str(earning.claimed),
        "claimable": str(earning.claimable),
        "pending": str(earning.pending),
        "pending_until": earning.pending_until,
        "disputed": earning.disputed,
        "epoch": earning.epoch,
    }


def _show(account: str, earnings: Sequence[Earning]) -> None:
    from node.onchain.amounts import decimal, moment

    def until(earning: Earning) -> str:
        if earning.disputed:
            return "disputed"
        return moment(earning.pending_until) if earning.pending else ""

    rows = [
        (
            str(earning.pool_id),
            "time" if earning.by_time else "work",
            *(decimal(getattr(earning, name)) for name in _COLUMNS),
            until(earning),
        )
        for earning in earnings
    ]
    say(f"provider  {account}")
    show_table("rewards in PRIME", ("pool", "pays", *_COLUMNS, "until"), rows)
