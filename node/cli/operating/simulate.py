"""`prime-node simulate`: a whole network on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.cli.options import StoreOption


def command(
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Workers.")] = 3,
    validators: Annotated[int, typer.Option("--validators", min=1, max=16, help="Validators.")] = 1,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", help="Prompts file (default: the one that ships, 24 chats)."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="Only the first N prompts (0: all).")
    ] = 0,
    max_tokens: Annotated[
        int,
        typer.Option(
            "--max-tokens", min=1, help="Most tokens per answer, where a prompt does not say."
        ),
    ] = 48,
    model: Annotated[str, typer.Option("--model", help="Model to serve.")] = "smollm2",
    stages: Annotated[
        int, typer.Option("--stages", min=0, max=64, help="Stages per group (0: one per worker).")
    ] = 0,
    topology: Annotated[
        Path | None,
        typer.Option("--topology", help="TOML file: workers' memory caps and locations."),
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option("--fault", help="NODE:KIND[@SECONDS]; may be repeated.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", help="Folder for dataset.jsonl and report.json.")
    ] = Path("simulation"),
    model_store: StoreOption = None,
    rpc_url: Annotated[
        str | None, typer.Option("--rpc-url", help="Use this chain instead of the embedded one.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of plan and sampling.")] = 0,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1.0, help="Give up after this many seconds.")
    ] = 900.0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the network running until Ctrl-C.")
    ] = False,
    log_level: Annotated[
        str, typer.Option("--log-level", help="Level of the nodes' log files.")
    ] = "info",
) -> None:
    """Run a whole network on this machine: real node processes, a real model, a real chain.

    Starts an orchestrator, workers and a validator, each its own process with its own key, data
    folder and port; cuts the model into slices; completes the prompts over the network; checks
    every answer; settles on an embedded chain; and shows a table of all of it. Exits 0 only if
    everything held.

    Examples:

        prime-node simulate

        prime-node simulate --workers 4 --fault worker-2:int4-weights --output out/

    You should see progress within seconds and the table in a few minutes. The output folder then
    holds `dataset.jsonl` (every completion with its proofs and verdict) and `report.json` (all
    figures).

    Faults: `NODE:KIND` or `NODE:KIND@SECONDS`, where SECONDS counts from the first token. `crash`
    is kill -9 of any node (a worker stays dead, others are started again). Workers can be
    dishonest: `int4-weights`, `int8-weights`, `null-proofs`, `wrong-seed`, `garbage-hidden`.
    """
    from node.cli.options import model_store as store_path
    from node.prompts import load_prompts, shipped_prompts
    from node.simulation import simulate
    from node.simulation.options import SimulationOptions, parse_fault

    file = prompts or shipped_prompts()
    chosen = load_prompts(file)
    options = SimulationOptions(
        workers=workers,
        validators=validators,
        prompts=chosen[:limit] if limit else chosen,
        max_tokens=max_tokens,
        model=model,
        stages=stages,
        topology=topology,
        faults=tuple(parse_fault(text) for text in fault or ()),
        output=output.absolute(),
        model_store=store_path(model_store),
        rpc_url=rpc_url,
        seed=seed,
        timeout=timeout,
        keep=keep,
        log_level=log_level,
    )
    raise typer.Exit(simulate(options))
