"""From the operator's settings to a validator's limits."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from node.config.schema import RetentionSection
from node.roles.validator.keeping.retention import KeepLimits


def limits_of(limits: KeepLimits, retention: RetentionSection) -> KeepLimits:
    """`limits` with what the operator sets; an age of 0 means never."""
    return replace(
        limits,
        bundle_bytes=retention.bundles,
        rows_bytes=retention.rows,
        accepted=retention.accepted or inf,
        rejected=retention.rejected or inf,
    )
