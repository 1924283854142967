"""Two-signed receipts of a few workers under a few providers, and epochs over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from proofs.encoding.leaves import SignedReceipt
from proofs.encoding.receipts import Receipt
from proofs.encoding.signing import address_of, checksum_address
from proofs.settlement.audit import AuditFacts, Work
from proofs.settlement.epoch import build_epoch
from proofs.settlement.epoch_data import Epoch
from tests.proofs.units import DOMAIN

KEYS = [bytes([n]) * 32 for n in range(1, 6)]
WORKERS = [address_of(key) for key in KEYS]
PROVIDERS = [checksum_address(bytes([n]) * 20) for n in (0xEE, 0x11, 0x77)]
OWNERS = {worker: PROVIDERS[n % 3] for n, worker in enumerate(WORKERS)}
CREATOR = checksum_address(b"\xcc" * 20)
PRICE = 7


def signed(job: int, stage: int = 0, units: int = 10, **changes: Any) -> SignedReceipt:
    """A receipt of worker `stage`, countersigned by the next one. `changes` are to the receipt."""
    fields = {
        "job_id": job.to_bytes(32, "big"),
        "worker": WORKERS[stage % 5],
        "pool_id": 1,
        "stage": stage,
        "seq": 0,
        "counterparty": WORKERS[(stage + 1) % 5],
        "epoch": 1,
        "units": units,
        "commitment": bytes(32),
    }
    receipt = Receipt.model_validate(fields | changes)
    return SignedReceipt(
        receipt,
        receipt.sign(KEYS[stage % 5], DOMAIN),
        receipt.sign(KEYS[(stage + 1) % 5], DOMAIN),
    )


def settled(receipts: Iterable[SignedReceipt], **changes: Any) -> Epoch:
    options: dict[str, Any] = {
        "domain": DOMAIN,
        "pool_id": 1,
        "epoch": 1,
        "price": PRICE,
        "available": 10**30,
        "earned": {},
    }
    owners = changes.pop("owners", OWNERS)
    return build_epoch(receipts, owners, **(options | changes))


def facts(
    earned: Mapping[str, int] | None = None, paid: Mapping[Work, tuple[int, int]] | None = None
) -> AuditFacts:
    return AuditFacts(DOMAIN, CREATOR, OWNERS, earned or {}, paid or {})
