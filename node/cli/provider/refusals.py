"""Why a contract refuses a call, in words that say what to do.

The table maps the contracts' custom errors to a sentence and a hint; an error that is not in it is
shown as the contract named it.
"""

from __future__ import annotations

from collections.abc import Callable

from chain.errors import Reverted
from node.errors import InputError, NodeError
from node.onchain.amounts import decimal, moment, tokens

Sentence = Callable[..., tuple[str, str]]

_FRESH_CONSENT = "make a new one on the node's machine: prime-node wallet consent"

SENTENCES: dict[str, Sentence] = {
    "InsufficientStake": lambda stake, asked: (
        f"{tokens(asked)} were asked back, but only {tokens(stake)} are staked",
        "prime-node stake status",
    ),
    "BelowMinimumStake": lambda remaining, minimum: (
        f"{tokens(remaining)} would remain, and the provider's nodes need {tokens(minimum)}",
        "take less, or remove nodes first: prime-node deregister",
    ),
    "StakeBelowMinimum": lambda stake, minimum: (
        f"the stake is {tokens(stake)}, and {tokens(minimum)} are needed",
        f"prime-node stake add {decimal(max(0, minimum - stake))}",
    ),
    "NothingUnbonding": lambda: (
        "nothing is unbonding",
        "ask for stake back first: prime-node stake unstake AMOUNT",
    ),
    "StillUnbonding": lambda until: (
        f"too early: the stake is free at {moment(until)}",
        "run this again then",
    ),
    "SignatureExpired": lambda deadline: (
        f"the consent was valid until {moment(deadline)}",
        _FRESH_CONSENT,
    ),
    "InvalidSignature": lambda expected: (
        f"this consent of {expected} is no longer valid: it was used, or a later one was",
        _FRESH_CONSENT,
    ),
    "NodeOwnedBy": lambda node, owner: (
        f"node {node} belongs to provider {owner} for good",
        "a node key never changes hands; make a new one",
    ),
    "NodeAlreadyRegistered": lambda node, provider: (
        f"node {node} is registered under provider {provider}",
        "",
    ),
    "NodeInPool": lambda node, pool: (
        f"node {node} is in pool {pool}",
        "prime-node deregister takes it out first",
    ),
    "ProviderBlacklisted": lambda provider: (
        f"provider {provider} is barred from registering nodes and joining pools",
        "what it has earned can still be claimed; ask the network's federators",
    ),
    "NotProviderOrNode": lambda caller: (
        f"{caller} is neither this node nor its provider",
        "use the data folder that holds one of their keys",
    ),
    "RootNotFinal": lambda claimable_at, disputes: (
        "this root can still be disputed"
        + (f" and {disputes} dispute(s) are open" if disputes else ""),
        f"claim after {moment(claimable_at)}",
    ),
}


def explain(exc: Reverted) -> NodeError:
    """The error to show for a refused call."""
    sentence = SENTENCES.get(exc.name)
    if sentence is not None:
        try:
            return InputError(*sentence(*exc.args_))
        except (TypeError, ValueError):
            pass  # another contract's error of the same name, with other arguments
    return NodeError(str(exc))
