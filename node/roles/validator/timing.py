"""How long a validator waits, and for what, and how much it takes on at once.

The defaults are what nodes run with; each part is explained where it is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from node.retry import Backoff
from node.roles.validator.bundle_state import QueueLimits
from node.roles.validator.intake.offers import OfferLimits
from node.roles.validator.judging.engine import ReplayTiming
from node.roles.validator.judging.plan import NOISE_TRIES
from node.roles.validator.judging.rows import RowsTiming
from node.roles.validator.keeping.retention import KeepLimits
from node.roles.validator.service import DELIVERY_TRIES
from node.roles.validator.settlement.auditor import AuditTiming
from node.roles.validator.settlement.convictions import ConvictionTiming
from node.roles.validator.settlement.pending import EpochRules
from node.roles.validator.settlement.proposer import ProposalTiming
from node.roles.validator.settlement.settling import RECHECK_SECONDS


@dataclass(frozen=True)
class JudgingTiming:
    """Times for `replays` on the engine, for blocks that the `noise` of a bundle names, and for
    the `rows` of accused stages."""

    replays: ReplayTiming = field(default_factory=ReplayTiming)
    noise: Backoff = NOISE_TRIES
    rows: RowsTiming = field(default_factory=RowsTiming)


@dataclass(frozen=True)
class SettlementTiming:
    """`rules` say when an epoch is closed, `proposals` how long that may take, and `audits` how
    patiently posted roots are audited. Pools are looked at again every `recheck` seconds."""

    rules: EpochRules = field(default_factory=EpochRules)
    proposals: ProposalTiming = field(default_factory=ProposalTiming)
    audits: AuditTiming = field(default_factory=AuditTiming)
    recheck: float = RECHECK_SECONDS


@dataclass(frozen=True)
class ValidatorTiming:
    """All times and limits of a validator. `queue` bounds what is taken, `offers` what may be
    uploaded, `keep` what stays on disk, `delivery` the tries to deliver a verdict."""

    queue: QueueLimits = field(default_factory=QueueLimits)
    offers: OfferLimits = field(default_factory=OfferLimits)
    keep: KeepLimits = field(default_factory=KeepLimits)
    delivery: Backoff = DELIVERY_TRIES
    judging: JudgingTiming = field(default_factory=JudgingTiming)
    settlement: SettlementTiming = field(default_factory=SettlementTiming)
    convictions: ConvictionTiming = field(default_factory=ConvictionTiming)
