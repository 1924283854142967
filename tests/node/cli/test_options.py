"""Sets of options: typer sees the fields, the command gets one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from node.cli.options import OptionSet, check_address, with_option_sets
from node.errors import InputError


@dataclass(frozen=True)
class Where(OptionSet):
    """A place, and whether to be brief."""

    city: Annotated[str, typer.Option("--city", help="A city.")] = "Nowhere"
    brief: Annotated[bool, typer.Option("--brief", "-b")] = False


@dataclass(frozen=True)
class WhereAndWhen(Where):
    """As `Where`, at an hour."""

    hour: Annotated[int, typer.Option("--hour", min=0, max=23)] = 12


seen: list[tuple[str, int, Where]] = []
app = typer.Typer()


@app.command("greet")
@with_option_sets
def greet(
    name: Annotated[str, typer.Argument()],
    times: Annotated[int, typer.Option("--times")] = 1,
    *,
    where: WhereAndWhen,
) -> None:
    """Greet somebody."""
    seen.append((name, times, where))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["Ada"], ("Ada", 1, WhereAndWhen())),
        (
            ["Ada", "--times", "2", "--city", "Oslo", "-b", "--hour", "9"],
            ("Ada", 2, WhereAndWhen("Oslo", True, 9)),
        ),
        (["--city", "Oslo", "Ada"], ("Ada", 1, WhereAndWhen("Oslo"))),
    ],
)
def test_a_command_gets_its_set_as_one_value(
    arguments: list[str], expected: tuple[str, int, Where]
) -> None:
    seen.clear()
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert seen == [expected]


def test_help_and_checks_are_those_of_the_fields() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "100"})
    assert "Greet somebody." in shown.output
    for flag in ("--times", "--city", "A city.", "--brief", "--hour"):
        assert flag in shown.output
    assert "--where" not in shown.output
    assert CliRunner().invoke(app, ["Ada", "--hour", "24"]).exit_code == 2


def test_an_address_has_40_hex_digits() -> None:
    assert check_address("0x" + "aB" * 20) == "0x" + "aB" * 20
    with pytest.raises(InputError, match="not an address"):
        check_address("0x12")
