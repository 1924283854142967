"""All that grows on a node's disk, and who keeps it within `[retention]`.

A data folder tells itself what is in it: the keepers of all roles look at it, whatever the node is
configured for now, and find nothing where a role never ran. A running node gives them what it knows
better (`Roles`); without one they go by the journal alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from node.config.datadir import DataDir
from node.config.schema import NodeConfig
from node.journal import AsyncJournal
from node.roles.orchestrator.bundling.keeping import SentBundles
from node.roles.orchestrator.journal_events import UnitRejected
from node.roles.orchestrator.ledger.keeping import JobKeeper
from node.roles.validator.journal_events import BundleTaken, EpochCosigned
from node.roles.validator.keeping.limits import limits_of
from node.roles.validator.keeping.retention import KeepLimits
from node.roles.validator.keeping.store import BundleStore, bundles_folder
from node.roles.worker.journal_events import EvidenceSaid, ReceiptSigned
from node.settlement.keeping import EpochKeeper
from node.storage.files import FileKeeper
from node.storage.names import ROWS, rows_folder
from node.storage.pruning import Compactor, Keeper
from node.storage.records import RecordKeeper
from node.storage.retention import FileLimits, JobLimits
from pipeline.engine.evidence.held import HeldRows

if TYPE_CHECKING:
    from node.roles.assembly import Roles

RECORDS = (ReceiptSigned, EvidenceSaid, EpochCosigned, UnitRejected)
"""Events that document what this node signed, or what of its work was refused. Nothing reads them
again once the unit or epoch is over."""


async def open_keepers(
    config: NodeConfig,
    journal: AsyncJournal,
    roles: Roles | None = None,
    now: Callable[[], float] = time.time,
) -> list[Keeper]:
    """The keepers of a data folder. `roles` are those of the node that runs on it, `now` gives Unix
    seconds."""
    data, retention = DataDir(config.data_dir), config.retention
    orchestrator = None if roles is None else roles.orchestrator
    validator = None if roles is None else roles.validator
    keeps_leaves = validator is not None or bundles_folder(data.blobs).is_dir()
    keepers: list[Keeper] = [
        JobKeeper(
            journal,
            JobLimits(retention.jobs, retention.exported_jobs),
            now,
            *([] if orchestrator is None else [orchestrator.ledger.forget]),
        ),
        SentBundles(data.blobs, journal, FileLimits(retention.bundles, retention.jobs), now),
        FileKeeper(
            "rows that were received",
            rows_folder(config.data_dir),
            ROWS,
            FileLimits(retention.rows),
            now,
            HeldRows(rows_folder(config.data_dir), retention.unjudged, now).sizes,
        ),
        EpochKeeper(
            data.blobs,
            journal,
            FileLimits(retention.epochs, 0.0 if keeps_leaves else retention.epochs_age),
            now,
            None if roles is None else lambda: list(roles.follower.histories.values()),
        ),
        RecordKeeper(journal, RECORDS, retention.records, now),
    ]
    if validator is not None:
        keepers.insert(2, validator.bundles)
    elif keeps_leaves:
        owed = {taken.bundle_id for taken in await journal.replay(BundleTaken)}
        keepers.insert(2, _judged(config, journal, owed, now))
    return [*keepers, Compactor(journal)]


def _judged(
    config: NodeConfig,
    journal: AsyncJournal,
    owed: Collection[bytes],
    now: Callable[[], float],
) -> BundleStore:
    limits = limits_of(KeepLimits(), config.retention)
    return BundleStore(DataDir(config.data_dir).blobs, journal, limits, lambda: owed, now)
