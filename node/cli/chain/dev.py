"""`prime-node chain`: a chain for development, and contracts on any chain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from node.cli.chain import deploy as chain_deploy
from node.cli.chain.deploy import DEFAULT_FILE, KeyFileOption, NetworkFileOption
from node.cli.console import ask
from node.cli.console.frame import JsonOption

if TYPE_CHECKING:
    from node.onchain.devchain import DevNetwork

app = typer.Typer(no_args_is_help=True, help="A chain for development; contracts on any chain.")
app.command("deploy", help=chain_deploy.DEPLOY_HELP)(chain_deploy.deploy)
app.command("verify", help=chain_deploy.VERIFY_HELP)(chain_deploy.verify)


@app.command("dev")
def dev(
    network_file: NetworkFileOption = DEFAULT_FILE,
    host: Annotated[str, typer.Option("--host", help="Loopback address to bind.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="RPC port; 0 is any.")
    ] = 8545,
    backend: Annotated[
        str, typer.Option("--backend", help="auto (anvil where found), anvil or py-evm.")
    ] = "auto",
    validator: Annotated[
        list[str] | None,
        typer.Option("--validator", help="Address to give the validator role; may be repeated."),
    ] = None,
    rpc_url: Annotated[
        str,
        typer.Option(
            "--rpc-url",
            help="Use this chain instead of a fresh one; PRIME_NODE_FUNDER_KEY pays on it.",
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Run a chain on this machine, deploy the contracts, and write the network file.

    The chain lives in memory until Ctrl-C. Its faucet gives gas and tokens to any address, so nodes
    can register by themselves. An existing network file keeps all but its chain and pool.

    Example:

        prime-node chain dev --network-file network.toml

    You should see the RPC URL and the contracts' addresses. Then start nodes with
    `--network-file network.toml`.
    """
    import trio

    from node.errors import InputError

    choices: dict[str, Literal["auto", "anvil", "py-evm"]] = {
        "auto": "auto",
        "anvil": "anvil",
        "py-evm": "py-evm",
    }
    if backend not in choices:
        raise InputError(f"--backend {backend}: unknown", "auto, anvil or py-evm")
    addresses = [check_address(text) for text in validator or ()]

    async def serve() -> None:
        import signal

        from node.onchain.devchain import run_dev_chain

        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                running: DevNetwork = await nursery.start(
                    lambda *, task_status: run_dev_chain(
                        network_file.absolute(),
                        host=host,
                        port=port,
                        backend=choices[backend],
                        validators=addresses,
                        rpc_url=rpc_url,
                        task_status=task_status,
                    )
                )
                _show(running, network_file, as_json)
                async for _signal in signals:
                    nursery.cancel_scope.cancel()

    trio.run(serve)


@app.command("grant")
def grant(
    address: Annotated[str, typer.Argument(help="The node address of the validator.")],
    network_file: NetworkFileOption = DEFAULT_FILE,
    key_file: KeyFileOption = None,
) -> None:
    """Give a node the validator role.

    Its signatures on epoch roots then count with its provider's stake, once it is registered. On a
    development chain that runs here nothing else is needed; on another chain give a federator's
    key, which the deployer's is at first: `--key-file`, or PRIME_NODE_FUNDER_KEY.

    Example:

        prime-node chain grant $(prime-node key show --data-dir ~/validator --json | jq -r .address)

    You should see `granted`. Granting twice is harmless.
    """
    import trio

    from node.onchain.deploying import grant_validator

    checked = check_address(address)
    trio.run(grant_validator, network_file.absolute(), checked, key_file, ask.passphrase)
    typer.echo(f"granted: {address} is a validator")


def check_address(text: str) -> str:
    """An EVM address as given. Raises `InputError`."""
    import re

    from node.errors import InputError

    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", text):
        raise InputError(f"{text[:64]}: not an address", "0x and 40 hex digits")
    return text


def _show(running: DevNetwork, network_file: Path, as_json: bool) -> None:
    """Say where the chain is; flushed, since whoever started us may be reading a pipe."""
    import json
    import sys

    if as_json:
        shown = {"event": "chain ready", "backend": running.backend}
        typer.echo(json.dumps({**shown, **running.table.model_dump(mode="json")}))
    else:
        typer.echo(f"rpc                 {running.table.rpc_url}  ({running.backend})")
        typer.echo(f"chain id            {running.table.chain_id}")
        for name, address in running.table.contracts.items():
            typer.echo(f"{name:<20}{address}")
        typer.echo(f"written             {network_file}; Ctrl-C stops the chain and forgets it")
    sys.stdout.flush()
