"""The operator's rules, out of the settings."""

from __future__ import annotations

from collections.abc import Collection

from node.config.schema import PolicySection
from node.roles.worker.policy.rules import Rules


def rules_of(section: PolicySection, store: Collection[tuple[str, bytes]] = ()) -> Rules:
    """The rules of a `[policy]`. `store` has names and ids of prepared models; a name that is not
    there allows nothing, as that model cannot be served either."""
    models = None
    if section.models != "any":
        named = {model for name, model in store if name in section.models}
        models = frozenset(named | {found for text in section.models if (found := _id(text))})
    return Rules(
        pools=None if section.pools == "any" else frozenset(section.pools),
        refused_pools=frozenset(section.refused_pools),
        models=models,
        min_price=section.min_price,
        disk=section.disk,
        hours=section.hours,
    )


def _id(text: str) -> bytes | None:
    """An id of 64 hex digits; None for anything else."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        return None
    return found if len(found) == 32 else None
