"""`prime-node export`: a case file from a validator's data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.cli.options import DataDirOption, data_dir, given
from node.console.output import human_bytes, say


def command(
    unit: Annotated[str, typer.Argument(help="First hex digits of a unit's or a bundle's id.")],
    folder: DataDirOption = None,
    network_file: Annotated[
        Path | None,
        typer.Option("--network-file", help="The network (default: that of the data folder)."),
    ] = None,
    thresholds: Annotated[
        str | None, typer.Option("--thresholds", help="What it was judged by, if not by config.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: <unit>.prime, here.")
    ] = None,
) -> None:
    """Write the case of a work unit: its proof bundle, the verdict, rows that stages revealed.

    Whoever has the model can check it with prime-node verify, without a network. The file holds the
    prompts and the output of the unit.

    Example:

        prime-node export 4f1d2a9c --data-dir ~/validator

    You should see the file's name and size. The id is a unit's or a bundle's, its first digits are
    enough.
    """
    from node.cases.exporting import find_bundle, make_case
    from node.config.files import write_atomically
    from node.config.schema import load_config
    from proofs.verdict.casefile import SUFFIX

    data = data_dir(folder)
    validator = given(thresholds=thresholds)
    config = load_config(
        given(data_dir=data.path, network_file=network_file, validator=validator or None)
    )
    bundle = find_bundle(data, unit)
    case = make_case(config, data, bundle)
    path = output or Path(f"{bundle.unit_id.hex()[:12]}{SUFFIX}")
    content = case.to_bytes()
    write_atomically(path, content, 0o600)
    say(
        f"{path}  {human_bytes(len(content))}  {len(case.verdicts)} verdicts,"
        f" {len(case.asked)} stages asked for rows"
    )
