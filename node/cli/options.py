"""Options that many commands take, and the values that they stand for.

A set of options that always go together is a frozen dataclass (`OptionSet`), whose fields are
annotated as a command's parameters are. A command that takes such a set as one parameter is wrapped
in `with_option_sets`, which shows typer the fields instead, so that a set is declared once and a
command reads it as one value.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from node.errors import InputError

if TYPE_CHECKING:
    from node.config.datadir import DataDir

DEFAULT_DATA_DIR = "~/.prime-node"
DEFAULT_MODEL_STORE = "~/.cache/prime-node/models"

DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="PRIME_NODE_DATA_DIR",
        help=f"The node's data folder (default {DEFAULT_DATA_DIR}).",
        show_envvar=True,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--model-store",
        envvar="PRIME_NODE_MODEL_STORE",
        help=f"Where prepared models are kept (default {DEFAULT_MODEL_STORE}).",
    ),
]


@dataclass(frozen=True)
class OptionSet:
    """Base of sets of options; every field needs a default."""


def with_option_sets(command: Callable[..., None]) -> Callable[..., None]:
    """`command` as typer must see it: each parameter that is an `OptionSet` spread into its fields.

    The fields come last, in the order in which they are declared.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    spread: list[inspect.Parameter] = []
    sets: dict[str, type[OptionSet]] = {}
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        if isinstance(hint, type) and issubclass(hint, OptionSet):
            sets[parameter.name] = hint
            spread += _parameters_of(hint)
        else:
            parameters.append(
                parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY)
            )

    @wraps(command)
    def spread_command(**values: Any) -> None:
        for name, kind in sets.items():
            chosen = {field.name: values.pop(field.name) for field in fields(kind)}
            values[name] = kind(**chosen)
        command(**values)

    shown = [*parameters, *spread]
    spread_command.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    spread_command.__annotations__ = {one.name: one.annotation for one in shown}
    return spread_command


def _parameters_of(kind: type[OptionSet]) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(kind)
    ]


def data_dir(path: Path | None) -> DataDir:
    """The data folder that `--data-dir` names, else the default one."""
    from node.config.datadir import DataDir
    from node.config.typed import expand

    return DataDir(expand(path or Path(DEFAULT_DATA_DIR)))


def model_store(path: Path | None) -> Path:
    """The folder of prepared models that `--model-store` names, else the default one."""
    from node.config.typed import expand

    return expand(path or Path(DEFAULT_MODEL_STORE))


def given(**values: Any) -> dict[str, Any]:
    """The flags that were given: without None and empty lists."""
    return {name: value for name, value in values.items() if value not in (None, [], ())}


def check_address(text: str) -> str:
    """`text`, which must be an EVM address. Raises `InputError`."""
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", text):
        raise InputError(f"{text[:64]}: not an address", "0x and 40 hex digits")
    return text
