"""Which contract may call what on which: the roles in PrimeAccess, as tables.

Pure. `deploy` makes them in one transaction, `chain.deployment.verification` compares a deployment
with them. Restricted functions that are not listed (`setAuthority`, `setQuorum`) stay with the
administrator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chain.encoding.artifacts import load_artifact

FEDERATOR: Final = 1
NETWORK: Final = 2
POOLS: Final = 3
SLASHER: Final = 4

LABELS: Final = {
    FEDERATOR: "FEDERATOR",
    NETWORK: "NETWORK",
    POOLS: "POOLS",
    SLASHER: "SLASHER",
}
"""Named as the constants in PrimeAccess are."""

HOLDERS: Final = {NETWORK: "PrimeNetwork", POOLS: "ComputePool", SLASHER: "ReceiptSettlement"}
"""The contract that has a role. Federators are accounts, the deployer at first."""

FUNCTIONS: Final[tuple[tuple[str, int, tuple[str, ...]], ...]] = (
    ("StakeManager", NETWORK, ("stake", "setValidating")),
    ("StakeManager", SLASHER, ("slash",)),
    (
        "ComputeRegistry",
        NETWORK,
        ("addProvider", "addNode", "removeNode", "setValidated", "setBlacklisted"),
    ),
    ("ComputeRegistry", POOLS, ("enterPool", "exitPool")),
    ("DomainRegistry", NETWORK, ("create",)),
    ("PrimeNetwork", FEDERATOR, ("grantValidator", "revokeValidator", "setBlacklisted")),
    ("RewardsDistributor", POOLS, ("open", "deposit", "payTime", "release")),
    ("ReceiptSettlement", FEDERATOR, ("cancelRoot",)),
)
"""Contract, role, and the restricted functions that the role may call."""

MANAGED: Final = tuple(dict.fromkeys(contract for contract, _, _ in FUNCTIONS))
"""The contracts that ask PrimeAccess."""

LINKS: Final = (
    ("StakeManager", "token", "PrimeToken"),
    ("StakeManager", "computeRegistry", "ComputeRegistry"),
    ("PrimeNetwork", "token", "PrimeToken"),
    ("PrimeNetwork", "stakeManager", "StakeManager"),
    ("PrimeNetwork", "computeRegistry", "ComputeRegistry"),
    ("PrimeNetwork", "domainRegistry", "DomainRegistry"),
    ("RewardsDistributor", "token", "PrimeToken"),
    ("ComputePool", "token", "PrimeToken"),
    ("ComputePool", "stakeManager", "StakeManager"),
    ("ComputePool", "computeRegistry", "ComputeRegistry"),
    ("ComputePool", "domainRegistry", "DomainRegistry"),
    ("ComputePool", "distributor", "RewardsDistributor"),
    ("ReceiptSettlement", "token", "PrimeToken"),
    ("ReceiptSettlement", "network", "PrimeNetwork"),
    ("ReceiptSettlement", "pools", "ComputePool"),
    ("ReceiptSettlement", "distributor", "RewardsDistributor"),
    ("ReceiptSettlement", "stakeManager", "StakeManager"),
    ("ReceiptSettlement", "computeRegistry", "ComputeRegistry"),
    *((contract, "authority", "PrimeAccess") for contract in MANAGED),
)
"""Contract, getter, and the contract whose address it must return."""


def selectors(contract: str, functions: tuple[str, ...]) -> list[bytes]:
    """The 4-byte selectors of a contract's functions."""
    abi = load_artifact(contract).abi
    return [abi.selector(function) for function in functions]


def wiring_calls(addresses: Mapping[str, str], federator: str) -> list[bytes]:
    """Calldata for one `PrimeAccess.multicall` that grants all of it."""
    abi = load_artifact("PrimeAccess").abi
    calls = [abi.encode("labelRole", role, label) for role, label in LABELS.items()]
    for contract, role, functions in FUNCTIONS:
        target, wanted = addresses[contract], selectors(contract, functions)
        calls.append(abi.encode("setTargetFunctionRole", target, wanted, role))
    holders = {role: addresses[contract] for role, contract in HOLDERS.items()}
    for role, holder in {**holders, FEDERATOR: federator}.items():
        calls.append(abi.encode("grantRole", role, holder, 0))
    return calls
