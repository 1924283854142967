"""`prime-node stake register-node`: the provider's side of taking a node on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.options import with_option_sets
from node.cli.provider.options import SendingOptions
from node.console import ask

if TYPE_CHECKING:
    from chain.client import ChainClient
    from node.cli.provider.chain_access import Wallet
    from node.onchain.consent import Consent


@with_option_sets
def command(
    consent: Annotated[
        str | None,
        typer.Argument(help="From `wallet consent`; - reads it from stdin; none: this folder's."),
    ] = None,
    units: Annotated[
        int, typer.Option("--units", min=0, max=2**32 - 1, help="Compute units (0: as consented).")
    ] = 0,
    *,
    options: SendingOptions,
) -> None:
    """Register a node under this provider, staking what is missing for it.

    The node's own key stays on its machine: it made CONSENT with `prime-node wallet consent`.
    Without CONSENT the node is the one whose key is in this data folder. Running it again changes
    nothing.

    Example:

        prime-node stake register-node consent1.eyJjaGFpbl9pZCI6… --data-dir ~/provider

    You should see the stake and the node among `nodes`. Then start the node with
    `prime-node run --provider 0x…`.
    """
    from node.cli.provider.chain_access import fund, on_chain, open_as_provider
    from node.cli.provider.stake import print_staked, staked
    from node.onchain.amounts import tokens
    from node.onchain.consent import Consent
    from node.onchain.registration import stake_for

    given = None
    if consent is not None:
        given = Consent.from_text(sys.stdin.readline(4096) if consent == "-" else consent)
    wallet = options.wallet()
    key = wallet.provider_key()
    own = None if given is not None else wallet.node_key().secret

    async def register() -> dict[str, Any]:
        async with open_as_provider(wallet, key) as chain:
            agreed = given or await _own_consent(chain, wallet, own or b"")
            record = await chain.nodes.find(agreed.node)
            if record is None:
                now = await chain.now()
                agreed.check(key.address, chain.domain("PrimeNetwork"), now)
            chosen = units or agreed.compute_units
            stake = await chain.providers.stake_of(key.address)
            if record is None:
                stake = max(stake, await stake_for(chain, key.address, chosen))
                missing = stake - await chain.providers.stake_of(key.address)
                await fund(chain, wallet, missing)
                ask.confirm(
                    f"Register node {agreed.node} with {chosen} compute units, staking "
                    f"{tokens(missing)} more?",
                    agreed=options.agreed,
                )
            signature = bytes.fromhex(agreed.signature)
            await chain.nodes.register_consented(agreed.registration, signature, stake, chosen)
            return await staked(chain, wallet, None)

    print_staked(on_chain(register), options.as_json)


async def _own_consent(chain: ChainClient, wallet: Wallet, secret: bytes) -> Consent:
    from node.cli.provider.consent import device_units
    from node.onchain.consent import make_consent
    from proofs.encoding.signing import address_of

    wanted = await chain.nodes.consent_of(address_of(secret), chain.address)
    return make_consent(wanted, secret, chain.domain("PrimeNetwork"), device_units(wallet.config))
