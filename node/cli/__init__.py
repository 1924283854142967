"""The `prime-node` command.

`main` is what `prime_node.main` calls. It runs one command and turns whatever comes out of it into
one line on stderr and an exit code (the table is in `node.errors`). A traceback is shown only for a
bug or with `--debug`. Commands import what they need when they run, so that `--help` answers at
once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import typer
import typer.main

from node.cli import chain
from node.cli.checking import calibrate, export, verify
from node.cli.operating import (
    cancel,
    init,
    key,
    model,
    prune,
    run,
    simulate,
    status,
    submit,
)
from node.cli.provider import consent, deregister, register_node, rewards, stake, wallet
from node.console.output import complain, say
from node.console.streams import fill_standard_streams, forget, settle, show_anything
from node.errors import (
    EXIT_BUG,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    is_interrupt,
    translate,
)

MAX_TRACEBACK = 100_000
"""Characters."""


@dataclass
class Invocation:
    """What the root command learnt from its own flags. `debug`: show tracebacks of errors."""

    debug: bool = False


app = typer.Typer(
    name="prime-node",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("simulate")(simulate.command)
app.command("init")(init.command)
app.command("run")(run.command)
app.command("submit")(submit.command)
app.command("cancel")(cancel.command)
app.command("calibrate")(calibrate.command)
app.command("status")(status.command)
app.command("verify")(verify.command)
app.command("export")(export.command)
app.command("deregister")(deregister.command)
app.command("prune")(prune.command)
wallet.app.command("consent")(consent.command)
stake.app.command("register-node")(register_node.command)
app.add_typer(wallet.app, name="wallet")
app.add_typer(stake.app, name="stake")
app.add_typer(rewards.app, name="rewards")
app.add_typer(key.app, name="key")
app.add_typer(model.app, name="model")
app.add_typer(calibrate.app, name="profile")
app.add_typer(chain.app, name="chain")


def _show_version(value: bool) -> None:
    if value:
        from node.version import version

        say(f"prime-node {version()}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks of errors."),
    _version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Pool machines into one that runs models too big for any of them, prove the work, get paid.

    See a whole network work on this machine:  `prime-node simulate`

    By hand: `init`, `chain dev`, `run` in several terminals, then `submit` and `status`.
    """
    context.obj.debug = debug


def run_cli(arguments: Sequence[str]) -> int:
    """Run one command line (without the program's name); returns the exit code."""
    command = typer.main.get_command(app)
    invocation = Invocation()
    show_anything(sys.stdout, sys.stderr)
    try:
        code = command.main(
            args=list(arguments), prog_name="prime-node", standalone_mode=False, obj=invocation
        )
        sys.stdout.flush()
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else EXIT_USAGE
    except BaseException as exc:  # noqa: BLE001 - the outermost frame: nothing may pass unreported
        return _report(exc, invocation.debug)
    if code == EXIT_INTERRUPTED:
        # typer turns a bare KeyboardInterrupt into this code without a word.
        complain("interrupted")
    return code if isinstance(code, int) else 0


def _report(exc: BaseException, debug: bool) -> int:
    """Say on stderr what went wrong; returns the exit code."""
    settle()
    if debug:
        say("".join(traceback.format_exception(exc)), err=True, lines=True, limit=MAX_TRACEBACK)
    shown = getattr(exc, "format_message", None)
    if shown is not None:
        # click's own errors: the command line is wrong.
        context = getattr(exc, "ctx", None)
        path = context.command_path if context is not None else "prime-node"
        complain(f"error: {shown() or 'which command?'} (see {path} --help)")
        return EXIT_USAGE
    if isinstance(exc, BrokenPipeError):
        forget(sys.stdout)  # whoever read it has seen enough
        return EXIT_FAILED
    if is_interrupt(exc) or isinstance(exc, typer.Abort):
        complain("interrupted")
        return EXIT_INTERRUPTED
    known = translate(exc)
    if known is not None:
        complain(f"error: {known}")
        return known.exit_code
    if not debug:
        say("".join(traceback.format_exception(exc)), err=True, lines=True, limit=MAX_TRACEBACK)
    complain("error: this is a bug in prime-node; please report the lines above")
    return EXIT_BUG


def main() -> None:
    """Run this process's command line and exit with its code."""
    fill_standard_streams()
    code = run_cli(sys.argv[1:])
    settle()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            forget(stream)  # Python would flush it once more, and end with a code of its own
            code = code or EXIT_FAILED
    sys.exit(code)
