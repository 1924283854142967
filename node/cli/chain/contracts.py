"""`prime-node chain deploy`, `verify` and `grant`: the contracts on any EVM chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.cli.options import JsonOption, check_address
from node.console import ask
from node.console.output import print_json, say, show_table

NetworkFileOption = Annotated[
    Path, typer.Option("--network-file", help="The network file to write or read.")
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option("--key-file", help="Key file of the account that pays (plain or encrypted)."),
]
DEFAULT_FILE = Path("network.toml")


def deploy(
    rpc_url: Annotated[str, typer.Option("--rpc-url", help="JSON-RPC endpoint of the chain.")],
    preset: Annotated[
        str, typer.Option("--preset", help="development or base-sepolia.")
    ] = "development",
    params: Annotated[
        Path | None, typer.Option("--params", help="TOML file with parameters to change.")
    ] = None,
    network_file: NetworkFileOption = DEFAULT_FILE,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deploy the contracts to a chain, and write the network file.

    The deployer pays gas, owns the token, and becomes administrator and federator. Its key is in
    `--key-file` (an encrypted one asks for its passphrase, or takes PRIME_NODE_PASSPHRASE) or in
    the environment variable PRIME_NODE_FUNDER_KEY. A deployment that was interrupted continues
    where it stopped when the same command is given again: what was sent is kept beside the network
    file.

    `--params` is a TOML file with single parameters to change; an amount is a number of units of
    1e-18 or text like "12.5 PRIME".

    The network file names the URL given here, and is handed to everybody: use one without a secret.

    Example:

        PRIME_NODE_FUNDER_KEY=… prime-node chain deploy --rpc-url http://127.0.0.1:8545

        prime-node chain deploy --rpc-url "$RPC_URL" --preset base-sepolia
        --params params.toml --key-file deployer.json

    You should see a line for each contract, and at the end a table of their addresses. Then give
    nodes the validator role with `prime-node chain grant`.
    """
    import trio

    from node.config.settings import read_toml
    from node.onchain.deploying import DeploymentPlan, deploy_network, payer_key

    plan = DeploymentPlan(rpc_url, preset, {} if params is None else read_toml(params))
    key = payer_key(key_file, ask.passphrase)

    def note(step: str) -> None:
        say(step, err=True)

    made = trio.run(deploy_network, network_file.absolute(), plan, key, note)
    if as_json:
        print_json({"deployer": key.address, "preset": preset, **made.model_dump(mode="json")})
        return
    rows = [(name, address) for name, address in made.contracts.items()]
    show_table(f"Chain {made.chain_id}", ("contract", "address"), rows)
    say(f"verified; written to {network_file}")


def fund(
    address: Annotated[str, typer.Argument(help="Who gets gas money and tokens.")],
    network_file: NetworkFileOption = DEFAULT_FILE,
) -> None:
    """Have a development chain's faucet pay gas money and tokens to any address.

    Nodes ask it by themselves; this is for wallets and other programs. It tops up what is below
    half of a grant, so asking twice is harmless.

    Example:

        prime-node chain fund 0x… --network-file network.toml

    You should see what was paid. Chains other than `prime-node chain dev` have no faucet.
    """
    import trio

    from node.onchain.deploying import fund_address

    paid = trio.run(fund_address, network_file.absolute(), check_address(address))
    say(f"paid to {address}: {paid}")


def verify(network_file: NetworkFileOption = DEFAULT_FILE, as_json: JsonOption = False) -> None:
    """Check that the contracts of a network file are what they should be.

    Compares the code at every address with this version's, the addresses that the contracts have of
    one another, and who may call what.

    Example:

        prime-node chain verify --network-file network.toml

    You should see `yes` in every row. Exit code 1 says that something does not hold.
    """
    import trio

    from node.errors import NodeError
    from node.onchain.deploying import check_network

    checks = trio.run(check_network, network_file.absolute())
    failed = [check for check in checks if not check.holds]
    if as_json:
        rows = [{"what": c.what, "holds": c.holds, "found": c.found} for c in checks]
        print_json({"holds": not failed, "checks": rows})
    else:
        shown = [(check.what, "yes" if check.holds else "no", check.found) for check in checks]
        show_table("Contracts", ("check", "holds", "found instead"), shown)
    if failed:
        raise NodeError(
            f"{len(failed)} of {len(checks)} checks do not hold",
            "do not join with this network file until you know why",
        )


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
    say(f"granted: {address} is a validator")
