"""The frame of the command line: help, exit codes, one line an error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node.errors import InputError, UnreachableError
from tests.paths import ROOT

COMMANDS = [
    ["simulate"],
    ["init"],
    ["run"],
    ["submit"],
    ["status"],
    ["key", "show"],
    ["model", "get"],
    ["model", "list"],
    ["model", "verify"],
    ["chain", "dev"],
    ["chain", "grant"],
    ["chain", "fund"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_teaches_by_an_example(cli: Any, command: list[str]) -> None:
    shown = cli(*command, "--help")
    assert shown.code == 0
    assert f"prime-node {' '.join(command)}" in shown.out
    assert "Example" in shown.out
    assert "You should see" in shown.out
    assert shown.err == ""


def test_the_root_lists_every_command(cli: Any) -> None:
    shown = cli("--help")
    assert shown.code == 0
    for command in COMMANDS:
        assert command[0] in shown.out
    version = cli("--version")
    assert version.code == 0
    assert version.out.startswith("prime-node ")


def test_help_imports_nothing_heavy() -> None:
    heavy = "torch transformers web3 libp2p starlette hypercorn structlog trio eth_keyfile httpx"
    code = (
        "import sys; from node.cli import run_cli; assert run_cli(['run', '--help']) == 0;"
        f"print('heavy:', sorted(set({heavy.split()!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frobnicate"], "error: No such command 'frobnicate'"),
        (["run", "--frob"], "error: No such option"),
        (["submit"], "error: Missing argument 'prompts'"),
        (["chain", "dev", "--port", "70000"], "error: Invalid value for '--port'"),
        (["key", "frob"], "(see prime-node key --help)"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(
    cli: Any, arguments: list[str], said: str
) -> None:
    shown = cli(*arguments)
    assert shown.code == 2
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""


@pytest.mark.parametrize(("arguments", "path"), [([], ""), (["chain"], " chain")])
def test_no_command_asks_for_one(cli: Any, arguments: list[str], path: str) -> None:
    shown = cli(*arguments)
    assert shown.code == 2
    assert shown.err == f"error: which command? (see prime-node{path} --help)\n"


def raising(exc: BaseException) -> Callable[..., None]:
    def raise_it(*_arguments: object) -> None:
        raise exc

    return raise_it


@pytest.mark.parametrize(
    ("exc", "code", "line"),
    [
        (InputError("bad", "fix it"), 3, "error: bad (fix it)"),
        (ExceptionGroup("nursery", [UnreachableError("gone\nfar")]), 4, "error: gone far"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (BaseExceptionGroup("nursery", [KeyboardInterrupt()]), 130, "interrupted"),
    ],
)
def test_what_comes_out_of_a_command_is_one_line(
    cli: Any, monkeypatch: pytest.MonkeyPatch, exc: BaseException, code: int, line: str
) -> None:
    monkeypatch.setattr("node.prompts.read_prompts", raising(exc))
    shown = cli("submit", "x.jsonl")
    assert (shown.code, shown.err, shown.out) == (code, line + "\n", "")
    debugged = cli("--debug", "submit", "x.jsonl")
    assert debugged.code == code
    assert ("Traceback" in debugged.err) == (not isinstance(exc, KeyboardInterrupt))
    assert debugged.err.endswith(line + "\n")


def test_a_bug_shows_its_traceback(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.prompts.read_prompts", raising(ZeroDivisionError("oops")))
    shown = cli("submit", "x.jsonl")
    assert shown.code == 70
    assert "ZeroDivisionError: oops" in shown.err
    assert "bug in prime-node" in shown.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--role", "cook"], "error: --role: "),
        (["--vram", "lots"], "error: --vram: a size is like"),
        (["--bootstrap", "/ip4/1.2.3.4/tcp/1"], "error: --bootstrap: a bootstrap address is"),
        (["--listen", "/dns4/me.example/tcp/1"], "error: --listen: an address to listen on or to"),
        (["--external", "/dns/me/tcp/1"], "error: --external: an address to listen on or to"),
        (["--location", "here"], "error: --location: "),
        (["--config", "none.toml"], "error: none.toml: no such file"),
        (["--stages", "few"], "error: --stages: "),
    ],
)
def test_run_refuses_a_bad_setting_by_its_flag(
    cli: Any, tmp_path: Path, flags: list[str], said: str
) -> None:
    shown = cli("run", "--data-dir", str(tmp_path), *flags)
    assert shown.code == 3
    assert shown.err.startswith(said)
    assert len(shown.err.splitlines()) == 1
