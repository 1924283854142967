"""`prime-node chain dev`: a chain for development on this machine, with the contracts on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from node.cli.chain.contracts import DEFAULT_FILE, NetworkFileOption
from node.cli.options import JsonOption, check_address
from node.console.output import say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import trio

    from node.onchain.devchain import DevNetwork


def dev(
    network_file: NetworkFileOption = DEFAULT_FILE,
    host: Annotated[
        str,
        typer.Option(
            "--host", help="Address to bind: loopback, or in your private network for its machines."
        ),
    ] = "127.0.0.1",
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

    The chain lives in memory until Ctrl-C; the next one is another chain, for which nodes need new
    data folders. Its faucet gives gas and tokens to any address, so nodes can register by
    themselves. An existing network file keeps all but its chain and pool.

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
        from node.console.signals import ending_signals
        from node.onchain.devchain import run_dev_chain

        ready = False
        with trio.open_signal_receiver(*ending_signals()) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_end_at_first, signals, nursery.cancel_scope)
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
                ready = True
                _show(running, network_file, as_json)
        if not ready:
            raise KeyboardInterrupt

    trio.run(serve)


async def _end_at_first(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    """Ctrl-C counts from the start, and while the contracts are deployed, too."""
    async for _signal in signals:
        scope.cancel()


def _show(running: DevNetwork, network_file: Path, as_json: bool) -> None:
    """Say where the chain is."""
    if as_json:
        shown = {"event": "chain ready", "backend": running.backend}
        say(json.dumps({**shown, **running.table.model_dump(mode="json")}))
    else:
        say(f"rpc                 {running.table.rpc_url}  ({running.backend})")
        say(f"chain id            {running.table.chain_id}")
        for name, address in running.table.contracts.items():
            say(f"{name:<20}{address}")
        say(f"written             {network_file}; Ctrl-C stops the chain and forgets it: the next")
        say(f"{'':<20}one is another chain, and nodes need new data folders for it")
