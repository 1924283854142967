"""What a node is told: the settings of `prime-node run`, and where each one may come from.

One frozen model, `NodeConfig`, with a section a role. A setting may come from four places; the
first that has it wins:

1. a flag of the command line,
2. an environment variable, `PRIME_NODE_` + the setting in capitals, sections joined by two
   underscores (`PRIME_NODE_HTTP_PORT`, `PRIME_NODE_WORKER__VRAM`),
3. the TOML file given by `--config` (default: `config.toml` in the data folder),
4. the default below.

The three sources are read into plain nested dicts, merged, and validated once. That is done here
and not by a settings library so that an error can name the source that holds the bad value, and so
that a misspelt key in the file is an error that names the nearest valid one.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from node.config.settings import (
    Account,
    Age,
    BootstrapAddress,
    CommaSeparated,
    Device,
    Hours,
    ListenAddress,
    Location,
    ModelChoice,
    PoolChoice,
    PoolId,
    Size,
    Wei,
    read_toml,
)
from node.config.typed import expand
from node.errors import InputError

ENVIRONMENT_PREFIX = "PRIME_NODE_"
OTHER_VARIABLES = frozenset(
    {
        "PRIME_NODE_PASSPHRASE",
        "PRIME_NODE_IMPORT_PASSPHRASE",
        "PRIME_NODE_TOKEN",
        "PRIME_NODE_FUNDER_KEY",
    }
)
"""Variables with our prefix that are not settings."""
FLAG_NAMES: dict[tuple[str, ...], str] = {("roles",): "--role"}
"""Settings whose flag is not just their own name."""

Role = Literal["worker", "validator", "orchestrator"]
Source = dict[str, Any]


class Section(BaseModel):
    """Base of all tables of settings: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WorkerSection(Section):
    """A worker's device. `vram` in bytes, 0 = what the device has; `threads` 0 = half the cores.

    `data_plane` "tunnel" sends hidden states over libp2p even where the data port can be reached.
    With `dial_private` a neighbour's record is believed about private addresses, too, where the
    neighbour is not seen at them. `fault` makes a simulated worker dishonest in a named way and is
    refused outside a simulation. Rewards are claimed once they reach `claim_above` (10^-18 PRIME)
    and are worth more than their gas, an ether being worth `tokens_per_ether` PRIME to the
    operator.
    """

    device: Device = "auto"
    vram: Size = 0
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    data_plane: Literal["auto", "tunnel"] = "auto"
    dial_private: bool = False
    fault: Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9-]*$")] = ""
    claim_above: Annotated[int, Field(ge=0, lt=2**128)] = 0
    tokens_per_ether: Annotated[float, Field(ge=0, le=1e12)] = 1.0


class PolicySection(Section):
    """What a worker's operator lets it do.

    It joins only `pools` (ids, or "any") and never `refused_pools`, serves only `models` (names in
    its store or ids, or "any"), and only for at least `min_price` (10^-18 PRIME for one layer and
    one token, as receipts count). Its transactions cost at most `gas_per_day` wei in 24 hours. It
    works within `hours` of the local day (empty: always). `disk` and `memory` are bytes that it may
    use, 0 for as much as `worker` says.
    """

    pools: PoolChoice = "any"
    refused_pools: Annotated[tuple[PoolId, ...], CommaSeparated, Field(max_length=1024)] = ()
    models: ModelChoice = "any"
    min_price: Annotated[int, Field(ge=0, lt=2**88)] = 0
    gas_per_day: Wei = 10**16
    disk: Size = 0
    memory: Size = 0
    hours: Annotated[tuple[Hours, ...], CommaSeparated, Field(max_length=16)] = ()


class OrchestratorSection(Section):
    """A pool's owner. `price_per_unit` in the token's smallest unit (10^-18 PRIME).

    `stages` "auto" lets the planner choose; a number waits `formation_wait` seconds for so many
    workers. `unit_size` is sequences a work unit. The KV cache is sized for `sequences_in_flight`
    sequences of `tokens_per_sequence` tokens; one may take all of it, as far as its model goes.
    `micro_batches` 0: as a ring measures. `pool_id` 0 opens a new pool. A unit that cannot be
    worked on in `attempts` rings is given up. Groups get no new units while `units_unjudged` wait
    for verdicts. `thresholds` is what a new pool names for its work to be judged by: a shipped
    name, or a profile's file or id.
    """

    model: Annotated[str, Field(min_length=1, max_length=512)] = "smollm2"
    pool_id: Annotated[int, Field(ge=0, lt=2**63)] = 0
    stages: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = "auto"
    unit_size: Annotated[int, Field(ge=1, le=1024)] = 4
    micro_batches: Annotated[int, Field(ge=0, le=256)] = 0
    formation_wait: Annotated[float, Field(ge=0, le=86_400)] = 120.0
    sequences_in_flight: Annotated[int, Field(ge=1, le=4096)] = 32
    tokens_per_sequence: Annotated[int, Field(ge=16, le=2**20)] = 512
    price_per_unit: Annotated[int, Field(ge=1, lt=2**88)] = 10**15
    thresholds: Annotated[str, Field(max_length=4096)] = "fp32"
    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    units_unjudged: Annotated[int, Field(ge=1, le=1024)] = 128
    max_prompts_per_job: Annotated[int, Field(ge=1, le=10_000_000)] = 1_000_000


