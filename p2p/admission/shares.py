"""Who asks, and how much of something each standing may use: the vocabulary of the budgets.

A resource is used by a peer, by the subnet that it comes from, and by the whole node. A `Share`
bounds all three for peers of one standing: what one of them may use, what one subnet's may use
together (the staked are not counted by subnet: a rack full of workers is one subnet), and up to
which use of the node by everybody they are let in. So strangers together leave room for the proven,
and both for the staked.

What nobody can take away from a peer is `Limits.kept`: as long as it uses no more than that it is
let in, however crowded its subnet and the node are. At most `holders` peers have it at a time, so
that it is bounded, too; there are more places for holders than a node has connections.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from p2p.admission.sources import UNKNOWN
from p2p.admission.standing import Standing

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Asker:
    """A peer as the budgets see it: its id, the subnet that it is connected from, its standing."""

    peer_id: str
    source: str = UNKNOWN
    standing: Standing = Standing.STRANGER


@dataclass(frozen=True)
class Share:
    """What one peer, its whole subnet, and all peers up to this standing may use."""

    peer: float
    source: float
    node: float


@dataclass(frozen=True)
class Limits:
    """The shares of one resource; see the module's docstring.

    Raises:
        ValueError: a peer's share is below what it keeps, or a lower standing may use more of the
            node than a higher one.
    """

    strangers: Share
    proven: Share
    staked: Share
    kept: float
    holders: int = 1024

    def __post_init__(self) -> None:
        shares = (self.strangers, self.proven, self.staked)
        if any(share.peer < self.kept for share in shares):
            raise ValueError("a peer's share is at least what it keeps for itself")
        if not self.strangers.node <= self.proven.node <= self.staked.node:
            raise ValueError("whoever stands higher may use as much of the node, or more")

    def of(self, standing: Standing) -> Share:
        """The share of peers of this standing."""
        if standing is Standing.STRANGER:
            return self.strangers
        return self.proven if standing is Standing.PROVEN else self.staked

    @property
    def most(self) -> float:
        """What can be in use at once, whatever peers do."""
        return self.staked.node + self.kept * self.holders


def calls_of(concurrency: int) -> Limits:
    """Places for the calls of one protocol: a quarter of them for any one peer, half for all
    strangers, three quarters if the proven are counted in; one is kept for each peer."""
    one = max(1, concurrency // 4)
    some = max(1, concurrency // 2)
    return Limits(
        strangers=Share(one, max(1, 3 * concurrency // 8), some),
        proven=Share(one, some, max(some, 3 * concurrency // 4)),
        staked=Share(one, math.inf, max(some, concurrency)),
        kept=1,
    )


BYTES = Limits(
    strangers=Share(16 * MIB, 48 * MIB, 96 * MIB),
    proven=Share(32 * MIB, 64 * MIB, 144 * MIB),
    staked=Share(64 * MIB, math.inf, 192 * MIB),
    kept=64 * 1024,
)
"""Bytes that peers make this node hold: requests, answers and what nobody has read yet."""

STREAMS = Limits(
    strangers=Share(128, 512, 1024),
    proven=Share(128, 1024, 2048),
    staked=Share(512, math.inf, 4096),
    kept=8,
)
"""Streams that peers opened."""

CPU = Limits(
    strangers=Share(2.0, 6.0, 8.0),
    proven=Share(3.0, 8.0, 10.0),
    staked=Share(8.0, math.inf, 12.0),
    kept=0.01,
    holders=512,
)
"""CPU seconds, as far as they are not forgotten: with a half-life of 10 s a peer that uses a
steady tenth of a core stands at 1.44."""
CPU_HALF_LIFE = 10.0
