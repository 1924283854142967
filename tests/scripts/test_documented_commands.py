"""Every command and file that the documents and the program itself show is one that it takes.

Nothing is run here but the parsing of command lines and settings; `scripts/docs/run_readme.py`
types what README.md says.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import typer.main

from chain.deployment.presets import changed, find_preset
from node.cli import Invocation, app, run_cli
from node.config.networkfile import NetworkFile
from node.config.schema import NodeConfig, check_keys, load_config
from node.config.settings import read_toml
from node.prompts import parse_prompt
from node.simulation.options import load_topology
from tests.paths import ROOT

sys.path.insert(0, str(ROOT / "scripts" / "docs"))

from commands import Block, blocks, mentions, words

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "contracts/README.md"]
BLOCKS = [block for page in PAGES for block in blocks(page)]
TYPED = [
    pytest.param(command, id=f"{block.where} {command[:60]}")
    for block in BLOCKS
    for command in block.commands()
    if "prime-node " in command
]
PROSE = {"x", "journal", "knows", "pool"}
"""What stands after "prime-node" where no command is meant."""
PIP = {"--no-deps", "--force-reinstall", "--python"}
ROOT_COMMAND = typer.main.get_command(app)


def resolve(command: str) -> tuple[click.Command, click.Context, list[str]]:
    """The command that a line names, its context, and the words that are left for it."""
    rest = words(command)[1:]
    found: click.Command = ROOT_COMMAND
    context = click.Context(found, info_name="prime-node", obj=Invocation())
    while isinstance(found, click.Group) and rest and not rest[0].startswith("-"):
        _, inner, rest = found.resolve_command(context, rest)
        assert inner is not None
        found = inner
        context = click.Context(found, parent=context, info_name=found.name)
    return found, context, rest


def parse(command: str) -> None:
    """Raise click's error unless the line is one that would be run."""
    found, context, rest = resolve(command)
    if "--help" not in rest:
        found.parse_args(context, rest)


@pytest.mark.parametrize("command", TYPED)
def test_what_is_shown_can_be_typed(command: str) -> None:
    parse(command.replace("…", "x"))


def test_what_is_mentioned_exists() -> None:
    wrong = []
    for page in PAGES:
        for line, command in mentions(page):
            try:
                parse(command.replace("…", "x"))
            except click.MissingParameter:
                pass  # mentioned without its arguments
            except click.UsageError as exc:
                wrong.append(f"{page.name}:{line}: {command}: {exc.format_message()}")
    assert wrong == []


@pytest.mark.parametrize(
    "command", [param for param in TYPED if " run " in f"{param.values[0]} "][:12]
)
def test_a_documented_run_has_settings_that_hold(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[NodeConfig] = []
    for name in ("HOME", "PRIME_NODE_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    # Stands for the whole node, whose import takes longer than everything else here.
    monkeypatch.setitem(sys.modules, "node.runtime", SimpleNamespace(run_node=ran.append))
    monkeypatch.setattr("node.logs.configure_logging", lambda *_settings: None)
    address = "0x" + "ab" * 20
    assert run_cli(words(command.replace("0x…", address))[1:]) == 0
    assert len(ran) == 1


def of_language(language: str) -> list[Any]:
    return [pytest.param(block, id=block.where) for block in BLOCKS if block.language == language]


@pytest.mark.parametrize("block", of_language("toml"))
def test_documented_files_are_taken(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    peer = "16Uiu2HAm8eTrR7bM4SvtaqNpCJryuLQR3FQefaHzHhXkPsPKPsaY"
    text = re.sub(r"16Uiu2\w*…", peer, "\n".join(block.lines))
    file.write_text(text.replace("0x…", "0x" + "ab" * 20))
    data = read_toml(file)
    if "workers" in data:
        assert load_topology(file).workers
    elif data.keys() & {"bootstrap", "chain"} and "roles" not in data:
        NetworkFile.load(file)
    elif data.keys() & NodeConfig.model_fields.keys():
        check_keys(NodeConfig, data, block.where)
        load_config({}, config_file=file, environment={})
    elif data.keys() & {"treasury", "base_stake"}:
        changed(find_preset("base-sepolia"), data)
    else:
        assert "profile" in block.page.name, f"{block.where}: what file is this?"


def test_documented_prompts_are_taken() -> None:
    lines = [line for block in BLOCKS for line in block.lines if line.startswith('{"')]
    prompts = [line for line in lines if '"prompt":' in line or '"messages": [' in line]
    shown = [parse_prompt(line, "documented") for line in prompts if "..." not in line]
    assert len(shown) >= 2


def sentences(file: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every string of a module that is no docstring; what an f-string fills in is
    left as `x`."""
    tree = ast.parse(file.read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [
                str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values
            ]
            yield node.lineno, "".join(parts)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
        ):
            yield node.lineno, node.value


def wrong_hints(text: str, flags: set[str]) -> Iterator[str]:
    """Commands and flags that a sentence names and that do not exist."""
    for hint in re.finditer(r"prime-node ([a-z]+(?:-[a-z]+)*)(?: ([a-z]+(?:-[a-z]+)*))?", text):
        if hint[1] in PROSE:
            continue
        group = ROOT_COMMAND.commands.get(hint[1])  # type: ignore[attr-defined]
        inner = getattr(group, "commands", None)
        if group is None or (inner is not None and hint[2] not in {None, *inner}):
            yield hint[0]
    for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
        if flag not in flags:
            yield flag


def test_hints_name_commands_and_flags_that_exist() -> None:
    flags = {"--help", *PIP}
    left: list[click.Command] = [ROOT_COMMAND]
    while left:
        command = left.pop()
        flags.update(
            option for param in command.params for option in (*param.opts, *param.secondary_opts)
        )
        left += getattr(command, "commands", {}).values()
    files = [
        file
        for package in ("node", "chain", "pipeline/models", "p2p")
        for file in sorted((ROOT / package).rglob("*.py"))
        if file.parent.name != "devnet" and re.search("prime-node |--", file.read_text())
    ]
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {hint}"
        for file in files
        for line, text in sentences(file)
        for hint in wrong_hints(text, flags)
    ]
    assert not wrong, "\n".join(wrong)
    assert list(wrong_hints("try prime-node frob or prime-node model frob --frob", flags)) == [
        "prime-node frob or",
        "prime-node model frob",
        "--frob",
    ]
