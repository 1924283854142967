"""The node's own life, as a machine, and the two Ctrl-Cs that end it.

```
STARTING → REGISTERED → SERVING → DRAINING → STOPPED
```
REGISTERED: on the network and, where there is a chain, staked and registered. A node that is
interrupted goes straight to DRAINING from wherever it is.
"""

from __future__ import annotations

from enum import StrEnum


class NodeState(StrEnum):
    """The states of the table at this module's head."""

    STARTING = "starting"
    REGISTERED = "registered"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"


TRANSITIONS: dict[NodeState, frozenset[NodeState]] = {
    NodeState.STARTING: frozenset({NodeState.REGISTERED, NodeState.DRAINING}),
    NodeState.REGISTERED: frozenset({NodeState.SERVING, NodeState.DRAINING}),
    NodeState.SERVING: frozenset({NodeState.DRAINING}),
    NodeState.DRAINING: frozenset({NodeState.STOPPED}),
    NodeState.STOPPED: frozenset(),
}


class IllegalState(RuntimeError):
    """A step that the table does not have; the state is unchanged."""


class Lifecycle:
    """Holds the state; `to` moves it."""

    def __init__(self) -> None:
        self.state = NodeState.STARTING

    def to(self, state: NodeState) -> None:
        """Go to `state`. Raises `IllegalState` where the table has no such step."""
        if state not in TRANSITIONS[self.state]:
            raise IllegalState(f"node: {self.state} → {state}")
        self.state = state
