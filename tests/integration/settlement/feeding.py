"""The one request that stands in for bundles and their replay: verdicts, as a validator took them.

The driver of a scenario sends accepted units to every validator until each has acknowledged them;
the validator journals them as it would its own verdicts.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import FailFast, Field

from node.wire.messages.fields import Body, Done, Signature
from node.wire.methods import Method
from proofs.encoding.fields import Id32
from proofs.encoding.leaves import SignedReceipt
from proofs.encoding.receipts import Receipt


class FedReceipt(Body):
    """`receipt` is the ABI bytes of `proofs.encoding.receipts.Receipt`."""

    receipt: Annotated[bytes, Field(max_length=4096)]
    worker_signature: Signature
    counter_signature: Signature


class FedUnit(Body):
    unit_id: Id32
    receipts: Annotated[tuple[FedReceipt, ...], FailFast(), Field(max_length=256)]


class FeedRequest(Body):
    units: Annotated[tuple[FedUnit, ...], FailFast(), Field(max_length=1024)]


FEED = Method("test-feed", FeedRequest, Done, timeout=30.0, max_request=8 * 2**20)


def fed(unit_id: bytes, receipts: tuple[SignedReceipt, ...]) -> FedUnit:
    """A unit as it travels."""
    return FedUnit(
        unit_id=unit_id,
        receipts=tuple(
            FedReceipt(
                receipt=item.receipt.to_bytes(),
                worker_signature=item.worker_signature,
                counter_signature=item.counter_signature,
            )
            for item in receipts
        ),
    )


def receipts_of(unit: FedUnit) -> tuple[SignedReceipt, ...]:
    """The reverse of `fed`."""
    return tuple(
        SignedReceipt(
            Receipt.from_bytes(item.receipt), item.worker_signature, item.counter_signature
        )
        for item in unit.receipts
    )
