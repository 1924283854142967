"""This orchestrator's pool on chain: found again, or opened with its terms, funded and started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from node.config.networkfile import ChainTable
from node.config.profiles import load_profile
from node.context import NodeContext
from node.errors import InputError
from node.onchain.registration import ensure_funds
from node.roles.pool_terms import PoolTerms
from node.wire.blobs import BlobStore
from pipeline.models.prepared import PreparedModel
from proofs.thresholds.builtin import BUILTIN, unfit_reason
from proofs.thresholds.named import is_builtin

if TYPE_CHECKING:
    from chain.client import ChainClient

POOL_BUDGET = 1_000 * 10**18
"""What a new pool is funded with on a development chain, in the token's smallest unit."""
POOL_ID = "pool_id"
"""The journal's state that names the pool."""


async def open_pool(
    context: NodeContext,
    chain: ChainClient,
    table: ChainTable,
    model: PreparedModel,
    blobs: BlobStore,
) -> int:
    """The id of this orchestrator's pool: the configured one, the one of an earlier start, or a new
    one. Raises `InputError` for somebody else's, and `ChainError`."""
    known = context.config.orchestrator.pool_id or await context.journal.state(POOL_ID, 0)
    if known:
        pool = await chain.pools.info(known)
        if not int(pool.creator, 16):
            raise InputError(
                f"there is no pool {known} on this chain, which is not the one that "
                f"{context.config.data_dir} was used with",
                "give the node a new data folder; a development chain is a new one at every start",
            )
        if pool.creator != context.address:
            raise InputError(f"pool {known} belongs to {pool.creator}", "set orchestrator.pool_id")
        return int(known)
    await ensure_funds(chain, table, context.address, POOL_BUDGET)
    terms = PoolTerms(
        model_id=model.model_id.hex(),
        model=model.name,
        thresholds=await _publish_limits(context, blobs, model.manifest.dtype),
    )
    pool_id = await chain.pools.create(
        f"{model.name} by {context.peer_id[-8:]}",
        uri=terms.to_uri(),
        inviter=context.address,
        rate=context.config.orchestrator.price_per_unit,
    )
    await chain.pools.fund(pool_id, POOL_BUDGET)
    await chain.pools.start(pool_id)
    await context.journal.set_state(POOL_ID, pool_id)
    context.log.info("pool opened", pool=pool_id, budget=POOL_BUDGET, model=terms.model)
    return pool_id


async def _publish_limits(context: NodeContext, blobs: BlobStore, dtype: str) -> str:
    """What the terms say of thresholds. A profile is kept to be fetched by its id. Raises
    `InputError` where there is none of that name, or no validator would judge a model in `dtype` by
    it."""
    named = context.config.orchestrator.thresholds
    if named in BUILTIN and (reason := unfit_reason(named, dtype)):
        raise InputError(
            f"orchestrator.thresholds: {reason}",
            "make a profile with: prime-node calibrate, or name one of: prime-node profile list",
        )
    if is_builtin(named) or not named:
        return named
    profile = await trio.to_thread.run_sync(load_profile, named, context.config.data_dir)
    return (await blobs.put(profile.to_bytes())).hex()
