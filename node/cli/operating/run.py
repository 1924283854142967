"""`prime-node run`: run a node until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.cli.options import DataDirOption, StoreOption, given

_NET, _WORK, _POOL, _LOG = "Network", "Worker and validator", "Orchestrator", "Logging"
_POLICY = "What a worker may do"


def command(
    data_dir_: DataDirOption = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", help="Settings file (TOML).")
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option("--role", help="worker, validator or orchestrator; may be repeated."),
    ] = None,
    model_store: StoreOption = None,
    network_file: Annotated[
        Path | None,
        typer.Option("--network-file", help="The network to join.", rich_help_panel=_NET),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider",
            help="Address of the provider, where its key is not in the data folder.",
            rich_help_panel=_NET,
        ),
    ] = None,
    bootstrap: Annotated[
        list[str] | None,
        typer.Option(
            "--bootstrap", help="A peer to join by (multiaddr); repeat.", rich_help_panel=_NET
        ),
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            "--listen",
            help="Listen here (default /ip4/0.0.0.0/tcp/4001; port 0 is any); repeat.",
            rich_help_panel=_NET,
        ),
    ] = None,
    external: Annotated[
        list[str] | None,
        typer.Option(
            "--external", help="Address others reach this node by; repeat.", rich_help_panel=_NET
        ),
    ] = None,
    location: Annotated[
        str | None,
        typer.Option("--location", help='Where it is: "latitude,longitude".', rich_help_panel=_NET),
    ] = None,
    region: Annotated[
        str | None, typer.Option("--region", help="A region's name.", rich_help_panel=_NET)
    ] = None,
    http_host: Annotated[
        str | None,
        typer.Option("--http-host", help="HTTP API host (127.0.0.1).", rich_help_panel=_NET),
    ] = None,
    http_port: Annotated[
        int | None,
        typer.Option("--http-port", help="HTTP API port (7070; 0 is any).", rich_help_panel=_NET),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="auto, cpu, cuda or cuda:N.", rich_help_panel=_WORK),
    ] = None,
    vram: Annotated[
        str | None,
        typer.Option("--vram", help='Memory to use, like "8GiB" (auto).', rich_help_panel=_WORK),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", help="Compute threads (0: half of them).", rich_help_panel=_WORK),
    ] = None,
    fault: Annotated[str | None, typer.Option("--fault", hidden=True)] = None,
    pools: Annotated[
        list[str] | None,
        typer.Option("--pools", help="Pool to serve (any); repeat.", rich_help_panel=_POLICY),
    ] = None,
    refused_pools: Annotated[
        list[str] | None,
        typer.Option("--refused-pools", help="Never this pool; repeat.", rich_help_panel=_POLICY),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--models", help="Model to serve (any); repeat.", rich_help_panel=_POLICY),
    ] = None,
    min_price: Annotated[
        int | None,
        typer.Option(
            "--min-price", help="Least wei for a layer and a token (0).", rich_help_panel=_POLICY
        ),
    ] = None,
    gas_per_day: Annotated[
        str | None,
        typer.Option(
            "--gas-per-day", help="Most gas in 24 hours (0.01 ether).", rich_help_panel=_POLICY
        ),
    ] = None,
    disk: Annotated[
        str | None,
        typer.Option("--disk", help='Disk to use, like "20GiB".', rich_help_panel=_POLICY),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option("--memory", help="Never more than this, of --vram.", rich_help_panel=_POLICY),
    ] = None,
    hours: Annotated[
        list[str] | None,
        typer.Option(
            "--hours",
            help="Local hours to work in, like 22:00-06:30; repeat.",
            rich_help_panel=_POLICY,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Model to serve.", rich_help_panel=_POOL)
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option("--stages", help="Stages per group, or auto.", rich_help_panel=_POOL),
    ] = None,
    unit_size: Annotated[
        int | None,
        typer.Option("--unit-size", help="Prompts per work unit.", rich_help_panel=_POOL),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option("--log-format", help="auto, console or json.", rich_help_panel=_LOG),
    ] = None,
    log_file: Annotated[
        Path | None,
        typer.Option(
            "--log-file", help="Log to a file that is rotated, not to stderr.", rich_help_panel=_LOG
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option("--log-level", help="debug, info, warning or error.", rich_help_panel=_LOG),
    ] = None,
) -> None:
    """Run a node in one or more roles until Ctrl-C.

    Settings come from flags, then PRIME_NODE_* variables, then the file (--config, default
    config.toml in the data folder), then defaults. The first Ctrl-C drains and leaves cleanly; the
    second stops at once.

    Examples:

        prime-node run --role orchestrator --data-dir ~/orchestrator --network-file network.toml

        prime-node run --role worker --data-dir ~/worker-1 --network-file network.toml \\
        --listen /ip4/127.0.0.1/tcp/0 --http-port 0

    You should see the node's peer id and addresses, then "serving" once it is registered and ready.
    Ask it with `prime-node status`.
    """
    from node.config.schema import load_config
    from node.logs import configure_logging

    device_settings = given(device=device, threads=threads)
    flags = given(
        data_dir=data_dir_,
        roles=role,
        model_store=model_store,
        network_file=network_file,
        provider=provider,
        bootstrap=bootstrap,
        listen=listen,
        external=external,
        location=location,
        region=region,
        http_host=http_host,
        http_port=http_port,
        log_format=log_format,
        log_file=log_file,
        log_level=log_level,
    )
    sections = {
        "worker": {**device_settings, **given(vram=vram, fault=fault)},
        "policy": given(
            pools=pools if pools != ["any"] else "any",
            refused_pools=refused_pools,
            models=models if models != ["any"] else "any",
            min_price=min_price,
            gas_per_day=gas_per_day,
            disk=disk,
            memory=memory,
            hours=hours,
        ),
        "validator": device_settings,
        "orchestrator": given(model=model, stages=stages, unit_size=unit_size),
    }
    flags |= {name: section for name, section in sections.items() if section}
    config = load_config(flags, config_file=config_file)
    configure_logging(config.log_format, config.log_level)

    from node.runtime import run_node

    run_node(config)
