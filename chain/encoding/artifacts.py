"""The compiled contracts that ship with the project.

One JSON file per contract in `contracts/artifacts`: its name, ABI, creation code, and the code that
ends up on chain, with the places in it that the constructor fills in. They are read as package data
and kept, since they never change while the process runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from eth_typing import ABIError

from chain.encoding.codec import Abi, merge_errors
from chain.encoding.hexdata import parse_data
from chain.errors import InvalidDeployment

CONTRACTS: Final = (
    "PrimeToken",
    "PrimeAccess",
    "StakeManager",
    "DomainRegistry",
    "ComputeRegistry",
    "PrimeNetwork",
    "ComputePool",
    "RewardsDistributor",
    "ReceiptSettlement",
)


@dataclass(frozen=True)
class Artifact:
    """A contract ready to deploy.

    `runtime` is what the chain holds of it, `immutables` the (start, length) of the bytes in it
    that the constructor sets.
    """

    abi: Abi
    bytecode: bytes
    runtime: bytes
    immutables: tuple[tuple[int, int], ...]

    def matches(self, code: bytes) -> bool:
        """Whether `code`, as the chain holds it, is this contract."""
        return len(code) == len(self.runtime) and self._masked(code) == self._masked(self.runtime)

    def _masked(self, code: bytes) -> bytes:
        masked = bytearray(code)
        for start, length in self.immutables:
            masked[start : start + length] = bytes(length)
        return bytes(masked)


@cache
def load_artifact(name: str) -> Artifact:
    """Read one of `CONTRACTS`; raises InvalidDeployment when it is missing or broken."""
    source = files("contracts.artifacts") / f"{name}.json"
    try:
        content = json.loads(source.read_text())
        return Artifact(
            Abi(name, content["abi"]),
            parse_data(content["bytecode"]),
            parse_data(content["deployedBytecode"]),
            tuple((int(start), int(length)) for start, length in content["immutables"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise InvalidDeployment(
            f"contract artifact {name} is missing or broken ({exc}); "
            "rebuild with scripts/build_contracts.py"
        ) from exc


@cache
def error_table() -> dict[bytes, ABIError]:
    """The custom errors of all contracts, by selector."""
    return merge_errors(load_artifact(name).abi for name in CONTRACTS)
