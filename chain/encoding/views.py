"""What the contracts say about pools, nodes and stakes, as typed values.

Pure: each `from_abi` takes the named tuple that web3 made of a call's result and checks nothing
more, since the ABI has already fixed the types. Amounts are in token units of 1e-18, times in Unix
seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from proofs.encoding.signing import ZERO_ADDRESS


class PoolState(IntEnum):
    """The life of a pool; NONE is an id that was never created."""

    NONE = 0
    PENDING = 1
    ACTIVE = 2
    COMPLETED = 3


class Strategy(IntEnum):
    """How a pool rewards; see `IRewardsDistributor`.

    WORK pays `rate` for a unit of validated work, FIXED pays `rate` for a compute unit and second
    of membership, SHARE divides the budget by compute units times seconds once the pool has ended.
    """

    WORK = 0
    FIXED = 1
    SHARE = 2


@dataclass(frozen=True)
class Pool:
    """A compute pool.

    `inviter` None admits every staked node; `settlement` is the contract that settles its work,
    None where its domain names none; times are 0 for what has not happened.
    """

    pool_id: int
    creator: str
    state: PoolState
    inviter: str | None
    created_at: int
    started_at: int
    ended_at: int
    member_count: int
    compute_units: int
    domain_id: int
    settlement: str | None
    name: str
    uri: str

    @staticmethod
    def from_abi(pool_id: int, value: Any) -> Pool:
        """From `ComputePool.poolInfo`."""
        return Pool(
            pool_id=pool_id,
            creator=value.creator,
            state=PoolState(value.state),
            inviter=address_or_none(value.inviter),
            created_at=value.createdAt,
            started_at=value.startedAt,
            ended_at=value.endedAt,
            member_count=value.memberCount,
            compute_units=value.computeUnits,
            domain_id=value.domainId,
            settlement=address_or_none(value.settlement),
            name=value.name,
            uri=value.uri,
        )


@dataclass(frozen=True)
class PoolFunds:
    """A pool's books, totals since its beginning.

    `funded` is less what the creator took back. `committed` is what roots have promised, 0 unless
    it pays for work. `rate` is wei as `Strategy` says. `settlement` is who may order payments, None
    unless it pays for work.
    """

    strategy: Strategy
    settlement: str | None
    rate: int
    funded: int
    paid: int
    committed: int

    @staticmethod
    def from_abi(value: Any, committed: int) -> PoolFunds:
        """From `RewardsDistributor.bookOf`, and the settlement's `committed`."""
        return PoolFunds(
            strategy=Strategy(value.strategy),
            settlement=address_or_none(value.settlement),
            rate=value.rate,
            funded=value.funded,
            paid=value.paid,
            committed=committed,
        )

    @property
    def available(self) -> int:
        """What no root has promised and nobody has been paid yet: what the next epoch may pay."""
        return self.funded - max(self.committed, self.paid)


@dataclass(frozen=True)
class NodeRecord:
    """A registered node; `pool_id` is None while it is in no pool."""

    address: str
    provider: str
    compute_units: int
    validated: bool
    pool_id: int | None

    @staticmethod
    def from_abi(address: str, value: Any) -> NodeRecord | None:
        """From `ComputeRegistry.nodeOf`; None when the node is not registered."""
        if value.provider == ZERO_ADDRESS:
            return None
        return NodeRecord(
            address=address,
            provider=value.provider,
            compute_units=value.computeUnits,
            validated=value.validated,
            pool_id=value.poolId if value.active else None,
        )


@dataclass(frozen=True)
class StakeStatus:
    """A provider's tokens in StakeManager.

    `active` backs its nodes, which need `required`; `unbonding` was asked back and can be withdrawn
    from `release_time` on; `slashable` is how much of both could be slashed now.
    """

    active: int
    unbonding: int
    release_time: int
    required: int
    slashable: int


def address_or_none(address: str) -> str | None:
    """An address, or None for the zero address, which contracts return for "nobody"."""
    return None if address == ZERO_ADDRESS else address
