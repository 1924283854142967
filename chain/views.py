"""What the contracts answer, as typed values.

Pure: each `from_abi` takes the named tuple that web3 made of a call's result and checks nothing
more, since the ABI has already fixed the types.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from chain.hexdata import ZERO_ADDRESS


class PoolState(IntEnum):
    """The life of a pool; NONE is an id that was never created."""

    NONE = 0
    PENDING = 1
    ACTIVE = 2
    COMPLETED = 3


@dataclass(frozen=True)
class Pool:
    """A compute pool. `inviter` None admits every staked node; times are Unix s, 0 not yet."""

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
    name: str
    uri: str

    @staticmethod
    def from_abi(pool_id: int, value: Any) -> Pool:
        """From `ComputePool.poolInfo`."""
        return Pool(
            pool_id=pool_id,
            creator=value.creator,
            state=PoolState(value.state),
            inviter=None if value.inviter == ZERO_ADDRESS else value.inviter,
            created_at=value.createdAt,
            started_at=value.startedAt,
            ended_at=value.endedAt,
            member_count=value.memberCount,
            compute_units=value.computeUnits,
            domain_id=value.domainId,
            name=value.name,
            uri=value.uri,
        )


@dataclass(frozen=True)
class PoolFunds:
    """A pool's books in token units (1e-18), totals since its beginning."""

    funded: int
    committed: int
    paid: int

    @staticmethod
    def from_abi(value: Any) -> PoolFunds:
        """From `RewardsDistributor.accountOf`."""
        return PoolFunds(value.funded, value.committed, value.paid)


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
class SettledRoot:
    """A posted epoch root; claims verify against it from `claimable_at` (Unix seconds) on."""

    epoch: int
    claimable_at: int
    total_payout: int
    receipts_root: bytes
    payouts_root: bytes

    @staticmethod
    def from_abi(value: Any) -> SettledRoot | None:
        """From `ReceiptSettlement.latestRoot` or `pendingRoot`; None when there is none."""
        if value.epoch == 0:
            return None
        return SettledRoot(
            value.epoch,
            value.claimableAt,
            value.totalPayout,
            value.receiptsRoot,
            value.payoutsRoot,
        )