class ValidatorSection(Section):
    """A validator's replay device, and the thresholds or profile by which it judges work of pools
    that name none. `stake` (10^-18 PRIME) is its voice; 0 is the least that registers a node.
    `check_rate` is the share of sequences that are replayed; "auto" follows from what a cheat would
    gain and lose."""

    device: Device = "auto"
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    thresholds: Annotated[str, Field(max_length=4096)] = "fp32"
    stake: Annotated[int, Field(ge=0, lt=2**128)] = 0
    check_rate: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = "auto"


DAY = 86_400.0


class RetentionSection(Section):
    """What the disk is for: sizes in bytes for each role, ages in seconds, 0: never.

    Nothing new is taken in while less than `free_reserve` is free. A job goes `jobs` after it
    ended, or `exported_jobs` after its whole dataset was read. `bundles` bounds proof bundles (a
    validator's go `accepted` or `rejected` after the verdict, too), `rows` hidden states, which a
    worker received or stages showed a validator. Those of units that nobody has judged stay, for at
    most `unjudged`, and a worker whose `rows` are full of them takes no new work. `epochs` bounds
    the published data of epochs, which others than validators keep for `epochs_age`. `records` is
    how long the journal keeps what a node signed and what it was refused. `logs` bounds the log
    file and its predecessor.
    """

    free_reserve: Size = 256 * 2**20
    jobs: Age = 90 * DAY
    exported_jobs: Age = 7 * DAY
    bundles: Size = 4 * 2**30
    accepted: Age = DAY
    rejected: Age = 30 * DAY
    rows: Size = 2 * 2**30
    unjudged: Age = DAY
    epochs: Size = 16 * 2**30
    epochs_age: Age = 30 * DAY
    records: Age = 90 * DAY
    logs: Size = 64 * 2**20


class NodeConfig(Section):
    """All settings of one node. `http_port` 0 and TCP port 0 take any free port.

    `provider` is whose node this is; needed where the provider's key is not in the data folder.
    """

    data_dir: Path = Path("~/.prime-node")
    model_store: Path = Path("~/.cache/prime-node/models")
    network_file: Path | None = None
    network: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")] = "prime"
    roles: Annotated[tuple[Role, ...], CommaSeparated, Field(min_length=1, max_length=3)] = (
        "worker",
    )
    provider: Account = None
    listen: Annotated[tuple[ListenAddress, ...], CommaSeparated, Field(max_length=16)] = (
        "/ip4/0.0.0.0/tcp/4001",
    )
    external: Annotated[tuple[ListenAddress, ...], CommaSeparated, Field(max_length=16)] = ()
    bootstrap: Annotated[tuple[BootstrapAddress, ...], CommaSeparated, Field(max_length=64)] = ()
    location: Location = None
    region: Annotated[str, Field(max_length=32, pattern=r"^[A-Za-z0-9 ._-]*$")] = ""
    http_host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, lt=65536)] = 7070
    log_format: Literal["auto", "console", "json"] = "auto"
    log_file: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    worker: WorkerSection = WorkerSection()
    policy: PolicySection = PolicySection()
    orchestrator: OrchestratorSection = OrchestratorSection()
    validator: ValidatorSection = ValidatorSection()
    retention: RetentionSection = RetentionSection()

    def model_post_init(self, context: Any) -> None:
        """Make paths absolute, and name each role once."""
        for name in ("data_dir", "model_store", "network_file", "log_file"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, expand(value))
        object.__setattr__(self, "roles", tuple(dict.fromkeys(self.roles)))


