"""Where the contracts of one deployment are.

A `Deployment` is what every node is handed in its network file: chain id, one address per contract,
the default domain, and the first block that can hold events. Pure.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from chain.encoding.artifacts import CONTRACTS
from chain.encoding.hexdata import parse_address
from chain.errors import InvalidDeployment
from proofs.encoding.eip712 import Domain


@dataclass(frozen=True)
class Deployment:
    """Where the contracts are.

    `addresses` are EIP-55 addresses by contract name, `default_domain` is the id of the domain that
    was made at deployment, and `block` the number of the block with the first contract.
    """

    chain_id: int
    addresses: dict[str, str]
    default_domain: int
    block: int

    def address(self, contract: str) -> str:
        """EIP-55 address of one of `artifacts.CONTRACTS`."""
        return self.addresses[contract]

    def domain(self, contract: str) -> Domain:
        """The EIP-712 domain of a contract: ReceiptSettlement's for receipts and epoch roots."""
        return Domain(self.chain_id, self.address(contract))

    def to_dict(self) -> dict[str, Any]:
        """As it goes into a network file."""
        return asdict(self)

    @staticmethod
    def from_dict(value: object) -> Deployment:
        """Read what `to_dict` wrote; raises InvalidDeployment that names the bad field."""
        if not isinstance(value, dict):
            raise InvalidDeployment("a deployment is a table of chain_id, addresses, …")
        numbers = {}
        for field in ("chain_id", "default_domain", "block"):
            number = value.get(field)
            if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**63:
                raise InvalidDeployment(f"deployment: {field} must be a whole number")
            numbers[field] = number
        addresses = value.get("addresses")
        if not isinstance(addresses, dict) or set(addresses) != set(CONTRACTS):
            raise InvalidDeployment(f"deployment: addresses must name {', '.join(CONTRACTS)}")
        try:
            checked = {name: parse_address(addresses[name]) for name in CONTRACTS}
        except ValueError as exc:
            raise InvalidDeployment(f"deployment: {exc}") from exc
        return Deployment(addresses=checked, **numbers)
