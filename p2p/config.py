"""A node's network settings, and the names it uses on the wire."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from libp2p.custom_types import TProtocol

from p2p.admission.budgets import BudgetLimits
from p2p.errors import ConfigError
from p2p.guards.dialling import DEFAULT_DIALLING, DialTiming
from p2p.guards.swarm import ConnectionLimits

_NETWORK_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_PROTOCOL = re.compile(r"/prime/[a-z0-9][a-z0-9/_-]{0,63}/[0-9]+")


@dataclass(frozen=True)
class NetworkConfig:
    """How a node takes part in a network.

    `listen` are TCP multiaddrs (port 0 picks one), `bootstrap` end in ``/p2p/<peer id>``,
    `external` are announced instead of the listening addresses (behind a NAT or in a container),
    `data_dir` keeps known peer addresses over restarts, `dialling` says how long the addresses of a
    peer are tried, `connections` how many others may open, `budgets` what peers may make this node
    hold and do. The clocks give unix and monotonic seconds.

    Raises:
        ConfigError: the network's name does not fit the wire.
    """

    listen: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/0",)
    bootstrap: tuple[str, ...] = ()
    network: str = "prime"
    external: tuple[str, ...] = ()
    data_dir: Path | None = None
    dialling: DialTiming = DEFAULT_DIALLING
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    budgets: BudgetLimits = field(default_factory=BudgetLimits)
    wall_clock: Callable[[], float] = field(default=time.time, compare=False)
    clock: Callable[[], float] = field(default=time.monotonic, compare=False)

    def __post_init__(self) -> None:
        if not _NETWORK_NAME.fullmatch(self.network):
            raise ConfigError(
                f"network name {self.network!r}: up to 32 lower-case letters, digits and dashes"
            )


def wire_protocol(protocol: str, network: str) -> TProtocol:
    """``/prime/<name>/<version>`` under the name of the network.

    Raises:
        ConfigError: the protocol is not of that form.
    """
    if not _PROTOCOL.fullmatch(protocol):
        raise ConfigError(f"protocol {protocol!r} is not of the form /prime/<name>/<version>")
    return TProtocol(f"/{network}/" + protocol.removeprefix("/prime/"))
