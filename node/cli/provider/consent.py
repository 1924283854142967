"""`prime-node wallet consent`: the node's side of being registered by a provider elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli.options import with_option_sets
from node.cli.provider.options import WalletOptions
from node.console.output import print_json, say


@with_option_sets
def command(
    provider: Annotated[str, typer.Option("--provider", help="The provider's address.")],
    units: Annotated[
        int,
        typer.Option(
            "--units", min=0, max=2**32 - 1, help="Compute units, one per GiB (0: by the device)."
        ),
    ] = 0,
    hours: Annotated[
        int,
        typer.Option("--hours", min=1, max=720, help="How long the consent is valid, in hours."),
    ] = 24,
    *,
    options: WalletOptions,
) -> None:
    """Sign this node's consent to belong to a provider whose key is on another machine.

    Prints one line that holds no secret. Take it to the machine with the provider's key and run
    `prime-node stake register-node CONSENT` there. Only that provider can use it, once, until it
    expires. After that this node runs with its own key alone: `prime-node run --provider 0x… `, or
    `provider = "0x…"` in config.toml.

    Example:

        prime-node wallet consent --data-dir ~/worker-1 \\
        --provider 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed

    You should see a line that begins with `consent1.`
    """
    from node.cli.provider.chain_access import on_chain, open_reader
    from node.config.settings import parse_account
    from node.errors import InputError
    from node.onchain.amounts import moment
    from node.onchain.consent import Consent, make_consent

    try:
        account = parse_account(provider)
    except ValueError as exc:
        raise InputError(
            f"--provider: {exc}", "like 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
        ) from exc
    if account is None:
        raise InputError("--provider: no address", "it is shown by: prime-node wallet show")
    wallet = options.wallet()
    key = wallet.node_key()

    async def sign() -> Consent:
        async with open_reader(wallet) as chain:
            wanted = await chain.nodes.consent_of(key.address, account, seconds=hours * 3600)
            domain = chain.domain("PrimeNetwork")
            return make_consent(wanted, key.secret, domain, units or device_units(wallet.config))

    consent = on_chain(sign)
    if options.as_json:
        print_json({"consent": consent.to_text(), **consent.model_dump()})
        return
    say(consent.to_text())
    say(
        f"node {consent.node} would belong to provider {consent.provider} with "
        f"{consent.compute_units} compute units; valid until {moment(consent.deadline)}",
        err=True,
    )
    say("next, where the provider's key lies: prime-node stake register-node CONSENT", err=True)


def device_units(config: object) -> int:
    """Compute units of this machine's device: one for each whole GiB that it may use."""
    from node.config.hardware import detect_device
    from node.config.schema import NodeConfig

    assert isinstance(config, NodeConfig)
    device = detect_device(config.worker.device, config.worker.vram)
    return max(1, device.memory_bytes // 2**30)
