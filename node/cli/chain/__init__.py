"""`prime-node chain`: a chain for development, and the contracts on any chain."""

import typer

from node.cli.chain.contracts import deploy, fund, grant, verify
from node.cli.chain.dev import dev

app = typer.Typer(no_args_is_help=True, help="A chain for development; contracts on any chain.")
app.command("deploy")(deploy)
app.command("verify")(verify)
app.command("dev")(dev)
app.command("grant")(grant)
app.command("fund")(fund)
