"""Putting a validator together. Whether there is a chain is asked here and nowhere else.

With a chain, only pool owners may send bundles, blocks choose what is replayed, pools name their
limits, and accepted work is settled. Without a chain, a small class takes the place of each of
these parts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from node.config.hardware import detect_device
from node.context import NodeContext
from node.onchain.blocks import Blocks
from node.onchain.validators import StakedPeers
from node.roles.validator.intake.authority import AnySender, Authority, PoolOwners
from node.roles.validator.judging.engine import ReplayEngine
from node.roles.validator.judging.judge import Judge
from node.roles.validator.judging.limits import (
    LimitsByPool,
    NoPoolThresholds,
    PoolThresholds,
    ThresholdsOnChain,
)
from node.roles.validator.judging.models import Models
from node.roles.validator.judging.other_validators import (
    AnnouncedValidators,
    OtherValidators,
    StakedValidators,
)
from node.roles.validator.judging.plan import ChainlessPreparer, ChainPreparer, Preparer
from node.roles.validator.judging.reputation import WorkerRecords
from node.roles.validator.judging.rows import RowsFetcher
from node.roles.validator.judging.spotcheck import SequenceChooser
from node.roles.validator.keeping.limits import limits_of
from node.roles.validator.service import Validator
from node.roles.validator.settlement.accepted import AcceptedUnits
from node.roles.validator.settlement.auditor import Auditor
from node.roles.validator.settlement.chain_reads import ChainFacts
from node.roles.validator.settlement.convictions import Convictions
from node.roles.validator.settlement.cosigner import Cosigner
from node.roles.validator.settlement.disputes import RootGuard
from node.roles.validator.settlement.proposer import Proposer
from node.roles.validator.settlement.settling import SettlementParts, ValidatorSettlement
from node.roles.validator.settlement.unpaid import NoConvictions, UnpaidSettlement
from node.roles.validator.timing import SettlementTiming, ValidatorTiming
from node.roles.validator.verdicts import Prosecution, Settlement, Verdicts
from node.settlement.follower import SettlementFollower
from node.settlement.paid import PaidWork
from pipeline.engine.control.client import EngineClient, open_engine
from pipeline.models.prepared import PreparedModel
from pipeline.models.store import open_model

if TYPE_CHECKING:
    from chain.client import ChainClient

OpenModel = Callable[[Path, str], PreparedModel]
"""Opens the model of an identity (hex) in a store. Raises `ModelError`."""


@dataclass(frozen=True)
class _ChainParts:
    """The parts that differ with and without a chain."""

    authority: Authority
    preparer: Preparer
    thresholds: PoolThresholds
    others: OtherValidators
    settlement: Settlement
    prosecution: Prosecution


def open_validator(
    context: NodeContext,
    chain: ChainClient | None,
    engine: EngineClient,
    follower: SettlementFollower,
    timing: ValidatorTiming | None = None,
    open_model: OpenModel = open_model,
) -> Validator:
    """A validator that has not begun yet. `chain` None: work is verified and nobody is paid."""
    timing = timing or ValidatorTiming()
    config, log = context.config, context.log
    records = WorkerRecords(context.journal, context.metrics, log)
    if chain is None:
        parts = _without_chain(context)
    else:
        parts = _with_chain(context, chain, follower, records, timing)
    models = Models(partial(_find_model, open_model, config.model_store), context.now)
    judge = Judge(
        ReplayEngine(
            engine, detect_device(config.validator.device, 0), log, timing.judging.replays
        ),
        models,
        LimitsByPool(
            parts.thresholds, follower.blobs, config.validator.thresholds, config.data_dir, log
        ),
        RowsFetcher(context, parts.others, timing.judging.rows),
        context.receipt_domain,
        log,
    )
    return Validator(
        context,
        engine,
        authority=parts.authority,
        find_model=models.find,
        preparer=parts.preparer,
        records=records,
        verdicts=Verdicts(
            context,
            judge,
            records,
            parts.settlement,
            parts.prosecution,
            timing.keep.attempts,
        ),
        settlement=parts.settlement,
        prosecution=parts.prosecution,
        blobs=follower.blobs,
        limits=timing.queue,
        offers=timing.offers,
        keep=limits_of(timing.keep, config.retention),
        delivery=timing.delivery,
    )


def _with_chain(
    context: NodeContext,
    chain: ChainClient,
    follower: SettlementFollower,
    records: WorkerRecords,
    timing: ValidatorTiming,
) -> _ChainParts:
    blocks = Blocks(context, chain, follower.confirmations)
    staked = StakedPeers(chain, context.now)
    rate = context.config.validator.check_rate
    chooser = SequenceChooser(chain, blocks, records, rate, context.log)
    return _ChainParts(
        PoolOwners(chain, context.now),
        ChainPreparer(blocks, chooser, timing.judging.noise),
        ThresholdsOnChain(chain),
        StakedValidators(context, chain),
        open_settlement(context, chain, follower, timing.settlement, staked),
        Convictions(context, chain, staked, timing.convictions),
    )


def _without_chain(context: NodeContext) -> _ChainParts:
    return _ChainParts(
        AnySender(),
        ChainlessPreparer(),
        NoPoolThresholds(),
        AnnouncedValidators(context),
        UnpaidSettlement(AcceptedUnits(context.journal, context.log, context.wall)),
        NoConvictions(),
    )


def open_settlement(
    context: NodeContext,
    chain: ChainClient,
    follower: SettlementFollower,
    timing: SettlementTiming | None = None,
    staked: StakedPeers | None = None,
) -> ValidatorSettlement:
    """A validator's settlement by itself, for whoever brings its own verdicts."""
    timing = timing or SettlementTiming()
    paid = PaidWork(context.journal)
    facts = ChainFacts(chain, paid)
    auditor = Auditor(context, chain, follower, facts, timing.audits)
    parts = SettlementParts(
        Proposer(context, chain, follower, facts, timing.rules, timing.proposals),
        Cosigner(context, staked or StakedPeers(chain, context.now), follower, facts),
        RootGuard(context, follower, auditor),
    )
    return ValidatorSettlement(context, follower, paid, parts, timing.recheck)


def open_validator_engine(context: NodeContext) -> AbstractAsyncContextManager[EngineClient]:
    """The validator's engine process, with the thread count that the operator chose."""
    threads = context.config.validator.threads
    environment = {"PRIME_ENGINE_THREADS": str(threads)} if threads else {}
    return open_engine(context.engine_dir, "validator", environment=environment)


def _find_model(open_model: OpenModel, store: Path, model_id: bytes) -> PreparedModel:
    return open_model(store, model_id.hex())
