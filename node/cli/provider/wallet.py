"""`prime-node wallet`: the provider's and the node's keys, and what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.options import DataDirOption, JsonOption, data_dir, with_option_sets
from node.cli.provider.options import NetworkFileOption, WalletOptions
from node.console.output import print_json, say

if TYPE_CHECKING:
    from chain.client import ChainClient
    from node.cli.provider.chain_access import Wallet
    from node.config.datadir import DataDir
    from node.config.keystore import KeyFile, NodeKey

app = typer.Typer(
    no_args_is_help=True,
    help="Keys and balances. The provider's key is cold: it stakes and is paid. The node's is hot.",
)
WhichOption = Annotated[
    bool, typer.Option("--provider/--node", help="The provider's (cold) key or the node's (hot).")
]
EncryptOption = Annotated[
    bool | None,
    typer.Option(
        "--encrypt/--no-encrypt",
        help="Encrypt with a passphrase (default: the provider's key, not the node's).",
    ),
]


@app.command("new")
def new(
    provider: WhichOption = True,
    encrypt: EncryptOption = None,
    data_dir_: DataDirOption = None,
    network_file: NetworkFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new key; an existing one is never overwritten.

    The passphrase is asked twice, or is PRIME_NODE_PASSPHRASE. An encrypted node key needs that
    variable whenever the node runs. Keep the provider's key on a machine of its own, and a copy of
    its file and passphrase in a safe place: whoever loses them loses stake and earnings.

    Example:

        prime-node wallet new --data-dir ~/provider --network-file network.toml

    You should see `address 0x…`, the file, and what to do next.
    """
    from node.config.keystore import generate_key

    _store(generate_key, provider, encrypt, data_dir_, network_file, as_json)


