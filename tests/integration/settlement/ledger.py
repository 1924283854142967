"""Work of a scenario, and what it is worth by a ledger that knows nothing of epochs and trees."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from proofs.encoding.eip712 import Domain
from proofs.encoding.leaves import SignedReceipt
from proofs.encoding.receipts import Receipt
from proofs.encoding.signing import sign_digest

LAYERS = (9, 6, 8, 7, 5, 3)
"""Layers of the stages: unequal, as a planner would have them."""


@dataclass(frozen=True)
class Worker:
    """A node and the account that owns it."""

    key: bytes
    node: str
    account: str


@dataclass(frozen=True)
class Unit:
    """A work unit that validators accepted."""

    unit_id: bytes
    receipts: tuple[SignedReceipt, ...]


@dataclass
class Ledger:
    """What every account must be paid, wei: units times rate over all receipts, nothing else."""

    rate: int
    due: Counter[str] = field(default_factory=Counter)
    work: set[tuple[bytes, int]] = field(default_factory=set)

    def enter(self, unit: Unit, accounts: dict[str, str]) -> None:
        for item in unit.receipts:
            self.due[accounts[item.receipt.worker]] += item.receipt.units * self.rate
            self.work.add((item.receipt.job_id, item.receipt.stage))

    @property
    def total(self) -> int:
        return sum(self.due.values())


def make_units(
    random_: random.Random,
    workers: Sequence[Worker],
    pool_id: int,
    domain: Domain,
    *,
    units: int,
    stages: int,
) -> list[Unit]:
    """Units whose stages are different workers; every receipt has both signatures."""
    made = []
    for _ in range(units):
        group = random_.sample(list(workers), stages)
        job, tokens = random_.randbytes(32), random_.randint(16, 256)
        receipts = []
        for stage, worker in enumerate(group):
            other = group[(stage + 1) % stages]
            receipt = Receipt(
                job_id=job,
                worker=worker.node,
                pool_id=pool_id,
                stage=stage,
                seq=0,
                counterparty=other.node,
                epoch=1,
                units=LAYERS[stage] * tokens,
                commitment=random_.randbytes(32),
            )
            digest = receipt.digest(domain)
            signatures = sign_digest(worker.key, digest), sign_digest(other.key, digest)
            receipts.append(SignedReceipt(receipt, *signatures))
        made.append(Unit(job, tuple(receipts)))
    return made
