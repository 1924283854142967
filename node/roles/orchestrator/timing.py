"""How often an orchestrator looks, and how long it waits before it tries again."""

from __future__ import annotations

from dataclasses import dataclass

from node.retry import Backoff

CLAIM = Backoff.every(0.5, most=3)
BUNDLE = Backoff.every(2.0, most=5)
BEACON = Backoff.every(2.0)


@dataclass(frozen=True)
class OrchestratorTiming:
    """All in seconds.

    Every `tick` the coordinator learns that time has passed; every `ping` each worker is pinged,
    and a suspect has `probe` to answer, eight round trips where it must be connected anew; who was
    told goodbye waits `hearsay` for the word of whoever knows why. Every `validators` seconds it
    checks again who may judge, as roles and stakes change without a record. `rate` is the time over
    which the tokens a second are counted. `claim` is for a stage that gives no evidence, `bundle`
    for a validator that takes no bundle, `beacon` for a chain that gives no block.
    """

    tick: float = 0.5
    rate: float = 10.0
    ping: float = 2.0
    probe: float = 6.0
    hearsay: float = 2.0
    validators: float = 15.0
    claim: Backoff = CLAIM
    bundle: Backoff = BUNDLE
    beacon: Backoff = BEACON