def load_config(
    flags: Mapping[str, Any],
    *,
    config_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> NodeConfig:
    """Merge flags (nested, without the ones not given), environment, file and defaults.

    `config_file` None means `config.toml` in the data folder, if there is one. Raises `InputError`
    naming the source and the setting.
    """
    variables = os.environ if environment is None else environment
    from_environment = _read_environment(variables)
    if config_file is None:
        top = {**from_environment, **flags}
        data_dir = Path(top.get("data_dir", NodeConfig.model_fields["data_dir"].default))
        candidate = expand(data_dir) / "config.toml"
        config_file = candidate if candidate.is_file() else None
    from_file: Source = {}
    if config_file is not None:
        from_file = read_toml(config_file)
        check_keys(NodeConfig, from_file, str(config_file))
    try:
        return NodeConfig.model_validate(_merge(from_file, from_environment, flags))
    except ValidationError as exc:
        first = exc.errors()[0]
        path = _setting_path(tuple(first["loc"]))
        where = _name_source(path, flags, from_environment, config_file)
        raise InputError(
            f"{where}: {_reason(first)}",
            f"{len(exc.errors())} bad setting(s)" if len(exc.errors()) > 1 else "",
        ) from exc


def check_keys(model: type[BaseModel], data: Mapping[str, Any], where: str) -> None:
    """Refuse keys that `model` does not know, naming the nearest one. Raises `InputError`."""
    _check_keys(model, data, where, "")


def _check_keys(model: type[BaseModel], data: Mapping[str, Any], where: str, prefix: str) -> None:
    for key, value in data.items():
        field = model.model_fields.get(key)
        if field is None:
            near = difflib.get_close_matches(key, model.model_fields, n=1)
            hint = (
                f"did you mean {prefix}{near[0]}?"
                if near
                else ("known here: " + ", ".join(model.model_fields))
            )
            raise InputError(f"{where}: unknown key {prefix}{key}", hint)
        section, named = _section_of(field.annotation), _named_sections_of(field.annotation)
        if section is None and named is None:
            continue
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: {prefix}{key} is a section", f"write [{prefix}{key}]")
        if section is not None:
            _check_keys(section, value, where, f"{prefix}{key}.")
        elif named is not None:
            for name, inner in value.items():
                place = f"{prefix}{key}.{name}"
                if not isinstance(inner, Mapping):
                    raise InputError(f"{where}: {place} is a section", f"write [{place}]")
                _check_keys(named, inner, where, f"{place}.")


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The model of a section's annotation, `Section` or `Section | None`; None for a value."""
    union = get_origin(annotation) in (Union, UnionType)
    for part in (annotation, *(get_args(annotation) if union else ())):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _named_sections_of(annotation: Any) -> type[BaseModel] | None:
    """The model of sections that the file's author names, `dict[str, Section]`; else None."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return _section_of(get_args(annotation)[1]) if get_origin(annotation) is dict else None


def setting_paths(model: type[BaseModel] = NodeConfig) -> Iterator[tuple[str, ...]]:
    """Every setting as a path: `("http_port",)`, `("worker", "vram")`, …"""
    for name, field in model.model_fields.items():
        section = _section_of(field.annotation)
        if section is None:
            yield (name,)
        else:
            yield from ((name, *rest) for rest in setting_paths(section))


def _variable(path: tuple[str, ...]) -> str:
    return ENVIRONMENT_PREFIX + "__".join(path).upper()


def _read_environment(variables: Mapping[str, str]) -> Source:
    settings: Source = {}
    known = {_variable(path): path for path in setting_paths()}
    for name, value in variables.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name in OTHER_VARIABLES:
            continue
        path = known.get(name)
        if path is None:
            near = difflib.get_close_matches(name, known, n=1)
            raise InputError(
                f"environment: {name} is not a setting",
                f"did you mean {near[0]}?" if near else "unset it",
            )
        target = settings
        for section in path[:-1]:
            target = target.setdefault(section, {})
        target[path[-1]] = value
    return settings


def _merge(*sources: Mapping[str, Any]) -> Source:
    """Deep merge; later sources win."""
    merged: Source = {}
    for source in sources:
        for key, value in source.items():
            old = merged.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _setting_path(location: tuple[int | str, ...]) -> tuple[str, ...]:
    known = set(setting_paths())
    names = tuple(str(part) for part in location)
    return next((names[:n] for n in range(len(names), 0, -1) if names[:n] in known), names[:1])


def _name_source(
    path: tuple[str, ...], flags: Mapping[str, Any], environment: Source, file: Path | None
) -> str:
    def held_by(source: Mapping[str, Any]) -> bool:
        value: Any = source
        for name in path:
            if not isinstance(value, Mapping) or name not in value:
                return False
            value = value[name]
        return True

    setting = ".".join(path)
    if held_by(flags):
        return FLAG_NAMES.get(path, "--" + path[-1].replace("_", "-"))
    if held_by(environment):
        return f"environment: {_variable(path)}"
    return f"{file}: {setting}"


def _reason(error: Any) -> str:
    """Pydantic's message without its prefix, with the value it saw (never a whole table)."""
    message = (
        str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "should be")
    )
    shown = repr(error["input"])
    return f"{message}, not {shown if len(shown) <= 60 else shown[:57] + '...'}"
