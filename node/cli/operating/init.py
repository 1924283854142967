"""`prime-node init`: make a data folder with a key and a settings file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.options import DataDirOption, JsonOption, data_dir
from node.console.output import print_json, say

if TYPE_CHECKING:
    from node.config.keystore import NodeKey


def command(
    data_dir_: DataDirOption = None,
    role: Annotated[
        list[str] | None, typer.Option("--role", help="worker, validator or orchestrator; repeat.")
    ] = None,
    network_file: Annotated[
        Path | None, typer.Option("--network-file", help="The network to join.")
    ] = None,
    with_provider_key: Annotated[
        bool, typer.Option("--with-provider-key", help="Also make a provider's (cold) key here.")
    ] = False,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Encrypt keys with a passphrase (asks for it).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a node's data folder: its key, its settings file, its API token.

    Run it once per node. Running it again changes nothing that is there: keys are never
    overwritten.

    Example:

        prime-node init --data-dir ~/worker-1 --network-file network.toml --role worker

    You should see the node's address and peer id and the files that were made. Next: `prime-node
    run`.
    """
    from node.cli.options import given
    from node.config.schema import load_config
    from p2p.identity import peer_id_of

    folder = data_dir(data_dir_)
    settings = given(
        data_dir=str(folder.path),
        roles=role,
        network_file=str(network_file.absolute()) if network_file else None,
    )
    config = load_config(settings, environment={}, config_file=None)
    passphrase = _new_passphrase() if encrypt else ""
    folder.create()
    key, made = _key(folder.node_key, passphrase)
    files = [str(folder.node_key)] if made else []
    provider: NodeKey | None = None
    if with_provider_key:
        provider, made = _key(folder.provider_key, passphrase)
        files += [str(folder.provider_key)] if made else []
    folder.api_token()
    if not folder.config.exists():
        from node.config.files import write_atomically

        write_atomically(folder.config, _config_text(config.roles, config.network_file).encode())
        files.append(str(folder.config))
    result = {
        "data_dir": str(folder.path),
        "address": key.address,
        "peer_id": peer_id_of(key.secret),
        "provider": provider.address if provider else None,
        "made": files,
    }
    if as_json:
        print_json(result)
        return
    say(f"data folder  {folder.path}")
    say(f"address      {result['address']}")
    say(f"peer id      {result['peer_id']}")
    if provider:
        say(f"provider     {provider.address}")
    say(f"made         {', '.join(files) if files else 'nothing: all of it was there'}")
    say(f"next         prime-node run --data-dir {folder.path}")


def _new_passphrase() -> str:
    import os

    from node.config.keystore import PASSPHRASE_VARIABLE

    given_one = os.environ.get(PASSPHRASE_VARIABLE)
    if given_one:
        return given_one
    return str(typer.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True))


def _key(path: Path, passphrase: str) -> tuple[NodeKey, bool]:
    """The key at `path` and whether it was made now."""
    from node.config.keystore import generate_key, load_key, save_key

    if path.exists():
        return load_key(path, ask=lambda text: passphrase or _ask(text)), False
    key = generate_key()
    save_key(path, key, passphrase)
    return key, True


def _ask(text: str) -> str:
    return str(typer.prompt(text, hide_input=True, err=True))


def _config_text(roles: tuple[str, ...], network_file: Path | None) -> str:
    import tomli_w

    values: dict[str, object] = {"roles": list(roles)}
    if network_file is not None:
        values["network_file"] = str(network_file)
    return (
        "# Settings of this node. Flags and PRIME_NODE_* variables win over this file.\n"
        "# All settings: prime-node run --help\n"
        + tomli_w.dumps(values)
        + '\n# listen = ["/ip4/0.0.0.0/tcp/4001"]\n# http_port = 7070\n'
        '\n# [worker]\n# device = "auto"\n# vram = "8GiB"\n'
    )
