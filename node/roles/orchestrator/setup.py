"""Opening an orchestrator: its model, its pool on chain, its planner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import trio

from node.cases.profiles import load_profile
from node.config.networkfile import ChainTable
from node.context import NodeContext
from node.errors import InputError
from node.onchain.registration import ensure_funds
from node.roles.orchestrator.coordinator.coordinator import Coordinator
from node.roles.orchestrator.coordinator.pool import Policy
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.service import Orchestrator
from node.roles.orchestrator.workers.builder import Builder, GroupTerms
from node.roles.orchestrator.workers.invites import Inviter
from node.roles.pool_terms import PoolTerms
from node.settlement.follower import SettlementFollower
from node.wire.blobs import BlobStore
from pipeline.models.prepared import PreparedModel
from pipeline.models.store import open_model
from pipeline.models.tokenizer import ChatTokenizer
from pipeline.planner import (
    MAX_STAGES,
    Candidate,
    GroupPlan,
    LinkTable,
    ModelNeeds,
    plan_groups,
    replan,
)
from proofs.thresholds.limits import PROFILES

POOL_BUDGET = 1_000 * 10**18
"""What a new pool is funded with on a development chain, in the token's smallest unit."""
MAX_BATCH_TOKENS = 1024


async def open_orchestrator(
    context: NodeContext, table: ChainTable | None, follower: SettlementFollower
) -> tuple[Orchestrator, int]:
    """The role, and the id of its pool (0 without a chain). Raises `NodeError`, `ModelError`."""
    section = context.config.orchestrator
    model = await trio.to_thread.run_sync(open_model, context.config.model_store, section.model)
    tokenizer = await trio.to_thread.run_sync(ChatTokenizer, model.path)
    context_length = min(model.manifest.max_positions, section.tokens_per_sequence)
    kv_tokens = section.sequences_in_flight * section.tokens_per_sequence
    pool_id = 0
    if context.chain is not None and table is not None:
        pool_id = await _open_pool(context, table, model, follower)
    terms = GroupTerms(
        pool_id=pool_id,
        model_id=model.model_id,
        model_name=section.model,
        kv_tokens=kv_tokens,
        max_batch_tokens=MAX_BATCH_TOKENS,
    )
    stages = 0 if section.stages == "auto" else section.stages
    planner = GroupPlanner(
        ModelNeeds.of(model.layer_table(), kv_tokens), stages, section.micro_batches
    )
    policy = Policy(
        stages=stages,
        formation_wait=section.formation_wait,
        sequences_in_flight=section.sequences_in_flight,
    )
    orchestrator = Orchestrator(
        context,
        Coordinator(policy, planner, identity=context.peer_id.encode()),
        JobCutter(
            tokenizer=tokenizer,
            model_id=model.model_id,
            model_name=section.model,
            context_length=context_length,
            unit_size=section.unit_size,
            vocab_size=model.manifest.vocab_size,
        ),
        Builder(context, terms),
        Inviter(context, pool_id, model.model_id, section.model),
        follower,
    )
    return orchestrator, pool_id


class GroupPlanner:
    """Plans one group at a time.

    A first plan has exactly `stages` stages where that many workers are there (0: as many as make
    the slowest stage fastest); a repair takes what is left. `micro_batches` 0 is the plan's own.
    """

    def __init__(self, needs: ModelNeeds, stages: int, micro_batches: int) -> None:
        self._needs = needs
        self._stages = stages
        self._micro_batches = micro_batches

    def __call__(self, candidates: Sequence[Candidate], previous: GroupPlan | None) -> GroupPlan:
        """Raises `CannotPlan`."""
        most = self._stages or MAX_STAGES
        if previous is None:
            least = min(most, len(candidates)) if self._stages else 1
            planned = plan_groups(
                candidates, LinkTable(), self._needs, min_stages=max(least, 1), max_stages=most
            ).groups[0]
        else:
            planned = replan(
                previous, frozenset(), candidates, LinkTable(), self._needs, max_stages=most
            )
        if self._micro_batches:
            return replace(planned, micro_batches=self._micro_batches)
        return planned


async def _open_pool(
    context: NodeContext, table: ChainTable, model: PreparedModel, follower: SettlementFollower
) -> int:
    """This orchestrator's pool: the configured one, the one of an earlier start, or a new one."""
    chain = context.chain
    assert chain is not None
    known = context.config.orchestrator.pool_id or await context.journal.state("pool_id", 0)
    if known:
        pool = await chain.pool(known)
        if pool.creator != context.address:
            raise InputError(f"pool {known} belongs to {pool.creator}", "set orchestrator.pool_id")
        return int(known)
    await ensure_funds(chain, table, context.address, POOL_BUDGET)
    terms = PoolTerms(
        model_id=model.model_id.hex(),
        model=context.config.orchestrator.model,
        thresholds=await _publish_limits(context, follower.blobs),
    )
    pool_id = await chain.create_pool(
        f"{model.name} by {context.peer_id[-8:]}",
        uri=terms.to_uri(),
        inviter=context.address,
        rate=context.config.orchestrator.price_per_unit,
    )
    await chain.fund_pool(pool_id, POOL_BUDGET)
    await chain.start_pool(pool_id)
    await context.journal.set_state("pool_id", pool_id)
    context.log.info("pool opened", pool=pool_id, budget=POOL_BUDGET, model=terms.model)
    return pool_id


async def _publish_limits(context: NodeContext, blobs: BlobStore) -> str:
    """What the terms say of thresholds. A profile is kept to be fetched by its id. Raises
    `InputError` where there is none of that name."""
    named = context.config.orchestrator.thresholds
    if named in PROFILES or not named:
        return named
    profile = await trio.to_thread.run_sync(load_profile, named, context.config.data_dir)
    return (await blobs.put(profile.to_bytes())).hex()
