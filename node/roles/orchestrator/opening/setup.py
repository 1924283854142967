"""Opening an orchestrator: its model, its pool, its planner; and whether there is a chain.

This is the one place that asks for the chain. Where there is one the pool is opened on it and the
parts that ask it are built (`chain_parts.py`); where there is none, those that take their place.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from node.config.networkfile import ChainTable
from node.context import NodeContext
from node.onchain.blocks import Blocks
from node.roles.orchestrator.chain_parts import parts_on_chain, parts_without_chain
from node.roles.orchestrator.coordinator.coordinator import Coordinator
from node.roles.orchestrator.coordinator.pool import Policy
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.opening.planning import GroupPlanner
from node.roles.orchestrator.opening.pool import open_pool
from node.roles.orchestrator.service import Orchestrator
from node.roles.orchestrator.workers.builder import Builder, GroupTerms
from node.settlement.follower import SettlementFollower
from pipeline.models.store import open_model
from pipeline.models.tokenizer import ChatTokenizer
from pipeline.planner import ModelNeeds

if TYPE_CHECKING:
    from chain.client import ChainClient
    from node.onchain.registry import ChainRegistry

MAX_BATCH_TOKENS = 1024


async def open_orchestrator(
    context: NodeContext,
    chain: ChainClient | None,
    table: ChainTable | None,
    registry: ChainRegistry | None,
    follower: SettlementFollower,
) -> tuple[Orchestrator, int]:
    """The role, and the id of its pool (0 without a chain). Raises `NodeError`, `ModelError` and
    `ChainError`."""
    section = context.config.orchestrator
    model = await trio.to_thread.run_sync(open_model, context.config.model_store, section.model)
    tokenizer = await trio.to_thread.run_sync(ChatTokenizer, model)
    pool_id, parts = 0, parts_without_chain()
    if chain is not None and table is not None and registry is not None:
        pool_id = await open_pool(context, chain, table, model, follower.blobs)
        blocks = Blocks(context, chain, table.confirmations)
        parts = parts_on_chain(chain, registry, blocks, pool_id, context.log)
    kv_tokens = section.sequences_in_flight * section.tokens_per_sequence
    terms = GroupTerms(
        pool_id=pool_id,
        model_id=model.model_id,
        model_name=model.name,
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
        attempts=section.attempts,
        units_unjudged=section.units_unjudged,
    )
    cutter = JobCutter(
        tokenizer=tokenizer,
        model_id=model.model_id,
        model_name=model.name,
        context_length=min(model.manifest.max_positions, kv_tokens),
        unit_size=section.unit_size,
        vocab_size=model.manifest.vocab_size,
        model_context=model.manifest.max_positions,
        defaults=tokenizer.generation.sampling,
    )
    orchestrator = Orchestrator(
        context,
        Coordinator(
            policy,
            planner,
            identity=context.peer_id.encode(),
            draw=random.SystemRandom().random,
        ),
        cutter,
        Builder(context, terms),
        parts,
        follower,
    )
    return orchestrator, pool_id
