"""What roles share about the chain in use: the EIP-712 domain, and answers to its failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chain.errors import ChainError
from p2p.errors import Refused
from proofs.encoding.eip712 import Domain

if TYPE_CHECKING:
    from chain.client import ChainClient

NO_CHAIN = Domain(chain_id=0, verifying_contract="0x" + "0" * 40)
"""Without a chain receipts are still signed, so that verdicts bind to them; nothing pays them."""


def receipt_domain(chain: ChainClient | None) -> Domain:
    """The domain of the chain's settlement contract; of no contract where there is no chain."""
    return NO_CHAIN if chain is None else chain.domain("ReceiptSettlement")


@contextmanager
def chain_refusals() -> Iterator[None]:
    """Turn the chain's errors into refusals of the request that needed it: ask again later."""
    try:
        yield
    except ChainError as exc:
        raise Refused("chain", str(exc)) from exc
