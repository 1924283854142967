"""`prime-node key`: look at a node's keys (never at their secrets)."""

from __future__ import annotations

import typer

from node.cli.options import DataDirOption, JsonOption, data_dir
from node.console.output import print_json, say

app = typer.Typer(no_args_is_help=True, help="A node's keys.")


@app.command("show")
def show(data_dir_: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show a node's address and peer id, and its provider's address if its key is here.

    Both are names of the same secp256k1 key. The private key is never shown.

    Example:

        prime-node key show --data-dir ~/worker-1

    You should see `address 0x…` and `peer id 16Uiu2HA…`.
    """
    from node.config.keystore import load_key
    from p2p.identity import peer_id_of

    def ask(text: str) -> str:
        return str(typer.prompt(text, hide_input=True, err=True))

    folder = data_dir(data_dir_)
    key = load_key(folder.node_key, ask=ask)
    has_provider = folder.provider_key.exists()
    provider = load_key(folder.provider_key, ask=ask).address if has_provider else None
    peer_id = peer_id_of(key.secret)
    if as_json:
        print_json({"address": key.address, "peer_id": peer_id, "provider": provider})
        return
    say(f"address   {key.address}")
    say(f"peer id   {peer_id}")
    if provider:
        say(f"provider  {provider}")
