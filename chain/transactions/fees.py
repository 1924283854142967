"""What to offer for a transaction, and how to read a pool's refusal.

Pure. The first offer is twice the base fee plus the tip, which outlasts six full blocks of rising
base fee. A replacement must raise both fees by at least an eighth or pools refuse it (geth's price
bump is 10 %, anvil's and others' 12.5 %). Neither passes the operator's cap.
"""

from __future__ import annotations

from dataclasses import dataclass

from chain.transactions.machine import Refusal
from chain.transactions.signing import Fees

GWEI = 10**9


@dataclass(frozen=True)
class FeePolicy:
    """Limits in wei for each unit of gas."""

    max_fee_cap: int = 500 * GWEI
    min_tip: int = GWEI // 10


def first_offer(base_fee: int, tip: int, policy: FeePolicy) -> Fees:
    """Fees of a first attempt, given the head's base fee and the endpoint's suggested tip."""
    max_fee = min(2 * base_fee + max(tip, policy.min_tip), policy.max_fee_cap)
    return Fees(max_fee, min(max(tip, policy.min_tip), max_fee))


def raised_offer(last: Fees, base_fee: int, tip: int, policy: FeePolicy) -> Fees | None:
    """Fees of the next attempt; None when an eighth more would pass the cap."""
    fresh = first_offer(base_fee, tip, policy)
    fees = Fees(
        max(_eighth_more(last.max_fee), fresh.max_fee), max(_eighth_more(last.tip), fresh.tip)
    )
    return None if fees.max_fee > policy.max_fee_cap else fees


def _eighth_more(fee: int) -> int:
    return -(-fee * 9 // 8)


# Refusals as clients word them, in lower case without spaces and underscores: geth, reth, anvil,
# Nethermind (which names its codes), Besu, Erigon, and the embedded chain.
_KNOWN = ("alreadyknown", "alreadyimported", "knowntransaction", "existingtxwithsamehash")
_NONCE_TOO_LOW = ("noncetoolow", "nonceistoolow", "oldnonce")
_UNDERPRICED = (
    "underpriced",
    "basefee",
    "feetoolow",
    "maxfeepergas",
    "gaspricetoolow",
    "replacementnotallowed",
    "couldnotreplaceexisting",
    "belowconfiguredminimumgasprice",
)
_NO_FUNDS = ("insufficientfunds", "insufficientbalance", "exceedsaccountbalance", "overshot")
_BUSY = (
    "poolisfull",
    "txpooloverflow",
    "accountlimitexceeded",
    "alreadyreserved",
    "in-flighttransactionlimit",
    "noncetoohigh",
    "noncegap",
    "gapped",
    "noncetoofarinfuture",
    "noncetoodistant",
    "toomanyrequests",
    "ratelimit",
    "requestlimit",
)
_MEANINGS = (
    (_NONCE_TOO_LOW, Refusal.NONCE_TOO_LOW),
    (_UNDERPRICED, Refusal.UNDERPRICED),
    (_NO_FUNDS, Refusal.NO_FUNDS),
    (_BUSY, Refusal.BUSY),
)
_RATE_LIMITED = -32005


def read_refusal(message: str, code: int = 0) -> Refusal | None:
    """What an error of `eth_sendRawTransaction` means; None: the pool already has these bytes.

    Clients agree on no codes (save the rate limit of EIP-1474), only roughly on words. Words that
    are not known mean OTHER.
    """
    text = "".join(message.lower().replace("_", " ").split())
    if any(words in text for words in _KNOWN):
        return None
    for meaning, refusal in _MEANINGS:
        if any(words in text for words in meaning):
            return refusal
    return Refusal.BUSY if code == _RATE_LIMITED else Refusal.OTHER
