"""The EIP-712 domain of receipts and roots on the chain in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proofs.eip712 import Domain

if TYPE_CHECKING:
    from chain.client import ChainClient

NO_CHAIN = Domain(chain_id=0, verifying_contract="0x" + "0" * 40)
"""Without a chain receipts are still signed, so that verdicts bind to them; nothing pays them."""


def receipt_domain(chain: ChainClient | None) -> Domain:
    return NO_CHAIN if chain is None else chain.domain("ReceiptSettlement")
