"""The parts of an orchestrator that ask the chain, and those that take their place without one.

Every other part is the same with and without a chain; only `setup.py` knows which it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from node.roles.orchestrator.bundling.commit_block import (
    ChainCommitBlock,
    CommitBlock,
    NoCommitBlock,
)
from node.roles.orchestrator.jobs.beacons import BeaconSource, BlockBeacons, RandomBeacons
from node.roles.orchestrator.workers.membership import (
    ChainMembership,
    Membership,
    OpenMembership,
)
from node.roles.orchestrator.workers.stakes import ChainStakes, EqualVotes, ValidatorStakes

if TYPE_CHECKING:
    from chain.client import ChainClient
    from node.onchain.blocks import Blocks
    from node.onchain.registry import ChainRegistry


@dataclass(frozen=True)
class ChainParts:
    """Who belongs to the pool, whose verdicts count, where noise comes from, how far the chain
    is."""

    membership: Membership
    stakes: ValidatorStakes
    beacons: BeaconSource
    commit_block: CommitBlock


def parts_on_chain(
    chain: ChainClient, registry: ChainRegistry, blocks: Blocks, pool_id: int, log: Any
) -> ChainParts:
    """For the pool `pool_id` of `chain`."""
    return ChainParts(
        ChainMembership(chain, registry, pool_id),
        ChainStakes(chain),
        BlockBeacons(blocks),
        ChainCommitBlock(chain, log),
    )


def parts_without_chain() -> ChainParts:
    """For a pool that verifies its work and is not paid."""
    return ChainParts(OpenMembership(), EqualVotes(), RandomBeacons(), NoCommitBlock())
