"""How long a worker waits, and for what."""

from __future__ import annotations

from dataclasses import dataclass, field

from node.retry import Backoff
from node.roles.worker.policy.engagement import Patience


@dataclass(frozen=True)
class WorkerTiming:
    """All in seconds.

    `patience`: for a pool's work, and for a word of its orchestrator, before another may have this
    worker. `pong`: for the engine's word before a ping is answered without it, `believed`: for how
    long what it said last is answered instead. `abandoned`: for a word of its orchestrator before
    this worker gives its stage up. `hours`: looks at the clock are at most so far apart, since
    people set clocks.
    `engine`, `load`, `bench`: for the engine's answer to an ordinary request, to loading a slice,
    to measuring. `edge`: for both neighbours to connect, longer than the engine takes for
    it. `probe`: for something to answer at a neighbour's data port, two lost packets included,
    `tunnel`: for a tunnel to it. `countersign`: for the
    orchestrator to tell of a unit that the neighbour asks about. `gather`: tokens are collected
    into one report, `report`: the pauses between tries to deliver it, `report_tries`: how often one
    may be refused before it is given up. A report that reaches nobody is tried for as long as this
    node holds its stage.
    """

    patience: Patience = field(default_factory=Patience)
    pong: float = 1.0
    believed: float = 10.0
    abandoned: float = 300.0
    hours: float = 900.0
    engine: float = 20.0
    load: float = 280.0
    bench: float = 120.0
    edge: float = 40.0
    probe: float = 5.0
    tunnel: float = 15.0
    countersign: float = 15.0
    gather: float = 0.05
    report: Backoff = Backoff(0.5, 15.0)
    report_tries: int = 60


@dataclass(frozen=True)
class RewardTiming:
    """Seconds between looks for something to claim, since a root becomes final by time alone and
    no event tells; and after a look that failed."""

    look: float = 1.0
    retry: float = 15.0
