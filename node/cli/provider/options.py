"""The options of every command that looks at, or acts for, a provider."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.options import DataDirOption, JsonOption, OptionSet

if TYPE_CHECKING:
    from node.cli.provider.chain_access import Wallet

NetworkFileOption = Annotated[
    Path | None,
    typer.Option(
        "--network-file",
        help="The network (default: the one in the data folder's config.toml).",
        envvar="PRIME_NODE_NETWORK_FILE",
    ),
]
RpcOption = Annotated[
    str | None, typer.Option("--rpc-url", help="Ask this endpoint, not the network file's.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before sending.")]


@dataclass(frozen=True)
class WalletOptions(OptionSet):
    """Whose wallet, on which network, and how to show the answer."""

    data_dir: DataDirOption = None
    network_file: NetworkFileOption = None
    rpc_url: RpcOption = None
    as_json: JsonOption = False

    def wallet(self) -> Wallet:
        """The data folder and the chain that the options name. Raises `InputError`."""
        from node.cli.provider.chain_access import find_wallet

        return find_wallet(self.data_dir, self.network_file, self.rpc_url)


@dataclass(frozen=True)
class SendingOptions(WalletOptions):
    """As `WalletOptions`, for commands that ask before they send."""

    yes: YesOption = False

    @property
    def agreed(self) -> bool:
        """Whether to send without asking: `--yes`, or a program that reads JSON."""
        return self.yes or self.as_json