@app.command("import")
def import_(
    provider: WhichOption = True,
    keystore: Annotated[
        Path | None,
        typer.Option("--keystore", help="A Web3 v3 keystore file; without it a private key."),
    ] = None,
    encrypt: EncryptOption = None,
    data_dir_: DataDirOption = None,
    network_file: NetworkFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import a key that exists already: 64 hex digits, or a Web3 v3 keystore.

    The digits come from a hidden prompt, or from standard input where that is no terminal; never
    from a flag. The keystore's passphrase is asked, or is PRIME_NODE_IMPORT_PASSPHRASE. The copy in
    the data folder is encrypted again, under your own passphrase (or PRIME_NODE_PASSPHRASE).

    Examples:

        prime-node wallet import --data-dir ~/provider

        prime-node wallet import --data-dir ~/provider --keystore UTC--2026-01-31--abc.json

    You should see the address that you know the key by.
    """
    from node.config.keystore import IMPORT_VARIABLE, load_key
    from node.console import ask

    def read() -> NodeKey:
        if keystore is None:
            return ask.private_key()
        return load_key(keystore, ask=ask.import_passphrase, variable=IMPORT_VARIABLE)

    _store(read, provider, encrypt, data_dir_, network_file, as_json)


def _store(
    source: Any,
    provider: bool,
    encrypt: bool | None,
    folder: Path | None,
    network_file: Path | None,
    as_json: bool,
) -> None:
    """Write the key that `source` returns; nothing is asked where there is a key already."""
    from node.config.keystore import KeyFileError, save_key
    from node.console import ask

    data = data_dir(folder)
    path = data.provider_key if provider else data.node_key
    if path.exists():
        raise KeyFileError(f"{path}: already there", "a key is never overwritten; move it away")
    key: NodeKey = source()
    encrypted = provider if encrypt is None else encrypt
    passphrase = ask.new_passphrase() if encrypted else ""
    data.create()
    save_key(path, key, passphrase)
    data.remember_network(network_file)
    which = "provider" if provider else "node"
    result = {
        "key": which,
        "address": key.address,
        "file": str(path),
        "encrypted": encrypted,
    }
    if as_json:
        print_json(result)
        return
    say(f"{which:<9} {key.address}")
    say(f"file      {path}  ({'encrypted' if encrypted else 'not encrypted'})")
    say("backup    copy this file to a safe place; it cannot be made again")
    if provider:
        say(f"next      send gas and tokens to {key.address}, then: prime-node stake add AMOUNT")
    else:
        say(f"next      prime-node run --data-dir {data.path}")


@app.command("show")
def show(
    data_dir_: DataDirOption = None,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export-keystore", help="Also write the provider's key, encrypted, to this new file."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the addresses of both keys, the peer id, and whether they are encrypted.

    No passphrase is needed, except that of an encrypted node key for its peer id (it is left out
    without PRIME_NODE_PASSPHRASE). Secrets are never shown; `--export-keystore FILE` writes an
    encrypted Web3 v3 keystore that other wallets read.

    Example:

        prime-node wallet show --data-dir ~/worker-1

    You should see one line for each key that is here.
    """
    from node.config.keystore import KeyFileError, look_at_key

    data = data_dir(data_dir_)
    files = {
        name: look_at_key(path)
        for name, path in (("provider", data.provider_key), ("node", data.node_key))
        if path.exists()
    }
    if not files:
        raise KeyFileError(f"{data.path}: no keys here", "prime-node wallet new makes one")
    shown = {name: _describe(file) for name, file in files.items()}
    if "node" in files:
        shown["node"]["peer_id"] = _peer_id(files["node"])
    if export is not None:
        _export(data, export)
    if as_json:
        print_json({"data_dir": str(data.path), **shown})
        return
    for name, entry in shown.items():
        state = "encrypted" if entry["encrypted"] else "not encrypted"
        say(f"{name:<9} {entry['address'] or 'not named in the file'}  ({state})")
        if entry.get("peer_id"):
            say(f"peer id   {entry['peer_id']}")
    if export is not None:
        say(f"written   {export}  (the provider's key, encrypted)")


def _describe(file: KeyFile) -> dict[str, Any]:
    return {"address": file.address, "file": str(file.path), "encrypted": file.encrypted}


def _peer_id(file: KeyFile) -> str | None:
    import os

    from node.config.keystore import PASSPHRASE_VARIABLE, load_key
    from p2p.identity import peer_id_of

    if file.encrypted and PASSPHRASE_VARIABLE not in os.environ:
        return None
    return peer_id_of(load_key(file.path).secret)


def _export(data: DataDir, target: Path) -> None:
    """Encrypt the provider's key again, into a file that does not exist yet."""
    from node.config.keystore import load_key, save_key
    from node.config.typed import expand
    from node.console import ask

    key = load_key(data.provider_key, ask=ask.passphrase)
    save_key(expand(target), key, ask.new_passphrase())


@app.command("balance")
@with_option_sets
def balance(options: WalletOptions) -> None:
    """Show gas and tokens of provider and node, the stake, and what can be claimed.

    Needs no passphrase and works while the node runs. In JSON amounts are strings of the smallest
    unit (10^-18).

    Example:

        prime-node wallet balance --data-dir ~/worker-1

    You should see a line for each account, then `staked`, `unbonding` and `claimable`.
    """
    from node.cli.provider.chain_access import on_chain, open_reader

    wallet = options.wallet()

    async def look() -> dict[str, Any]:
        async with open_reader(wallet) as chain:
            return await _balances(chain, wallet)

    seen = on_chain(look)
    if options.as_json:
        print_json(seen)
        return
    from node.onchain.amounts import gas, moment, tokens

    for name in ("provider", "node"):
        if seen[name] is not None:
            held = seen[name]
            amounts = f"{gas(int(held['gas']))}, {tokens(int(held['tokens']))}"
            say(f"{name:<10} {held['address']}  {amounts}")
    say(f"staked     {tokens(int(seen['staked']))}")
    until = f"  (free at {moment(seen['release_time'])})" if int(seen["unbonding"]) else ""
    say(f"unbonding  {tokens(int(seen['unbonding']))}{until}")
    say(f"claimable  {tokens(int(seen['claimable']))}")


async def _balances(chain: ChainClient, wallet: Wallet) -> dict[str, Any]:
    from node.settlement.earnings import find_earnings

    provider, node = wallet.provider, wallet.node_address()

    async def held(address: str) -> dict[str, str]:
        return {
            "address": address,
            "gas": str(await chain.native_balance(address)),
            "tokens": str(await chain.token_balance(address)),
        }

    stake = await chain.providers.stake_status(provider)
    earned = await find_earnings(chain, provider, wallet.data.journal)
    return {
        "provider": await held(provider),
        "node": await held(node) if node else None,
        "staked": str(stake.active),
        "unbonding": str(stake.unbonding),
        "release_time": stake.release_time,
        "claimable": str(sum(pool.claimable for pool in earned)),
    }
